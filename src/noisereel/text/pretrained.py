"""Other people's text encoders, frozen: T5, UMT5, CLIP and BERT, each read as the system that made it known reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import einsum
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn

from noisereel.text.ruler import Ruler, tidied
from noisereel.text.vocabulary import warn_if_too_long
from noisereel.types import Text

Padding = Literal["absent", "zeros", "encoded"]
Null = Literal["zeros", "empty"]
Pool = Literal["mean", "end"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a system reads its text encoder.

    ``padding``: ``absent``, a batch is as long as its longest prompt, padding is masked everywhere; ``zeros``, always
    ``max_length`` tokens, padding is masked in the encoder and comes out as zeros that the video network attends to;
    ``encoded``, always ``max_length`` tokens, padding is encoded like any word. ``null``: what no caption is, nothing
    at all or the empty prompt. ``pool``: the mean of a prompt's tokens, or its last token. ``tidy``: marks of HTML become
    what they stand for, and white space is one blank.
    """

    model: str  # class in transformers
    max_length: int
    padding: Padding
    null: Null
    pool: Pool
    tidy: bool = False


CONVENTIONS = {
    "t5": Convention(model="T5EncoderModel", max_length=226, padding="encoded", null="empty", pool="mean"),  # CogVideoX
    "umt5": Convention(model="UMT5EncoderModel", max_length=512, padding="zeros", null="empty", pool="mean", tidy=True),  # Wan
    "clip": Convention(model="CLIPTextModel", max_length=77, padding="encoded", null="empty", pool="end"),  # SD
    # VDM pools BERT by learned attention; a frozen encoder has nothing to learn with, so here it is the mean.
    "bert": Convention(model="BertModel", max_length=512, padding="absent", null="zeros", pool="mean"),
}
MODEL_TYPES = {"t5": "t5", "umt5": "umt5", "clip": "clip", "clip_text_model": "clip", "bert": "bert"}


class PretrainedText(nn.Module):
    """A frozen text encoder by folder or hub name; its parameters never require gradients, nor does it ever train.

    Its state is empty, so that no checkpoint holds a copy of billions of weights that nobody changed: what is opened again
    from ``config`` is the same.
    ``name_or_path`` holds a transformers model with its tokenizer, or a diffusers pipeline whose ``text_encoder`` and
    ``tokenizer`` folders do. The convention is that of the model's kind; what is given replaces parts of it.
    Raises ValueError where there is no such model, no such kind, or weights that are not safetensors.
    """

    def __init__(
        self,
        name_or_path: str,
        max_length: int | None = None,
        padding: Padding | None = None,
        null: Null | None = None,
        pool: Pool | None = None,
    ) -> None:
        super().__init__()
        given = {"max_length": max_length, "padding": padding, "null": null, "pool": pool}
        self.config = {"name_or_path": name_or_path, **given}
        config, folders = _find(name_or_path)
        self.kind = _kind(name_or_path, config.model_type)
        convention = CONVENTIONS[self.kind]
        self.max_length = _max_length(max_length or convention.max_length, config, fixed=max_length is not None)
        self.padding: Padding = padding or convention.padding
        self.null: Null = null or convention.null
        self.pool: Pool = pool or convention.pool
        self.tidy = convention.tidy
        self.tokenizer, model = _load(name_or_path, folders, convention.model)
        self.model = model.requires_grad_(False).eval()
        self.dim = self.pooled_dim = model.config.hidden_size
        self.register_state_dict_post_hook(keep_none)
        self.register_load_state_dict_pre_hook(keep_own)

    @torch.no_grad()
    def forward(self, prompts: Sequence[str | None]) -> Text:
        assert not isinstance(prompts, str), "prompts are a list, even when there is one"
        ids, mask = self._tokenise([self._read(prompt) for prompt in prompts])
        tokens = self.model(input_ids=ids, attention_mask=None if self.padding == "encoded" else mask.long()).last_hidden_state
        if self.padding != "encoded":
            tokens = tokens.masked_fill(~mask[..., None], 0)
        pooled = _mean(tokens, mask) if self.pool == "mean" else _end(tokens, mask)
        attended = mask if self.padding == "absent" else torch.ones_like(mask)
        text = Text(tokens=tokens, mask=attended, pooled=pooled)
        return text if self.null == "empty" else text.without([prompt is None for prompt in prompts])

    def train(self, mode: bool = True) -> PretrainedText:
        """Stays in evaluation mode: a frozen encoder that drops units out would blur its own embeddings."""
        return super().train(False)

    def length(self, prompt: str) -> int:
        """How many tokens a prompt has, the tokenizer's own marks included; beyond ``max_length`` it is not read."""
        return len(self.tokenizer(self._read(prompt), verbose=False).input_ids)

    @property
    def ruler(self) -> Ruler | None:
        """What tells ``length`` without this module; None where the tokenizer is written in Python."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            return None
        whole = Tokenizer.from_str(fast.to_str())  # transformers leaves the last call's cutting and padding in its own
        whole.no_truncation()
        whole.no_padding()
        return Ruler(whole, self.max_length, marks=True, tidy=self.tidy)

    def _read(self, prompt: str | None) -> str:
        return tidied(prompt or "") if self.tidy else prompt or ""

    def _tokenise(self, prompts: list[str]) -> tuple[Tensor, Bool[Tensor, "n l"]]:
        for prompt in prompts:
            warn_if_too_long(self.length(prompt), self.max_length)
        batch = self.tokenizer(
            prompts,
            padding="longest" if self.padding == "absent" else "max_length",
            max_length=self.max_length,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        device = self.model.device
        return batch.input_ids.to(device), batch.attention_mask.bool().to(device)


def keep_none(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Leave the weights of ``module.model`` out of its state."""
    assert isinstance(module.model, nn.Module)
    for name in module.model.state_dict():
        del state[f"{prefix}model.{name}"]


def keep_own(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put them back, before such a state is loaded."""
    assert isinstance(module.model, nn.Module)
    state.update({f"{prefix}model.{name}": value for name, value in module.model.state_dict().items()})


def _find(name: str) -> tuple[Any, tuple[str, str]]:
    """The model's configuration, and the folders of its weights and of its tokenizer."""
    transformers = _transformers()
    reason = ""
    for folders in (("", ""), ("text_encoder", "tokenizer")):
        try:
            return transformers.AutoConfig.from_pretrained(name, subfolder=folders[0]), folders
        except (OSError, ValueError) as error:
            reason = reason or _first_line(error)
    raise ValueError(
        f"no text encoder at {name!r}: give a folder or a hub name with config.json, *.safetensors and a tokenizer ({reason})"
    )


def _load(name: str, folders: tuple[str, str], model_class: str) -> tuple[Any, Any]:
    """The tokenizer and the model, whole."""
    try:
        tokenizer = _transformers().AutoTokenizer.from_pretrained(name, subfolder=folders[1], padding_side="right")
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"the text encoder at {name!r} cannot be opened: {_first_line(error)}") from error
    model = opened(name, model_class, folders[0])
    # Where there is no tokenizer, transformers makes one of a single token.
    if len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)) < 2:
        raise ValueError(f"the text encoder at {name!r} has no tokenizer: give one with tokenizer.json or its like")
    return tokenizer, model


def opened(name: str, model_class: str, folder: str = "") -> Any:
    """A model of transformers, whole; from safetensors alone, so that nothing is unpickled.

    Raises:
        ValueError: it cannot be opened, or lacks weights.
    """
    transformers = _transformers()
    try:
        with quiet(transformers):
            model, report = getattr(transformers, model_class).from_pretrained(
                name, subfolder=folder, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the text encoder at {name!r} cannot be opened: {_first_line(error)}") from error
    # transformers fills what it misses with random weights. BERT's pooler is never read.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(f"the text encoder at {name!r} lacks {len(missing)} of its weights, {missing[0]} among them")
    return model


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError("pretrained text encoders need transformers: pip install 'noisereel[text]'") from error
    return transformers


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """No progress bars in between our own."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _kind(name: str, model_type: str) -> str:
    if model_type not in MODEL_TYPES:
        raise ValueError(f"{name!r} is a {model_type!r} model; text encoders are {', '.join(CONVENTIONS)}")
    return MODEL_TYPES[model_type]


def _max_length(wanted: int, config: Any, fixed: bool) -> int:
    """The wanted length where the model has that many positions; a default gives way, a user's choice does not."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or wanted
    if wanted < 1 or (fixed and wanted > positions):
        raise ValueError(f"this text encoder reads 1 to {positions} tokens, given max_length={wanted}")
    return min(wanted, positions)


def _mean(tokens: Float[Tensor, "n l d"], mask: Bool[Tensor, "n l"]) -> Float[Tensor, "n d"]:
    """The mean of each prompt's own tokens."""
    weights = mask.to(tokens.dtype)
    return einsum(tokens, weights, "n l d, n l -> n d") / weights.sum(dim=1, keepdim=True).clamp(min=1)


def _end(tokens: Float[Tensor, "n l d"], mask: Bool[Tensor, "n l"]) -> Float[Tensor, "n d"]:
    """Each prompt's last token, the end mark."""
    return tokens[torch.arange(len(tokens)), mask.sum(dim=1) - 1]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
