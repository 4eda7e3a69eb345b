"""Where models are found: in a folder, among those that came with the package, or on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

# Of a repository on the hub: weights lie in the folders of parts; beside them may be whole copies in other forms.
WANTED = ["*.json", "*/*.safetensors", "*.md", "*.txt", "*.model"]
UNWANTED = ["*.fp16*", "*.bf16*", "*.non_ema*"]
WEIGHTS = (Path(__file__).parents[1] / "weights", Path(__file__).parents[3] / "weights")  # in the wheel, in a checkout


def shipped() -> list[str]:
    """The names of the models that came with the package."""
    return sorted({index.parent.name for weights in WEIGHTS for index in weights.glob("*/model_index.json")})


def locate(name: str | Path) -> Path:
    """The folder of a checkpoint: a path, a shipped model, or a download from the hub.

    Raises:
        ValueError: nothing of that name; names the shipped models.
    """
    if name and Path(name).is_dir():  # an empty name is no name for the present folder
        return Path(name)
    for weights in WEIGHTS:
        if (weights / str(name) / "model_index.json").exists():
            return weights / str(name)
    problem = (
        f"no model at {str(name)!r}: it is not a folder, nor a shipped model ({', '.join(shipped()) or 'there are none here'})"
    )
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(problem)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except Exception as error:  # the hub's client raises a dozen kinds, offline and online
        raise ValueError(f"{problem}, and the hub did not give it ({type(error).__name__})") from error
