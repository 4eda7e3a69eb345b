"""Checkpoints are exact, strict, whole or not at all, and never a pickle."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from noisereel import checkpoint


class Net(nn.Module):
    """Tied weights, a buffer, integers, channels-last memory and a state that is not a tensor."""

    def __init__(self, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config = {"width": width, "multipliers": (1, 2)}
        self.conv = nn.Conv2d(3, width, 3)
        self.one = nn.Linear(width, width)
        self.two = nn.Linear(width, width)
        self.two.weight = self.one.weight
        self.register_buffer("counted", torch.randint(9, (3,), generator=generator))
        self.words = ["red", "circle", "größer"] if seed else []
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)

    def get_extra_state(self) -> dict[str, list[str]]:
        return {"words": self.words}

    def set_extra_state(self, state: dict[str, list[str]]) -> None:
        self.words = state["words"]


@dataclass
class Config:
    scale: float = 2.0


def plain(seed: int = 0) -> nn.Linear:
    net = nn.Linear(2, 2)
    net.config = Config()
    nn.init.normal_(net.weight, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(net.bias)
    return net


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(one[k].dtype == two[k].dtype and torch.equal(one[k], two[k]) for k in one)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", {"unet": Net(seed=1), "vae": plain(1)}, {"recipe": "vdm", "arguments": {"seed": 3}})
    return tmp_path / "model"


def test_a_model_comes_back_bit_for_bit(saved: Path) -> None:
    parts = {"unet": Net(seed=2), "vae": plain(2)}
    checkpoint.load(saved, parts)
    assert equal(tensors(parts["unet"]), tensors(Net(seed=1)))
    assert equal(tensors(parts["vae"]), tensors(plain(1)))
    assert parts["unet"].words == ["red", "circle", "größer"]
    assert parts["unet"].two.weight is parts["unet"].one.weight
    assert parts["unet"].conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_folder_is_shaped_like_diffusers(saved: Path) -> None:
    found = sorted(str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file())
    assert found == [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/extra_state.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    index = checkpoint.read_index(saved)
    assert index["_class_name"] == "TextToVideo"
    assert index["recipe"] == "vdm"
    assert index["arguments"] == {"seed": 3}
    assert index["vae"] == ["torch.nn.modules.linear", "Linear"]
    assert json.loads((saved / "unet/config.json").read_text()) == {"_class_name": "Net", "width": 4, "multipliers": [1, 2]}
    assert json.loads((saved / "vae/config.json").read_text()) == {"_class_name": "Linear", "scale": 2.0}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_ship_in_the_dtype_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    net = Net(seed=1)
    checkpoint.save(tmp_path / "model", {"unet": net}, {}, dtype=dtype)
    stored = load_file(tmp_path / "model/unet" / checkpoint.WEIGHTS)
    assert stored["conv.weight"].dtype == dtype
    assert stored["counted"].dtype == torch.int64
    loaded = Net(seed=2)
    checkpoint.load(tmp_path / "model", {"unet": loaded})
    assert loaded.conv.weight.dtype == torch.float32
    assert torch.equal(loaded.conv.weight, net.conv.weight.to(dtype).float())


def test_weights_can_be_read_by_whoever_can_read_the_rest(saved: Path) -> None:
    modes = {path.stat().st_mode for path in saved.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    net = plain()
    nn.init.constant_(net.bias, 70_000.0)
    with pytest.raises(ValueError, match=r"vae as torch.float16 .* bias"):
        checkpoint.save(tmp_path / "model", {"vae": net}, {}, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def weights(folder: Path) -> Path:
    return folder / "vae" / checkpoint.WEIGHTS


def edit(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = {name: tensor.clone() for name, tensor in load_file(weights(folder)).items()}
        change(values)
        save_file(values, weights(folder))

    return damage


def pickled(folder: Path) -> None:
    weights(folder).unlink()
    (folder / "vae/diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: folder.rename(folder.with_name("elsewhere")), "there is no checkpoint folder"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json is missing"),
    "half an index": (lambda folder: (folder / "model_index.json").write_text('{"recipe": '), "is not whole JSON"),
    "no part": (lambda folder: (folder / "vae").rename(folder / "decoder"), "no part 'vae', it has decoder, unet"),
    "no weights": (lambda folder: weights(folder).unlink(), "safetensors is missing"),
    "truncated": (lambda folder: os.truncate(weights(folder), weights(folder).stat().st_size - 1), "not a whole safetensors"),
    "empty": (lambda folder: os.truncate(weights(folder), 0), "not a whole safetensors"),
    "pickle under the name": (lambda folder: weights(folder).write_bytes(pickle.dumps({})), "not a whole safetensors"),
    "pickle": (pickled, "model.bin is a pickle"),
    "missing key": (edit(lambda values: values.pop("bias")), "lacks bias"),
    "unexpected key": (edit(lambda values: values.update(extra=torch.zeros(1))), "holds an unexpected extra"),
    "shape": (edit(lambda values: values.update(bias=torch.zeros(3))), r"bias of shape \[3\], not \[2\]"),
    "NaN": (edit(lambda values: values.update(bias=torch.tensor([0.0, float("nan")]))), "not finite in bias"),
    "an empty extra state": (lambda folder: (folder / "unet/extra_state.json").write_text("{}"), "should hold _extra_state"),
    "no extra state": (lambda folder: (folder / "unet/extra_state.json").unlink(), "extra_state.json is missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_clear_line_and_changes_nothing(saved: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(saved)
    parts = {"unet": Net(seed=2), "vae": plain(2)}
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.load(saved, parts)
    assert "\n" not in str(caught.value)
    assert equal(tensors(parts["unet"]), tensors(Net(seed=2)))
    assert equal(tensors(parts["vae"]), tensors(plain(2)))


def test_a_folder_of_pickles_is_refused_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, lambda *given, **named: pytest.fail("a pickle was opened"))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="is a pickle, which can run code and is never opened: convert it to safetensors"):
        checkpoint.load(tmp_path, {"unet": Net()})


def test_other_files_survive_and_other_folders_are_refused(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    (saved / "samples").mkdir()
    (saved / "samples/a.txt").write_text("mine too")
    checkpoint.save(saved, {"vae": plain(3)}, {}, card="# A model\n")
    assert not (saved / "unet").exists()
    assert (saved / "notes.txt").read_text() == "mine"
    assert (saved / "samples/a.txt").read_text() == "mine too"
    assert (saved / "README.md").read_text() == "# A model\n"
    with pytest.raises(ValueError, match=r"holds other files and no model_index.json"):
        checkpoint.save(saved / "samples", {"vae": plain(3)}, {})
    with pytest.raises(ValueError, match="is a file"):
        checkpoint.save(saved / "notes.txt", {"vae": plain(3)}, {})


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(path: Path, values: dict[str, Tensor]) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write_tensors(path, values)

    write_tensors = checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(saved, {"unet": Net(seed=5), "vae": plain(5)}, {"recipe": "other"})
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    parts = {"unet": Net(seed=2), "vae": plain(2)}
    checkpoint.load(saved, parts)
    assert checkpoint.read_index(saved)["recipe"] == "vdm"
    assert equal(tensors(parts["vae"]), tensors(plain(1)))


def save_and_crash(folder: Path, moment: int) -> int:
    """Save in a child process that dies, without any clean-up, at its ``moment``-th touch of the file system."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, given: tuple[object, ...]) -> None:
            nonlocal seen
            if event == "open" or event.startswith(("os.", "shutil.")):
                seen += 1
                if seen == moment:
                    os._exit(9)

        sys.addaudithook(hook)
        checkpoint.save(folder, {"vae": plain(5)}, {"recipe": "new"})
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    folder, outcomes = tmp_path / "model", []
    for moment in range(1, 1000):
        checkpoint.save(folder, {"vae": plain(1)}, {"recipe": "old"})
        code = save_and_crash(folder, moment)
        recipe, net = checkpoint.read_index(folder)["recipe"], plain(2)
        checkpoint.load(folder, {"vae": net})
        assert equal(tensors(net), tensors(plain({"old": 1, "new": 5}[recipe])))
        outcomes.append(recipe)
        if code == 0:
            break
    assert outcomes == sorted(outcomes, reverse=True)  # old until one moment, new from then on
    assert set(outcomes) == {"old", "new"}
    checkpoint.save(folder, {"vae": plain(1)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_training_state_is_exact(tmp_path: Path) -> None:
    values = {"step": 3, "history": [{"clips": 1e-3}]}
    state = {
        "scalar": torch.tensor(0.1),
        "half": torch.randn(3, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "none": torch.zeros(0, 4),
    }
    checkpoint.save_state(tmp_path / "state", state, values)
    found, read = checkpoint.load_state(tmp_path / "state")
    assert equal(found, state)
    assert read == values
    os.truncate(tmp_path / "state/state.safetensors", 20)
    with pytest.raises(ValueError, match="not a whole safetensors"):
        checkpoint.load_state(tmp_path / "state")
