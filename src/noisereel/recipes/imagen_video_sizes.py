"""The seven networks of Imagen Video, size by size, and how each is trained: literal tables."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

Size = Literal["tiny", "small", "base", "paper"]

# What a network makes (frames, height, width, frames a second); how many times more frames, and pixels a side, than it is
# given; how its frames mix, and whether its pixels attend; whether guidance oscillates; sampling steps; the signal-to-noise
# ratio to which what it is given is noised in sampling; the side of the squares of pixels that are folded into channels;
# channels at full size, their multiples from level to level, residual blocks of a level.
COLUMNS = (
    "frames", "height", "width", "fps", "time", "space", "temporal", "spatial", "oscillates", "steps", "snr", "patch",
    "channels", "multipliers", "depth",
)  # fmt: skip

# Published: 11.6 billion parameters, 5.6 + 1.7 + 1.4 + 1.2 + 0.78 + 0.63 + 0.34; widths are not, these come near them.
PAPER = {
    #       frames hgt  wid  fps  time space temporal  spatial oscil.  steps snr patch  channels          here in millions
    "base": (16,   24,   40,  3,  1,  1, "attention", True,  True,  256,  inf, 1,  768, (1, 2, 3, 4), 3),  # 5639
    "tsr1": (32,   24,   40,  6,  2,  1, "conv",      True,  True,  128,  5.0, 1,  384, (1, 2, 3, 4), 3),  # 1630
    "ssr1": (32,   48,   80,  6,  1,  2, "conv",      True,  True,  128,  5.0, 1,  320, (1, 2, 4, 4), 3),  # 1377
    "ssr2": (32,  192,  320,  6,  1,  4, "conv",      True,  False, 128,  5.0, 1,  320, (1, 2, 3, 4), 3),  # 1156
    "tsr2": (64,  192,  320, 12,  2,  1, "conv",      False, False, 128,  5.0, 1,  256, (1, 2, 4, 4), 3),  # 687
    "tsr3": (128, 192,  320, 24,  2,  1, "conv",      False, False, 128,  5.0, 1,  256, (1, 2, 3, 4), 3),  # 577
    "ssr3": (128, 768, 1280, 24,  1,  4, "conv",      False, False, 128,  5.0, 1,  224, (1, 2, 3, 4), 2),  # 337
}  # fmt: skip

BASE = {
    "base": (16,   24,   40,  3,  1,  1, "attention", True,  True,   64,  inf, 1,  192, (1, 2, 2), 2),
    "tsr1": (32,   24,   40,  6,  2,  1, "conv",      True,  True,   32,  5.0, 1,   96, (1, 2, 2), 2),
    "ssr1": (32,   48,   80,  6,  1,  2, "conv",      True,  True,   32,  5.0, 1,   96, (1, 2, 2), 2),
    "ssr2": (32,   96,  160,  6,  1,  2, "conv",      True,  False,  32,  5.0, 1,   64, (1, 2, 3), 2),
    "tsr2": (64,   96,  160, 12,  2,  1, "conv",      False, False,  32,  5.0, 1,   64, (1, 2, 3), 1),
    "tsr3": (128,  96,  160, 24,  2,  1, "conv",      False, False,  32,  5.0, 1,   64, (1, 2, 3), 1),
    "ssr3": (128, 192,  320, 24,  1,  2, "conv",      False, False,  32,  5.0, 1,   48, (1, 2, 3), 1),
}  # fmt: skip

# Up to 32x32 pixels nothing is folded, then squares of 2x2: 12 numbers a position, which networks this wide can carry through,
# so that all predict v as the paper's do. (With 4x4, 48 numbers, v was not learned by a network 96 wide: see NOTES.md.)
SMALL = {
    "base": (4,    16,   16,  4,  1,  1, "attention", True,  True,   32,  inf, 1,   64, (1, 2), 1),
    "tsr1": (8,    16,   16,  8,  2,  1, "conv",      True,  True,   16,  5.0, 1,   32, (1, 2), 1),
    "ssr1": (8,    32,   32,  8,  1,  2, "conv",      True,  True,   16,  5.0, 1,   32, (1, 2), 1),
    "ssr2": (8,    64,   64,  8,  1,  2, "conv",      True,  False,  16,  5.0, 2,   48, (1, 2), 1),
    "tsr2": (16,   64,   64, 16,  2,  1, "conv",      False, False,  16,  5.0, 2,   48, (1, 2), 1),
    "tsr3": (32,   64,   64, 32,  2,  1, "conv",      False, False,  16,  5.0, 2,   32, (1, 2), 1),
    "ssr3": (32,  128,  128, 32,  1,  2, "conv",      False, False,  16,  5.0, 2,   32, (1, 2), 1),
}  # fmt: skip

TINY = {
    "base": (2,     8,    8,  2,  1,  1, "attention", True,  True,    4,  inf, 1,   16, (1, 2), 1),
    "tsr1": (4,     8,    8,  4,  2,  1, "conv",      True,  True,    4,  5.0, 1,   16, (1, 2), 1),
    "ssr1": (4,    16,   16,  4,  1,  2, "conv",      True,  True,    4,  5.0, 1,   16, (1, 2), 1),
    "ssr2": (4,    32,   32,  4,  1,  2, "conv",      True,  False,   4,  5.0, 2,   16, (1, 2), 1),
    "tsr2": (8,    32,   32,  8,  2,  1, "conv",      False, False,   4,  5.0, 2,   16, (1, 2), 1),
    "tsr3": (16,   32,   32, 16,  2,  1, "conv",      False, False,   4,  5.0, 2,   16, (1, 2), 1),
    "ssr3": (16,   64,   64, 16,  1,  2, "conv",      False, False,   4,  5.0, 2,   16, (1, 2), 1),
}  # fmt: skip

# The pieces a network is trained on, in frames and pixels a side, cut at random from its videos where they are smaller; images
# appended to each; clips seen, and at a time. The base first sees so many images alone.
TRAINING_COLUMNS = ("length", "side", "images", "clips", "batch")
TRAINING: dict[Size, dict[str, Any]] = {
    "tiny": dict(
        stills=128, rate=2e-3, text=32, net=dict(norm_groups=8, head_width=8),
        base=(2, 8, 4, 256, 8), tsr1=(4, 8, 1, 64, 8), ssr1=(4, 16, 1, 64, 8), ssr2=(4, 32, 1, 32, 4),
        tsr2=(4, 16, 1, 64, 8), tsr3=(4, 16, 1, 64, 8), ssr3=(4, 16, 1, 64, 8),
    ),
    "small": dict(
        stills=200_000, rate=8e-4, text=128, net=dict(norm_groups=16, head_width=16),
        base=(4, 16, 4, 40_000, 8), tsr1=(8, 16, 0, 8_000, 8), ssr1=(4, 32, 1, 8_000, 8), ssr2=(4, 64, 1, 4_000, 4),
        tsr2=(8, 32, 0, 8_000, 8), tsr3=(8, 32, 0, 8_000, 8), ssr3=(4, 64, 1, 6_000, 8),
    ),
    "base": dict(
        stills=4_000_000, rate=4e-4, text=256, net=dict(norm_groups=16, head_width=32),
        base=(16, 0, 8, 1_000_000, 128), tsr1=(32, 0, 8, 200_000, 64), ssr1=(16, 0, 4, 200_000, 64),
        ssr2=(8, 0, 2, 100_000, 32), tsr2=(16, 64, 4, 200_000, 64), tsr3=(16, 64, 4, 200_000, 64), ssr3=(8, 96, 2, 200_000, 64),
    ),
    "paper": dict(  # the lengths of training are not published
        stills=0, rate=1e-4, text=4096, net=dict(norm_groups=32, head_width=64),
        base=(16, 0, 8, 100_000_000, 1024), tsr1=(32, 0, 8, 30_000_000, 512), ssr1=(32, 0, 8, 30_000_000, 512),
        ssr2=(32, 0, 8, 30_000_000, 256), tsr2=(64, 128, 8, 30_000_000, 256), tsr3=(128, 128, 8, 30_000_000, 256),
        ssr3=(128, 256, 8, 30_000_000, 256),
    ),
}  # fmt: skip

CASCADES: dict[Size, dict[str, tuple[Any, ...]]] = {"tiny": TINY, "small": SMALL, "base": BASE, "paper": PAPER}


def cascade(size: Size) -> dict[str, dict[str, Any]]:
    """The rows of a size by the names of their columns, those of training too; a side of 0 is the whole frame.

    Raises:
        ValueError: there is no such size.
    """
    if size not in CASCADES:
        raise ValueError(f"there is no size {size!r}; the sizes are {', '.join(CASCADES)}")
    columns = (*COLUMNS, *TRAINING_COLUMNS)
    return {name: dict(zip(columns, (*row, *TRAINING[size][name]), strict=True)) for name, row in CASCADES[size].items()}
