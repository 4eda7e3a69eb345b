"""An LPC Revised checkout as layers to stack: sheets of indices into small palettes, so that recolouring is a lookup."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Bool, UInt8, UInt16
from PIL import Image

SOURCE = "clone github.com/ElizaWy/LPC at f07f7f58"
DIRECTIONS = ("up", "left", "down", "right")  # the rows of a sheet
TILE = 32
# What the sheets are drawn in; the name of a ramp in Ramps.json.
DRAWN_IN = {"Skin": "Ivory", "Hair": "Blonde", "Clothing": "Dove", "Metal": "Steel"}

_CELL = 64
_LARGE_CELLS = ("Sword 01 - Arming Sword", "Wings 01 - Feathered Wings", "Wings 02 - Bat Wings")  # drawn in cells of 128
_GUIDES = "_ Guides & Palettes"
_OPAQUE = 128  # the sheets hold stray pixels of alpha 1 to 8

_NOTHING = np.zeros((1, 3), np.uint8)

Colours = UInt8[np.ndarray, "n 3"]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One item in one animation: ``cells`` holds rows of ``colours``, of which row 0 means nothing is there."""

    cells: UInt8[np.ndarray, "directions t side side"]
    colours: Colours


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Pieces of ground that fit together in any order."""

    index: UInt8[np.ndarray, "k 32 32"]
    colours: Colours


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An item to draw: its folder under Characters, the ramp it is wanted in, and whether arms pass in front of it."""

    name: str
    folder: str
    material: str | None = None  # a key of DRAWN_IN; None leaves the colours as drawn
    ramp: str = ""
    on_head: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Layers stacked: which colour each pixel has (row 0: none), and which pixels each layer shows."""

    index: UInt16[np.ndarray, "t side side"]
    colours: Colours
    shown: dict[str, int]  # pixels a frame that each layer's name keeps after the layers above it


@dataclass(frozen=True)
class Checkout:
    """The folder of a clone of LPC Revised."""

    root: Path

    def require(self, folders: Collection[str], seasons: Collection[str]) -> None:
        """Raise ValueError unless the ramps, these folders of Characters and these seasons' grounds are there."""
        wanted = [_ramps_file(self.root), *(self.root / "Characters" / folder for folder in sorted(folders))]
        wanted += [_ground_file(self.root, season) for season in sorted(seasons)]
        missing = [path.relative_to(self.root) for path in wanted if not path.exists()]
        if missing:
            lacks = f"it lacks {len(missing)} of {len(wanted)} things, such as {missing[0]}"
            raise ValueError(f"{self.root} is no checkout of LPC Revised: {lacks}; {SOURCE}")

    def compose(self, layers: Sequence[Layer], animation: str, direction: str) -> Figure:
        """The layers drawn over each other, first to last, in one animation seen from one side."""
        row, root = DIRECTIONS.index(direction), str(self.root)
        cutout = _sheet(root, f"{_GUIDES}/Head Cutouts", animation)
        drawn = [(layer, sheet) for layer in layers if (sheet := _recoloured(root, layer, animation)) is not None]
        side = max(sheet.cells.shape[-1] for _, sheet in drawn)
        index = np.zeros((drawn[0][1].cells.shape[1], side, side), np.uint16)
        palette, owners = [_NOTHING], [""]  # row by row, whose colour it is
        for layer, sheet in drawn:
            cells = sheet.cells[row % len(sheet.cells)]  # climbing is seen from one side only
            visible = cells > 0
            if layer.on_head and cutout is not None:
                visible &= cutout.cells[row] == 0  # an arm passes in front
            margin = (side - cells.shape[-1]) // 2
            middle = index[:, margin : side - margin, margin : side - margin]
            np.copyto(middle, cells + np.uint16(len(owners) - 1), where=visible)
            palette.append(sheet.colours[1:])
            owners += [layer.name] * len(palette[-1])
        shown: Counter[str] = Counter()
        for owner, pixels in zip(owners, np.bincount(index.ravel(), minlength=len(owners)).tolist(), strict=True):
            shown[owner] += pixels
        per_frame = {name: pixels // len(index) for name, pixels in shown.items() if name}
        return Figure(index=index, colours=np.concatenate(palette), shown=per_frame)

    def ground(self, season: str, row: int) -> Tiles:
        """The interchangeable tiles of one row of a season's ground."""
        return _tiles(_ground_file(self.root, season), row)


def _ramps_file(root: Path) -> Path:
    return root / "Characters" / _GUIDES / "Color Palettes" / "Ramps.json"


def _ground_file(root: Path, season: str) -> Path:
    return root / "Terrain" / f"terrain_{season}.png"


@cache
def _ramps(path: Path) -> dict[str, dict[str, Colours]]:
    """Material -> ramp -> six colours from light to dark."""
    materials = json.loads(path.read_text(encoding="utf-8"))
    return {
        material: {
            name: np.array([[round(255 * colour[k]) for k in "rgb"] for colour in ramp], np.uint8)
            for name, ramp in ramps.items()
        }
        for material, ramps in materials.items()
    }


@cache
def _recoloured(root: str, layer: Layer, animation: str) -> Sheet | None:
    """The layer's sheet with the ramp it is drawn in replaced by the wanted one; None where there is no sheet."""
    sheet = _sheet(root, layer.folder, animation)
    if sheet is None or layer.material is None:
        return sheet
    ramps = _ramps(_ramps_file(Path(root)))[layer.material]
    colours = sheet.colours.copy()
    for drawn, wanted in zip(ramps[DRAWN_IN[layer.material]], ramps[layer.ramp], strict=True):
        colours[(sheet.colours == drawn).all(axis=1)] = wanted
    return replace(sheet, colours=colours)


@cache
def _sheet(root: str, folder: str, animation: str) -> Sheet | None:
    path = Path(root) / "Characters" / folder / f"{animation}.png"
    if not path.is_file():
        return None
    cell = 2 * _CELL if any(part in _LARGE_CELLS for part in path.parts) else _CELL
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGBA"))
    cells, colours = _indexed(pixels[..., :3], pixels[..., 3] >= _OPAQUE)
    return Sheet(cells=rearrange(cells, "(d h) (t w) -> d t h w", h=cell, w=cell), colours=colours)


@cache
def _tiles(path: Path, row: int) -> Tiles:
    """The three plain tiles of one row; every season's sheet has them in the same columns."""
    with Image.open(path) as image:
        part = image.convert("RGBA").crop((3 * TILE, row * TILE, 6 * TILE, (row + 1) * TILE))
    pixels = np.asarray(part)[..., :3]
    index, colours = _indexed(pixels, np.ones(pixels.shape[:2], bool))
    return Tiles(index=rearrange(index, "h (k w) -> k h w", k=3), colours=colours)


def _indexed(pixels: UInt8[np.ndarray, "h w 3"], there: Bool[np.ndarray, "h w"]) -> tuple[UInt8[np.ndarray, "h w"], Colours]:
    """A picture as indices into its colours, of which row 0 means nothing is there."""
    colours, rows = np.unique(pixels[there], axis=0, return_inverse=True)
    assert len(colours) < 256, f"{len(colours)} colours are more than pixel art has"
    index = np.zeros(there.shape, np.uint8)
    index[there] = rows.ravel() + 1
    return index, np.concatenate([_NOTHING, colours])
