"""What can be chosen of the U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SCALARS = {"fps": 10.0, "hint_noise": 1000.0}  # what brings each to the 0..1000 of its sinusoids

CHOICES = {
    "attention_kind": ("plain", "transformer"),
    "temporal_attention": ("none", "relative", "sinusoidal", "rotary", "unordered"),
    "temporal_transformer": ("none", "text", "twice"),
    "temporal_conv": ("none", "series", "residual", "deep"),
    "hint_path": ("input", "temporal"),
}


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The arguments of ``UNet``, which says what they mean."""

    channels: int = 3
    hint_channels: int = 0
    hint_path: str = "input"
    width: int = 64
    multipliers: Sequence[int] = (1, 2, 4, 8)
    depth: int | Sequence[int] = 2
    attention: Sequence[bool] = (False, True, True, True)
    attention_kind: str = "plain"
    head_width: int | Sequence[int] = 64
    temporal_attention: str = "relative"
    temporal_transformer: str = "none"
    temporal_entry: int = 0
    temporal_conv: str = "none"
    clip_norms: bool = False
    reach: int = 0
    blend: bool = False
    text_dim: int = 0
    pooled_dim: int = 0
    pooled_tokens: int = 0
    scalars: Sequence[str] = ()
    embed_width: int = 0
    norm_groups: int = 32
    scale_shift: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if self.temporal_transformer == "text" and not self.text_dim:
            raise ValueError("a temporal transformer that attends to text needs text_dim, the width of the text")
        if self.hint_path == "temporal" and (self.temporal_conv != "residual" or not self.hint_channels):
            given = f"not {self.temporal_conv!r} and {self.hint_channels}"
            raise ValueError(f"hint_path='temporal' needs temporal_conv='residual' and hint_channels, {given}")
        if unknown := set(self.scalars) - set(SCALARS):
            raise ValueError(f"scalars has {', '.join(sorted(unknown))}; known are {', '.join(SCALARS)}")
        if self.pooled_tokens and not (self.text_dim and self.pooled_dim):
            raise ValueError(f"pooled_tokens={self.pooled_tokens} needs pooled_dim and text_dim, the width of a token")
        levels = len(self.multipliers)
        if {len(self.attention), len(self.head_widths), len(self.depths)} != {levels}:
            raise ValueError(f"multipliers has {levels} levels; attention, head_width and depth need as many entries")
        if min(self.depths) < 1:
            raise ValueError(f"depth is {self.depth}; every level has at least 1 block")
        for width, head_width in zip(self.widths, self.head_widths, strict=True):
            if width % self.norm_groups:
                raise ValueError(f"norm_groups={self.norm_groups} does not divide a level's width of {width}")
            if any(self.attention) and width % min(width, head_width):
                raise ValueError(f"head_width={head_width} does not divide a level's width of {width}")

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.width * multiplier for multiplier in self.multipliers]

    @property
    def head_widths(self) -> Sequence[int]:
        """Width of an attention head on each level."""
        return self._on_each(self.head_width)

    @property
    def depths(self) -> Sequence[int]:
        """Blocks of each level going down."""
        return self._on_each(self.depth)

    @property
    def input_channels(self) -> int:
        """What the first convolution sees: the video and, unless the temporal layers are given it, the hint."""
        return self.channels + (self.hint_channels if self.hint_path == "input" else 0)

    @property
    def embed(self) -> int:
        """Width of the conditioning embedding."""
        return self.embed_width or 4 * self.width

    def _on_each(self, value: int | Sequence[int]) -> Sequence[int]:
        return [value] * len(self.multipliers) if isinstance(value, int) else value
