"""The sprites world: people of pixel art, drawn from an LPC Revised checkout, do something somewhere.

Everything is drawn at 64 pixels to the picture's height, the size of the sheets' cells, and scaled by a whole number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor
from torch.nn import functional

from noisereel.data.clips import Clip, Pool
from noisereel.worlds.dice import dice, held_out
from noisereel.worlds.sprite_people import Person, draw_person, folders, layers
from noisereel.worlds.sprite_sheets import DIRECTIONS, TILE, Checkout, Figure
from noisereel.worlds.sprites_words import BRIEF, IMAGE, VIDEO, phrase, spoken
from noisereel.worlds.world import GROUNDS, Split, World

Times = Float[np.ndarray, "t"]

_HEIGHT = 64  # pixels that a picture is high before it is scaled
_VISIBLE = 5  # pixels a frame from which an item is spoken of
_BRIEF_ONE_IN = 5
_JUMP = 15  # pixels high; the sheets draw a jump on the spot
_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_ROOM = {"left": 60.0, "right": 60.0, "up": 28.0, "down": 28.0}  # how far a still camera sees someone go
_TILES = 5  # to each side of the ground that repeats


@dataclass(frozen=True, kw_only=True)
class Action:
    """What someone does: its sheets, drawings a second, and speed over the ground in pixels a second."""

    animation: str
    rate: float
    speed: float = 0.0
    sword: bool = False
    odds: float = 1.0


ACTIONS = {
    "stand": Action(animation="Idle", rate=3.0, odds=3.0),
    "walk": Action(animation="Walk", rate=10.0, speed=32.0, odds=6.0),
    "run": Action(animation="Run", rate=12.0, speed=56.0, odds=4.0),
    "jump": Action(animation="Jump", rate=6.0, odds=2.0),
    "climb": Action(animation="Climb", rate=7.0, speed=16.0),
    "guard": Action(animation="Combat 1h - Idle", rate=3.0, sword=True),
    "slash": Action(animation="Combat 1h - Slash", rate=8.0, sword=True),
    "strike": Action(animation="Combat 1h - Halfslash", rate=7.0, sword=True),
    "slash twice": Action(animation="Combat 1h - Backslash", rate=12.0, sword=True),
}
_IN_IMAGES = ("stand", "walk", "run")  # actions whose single frames need no word of motion
_WITH_WINGS = ("stand", "walk")  # the only ones that wings are drawn for
TERRAIN = {  # the season's sheet and the row of its plain tiles
    "grass": ("summer", 2),
    "dry grass": ("autumn", 2),
    "dirt": ("summer", 3),
    "sand": ("summer", 5),
    "snow": ("winter", 2),
}
PLAIN = {name: GROUNDS[name] for name in ("white", "black", "grey", "navy", "beige", "sky blue")}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The truth about a clip."""

    person: Person
    action: str
    direction: str
    ground: str
    follows: bool  # the camera keeps the person in the middle and the ground moves
    middle: tuple[float, float]  # where the person is half way through, in pixels from the picture's centre
    phase: float  # the drawing that the animation begins with
    tiles: int  # seed of the ground's tiling
    seconds: float

    def place(self, times: Times) -> Float[np.ndarray, "2 t"]:
        """Where the person's cell lies in the world at ``times`` in seconds: x right and y down, in pixels."""
        speed = ACTIONS[self.action].speed
        if not self.follows:
            speed = min(speed, _ROOM[self.direction] / self.seconds)
        path = np.array(self.middle)[:, None] + np.outer(_STEPS[self.direction], speed * (times - self.seconds / 2))
        if self.action == "jump":
            # In the air from the second drawing to the fifth of six.
            u = np.clip((times * ACTIONS["jump"].rate % 6 - 1) / 4, 0, 1)
            path[1] -= _JUMP * 4 * u * (1 - u)
        return path


def scene(index: int, split: Split, pool: Pool = "captioned_video", seconds: float = 1.0) -> Scene:
    """Scene number ``index``; nobody in unlabelled video appears in the captioned pools."""
    for attempt in count():
        rng = dice(f"sprites {split} {pool} {attempt}", index)
        drawn = _draw_scene(rng, pool, seconds)
        stranger = held_out("stranger", *drawn.person.identity)
        if drawn.ground in {colour for _, colour in drawn.person.wears.values()}:
            continue  # black on black would be named and not seen
        if stranger == (pool == "unlabelled_video") and held_out(*_combination(drawn)) == (split == "held_out"):
            return drawn
    raise AssertionError


def _combination(drawn: Scene) -> tuple[str, ...]:
    """The attribute values whose combination is held out or not."""
    return (drawn.person.who, *drawn.person.wears["top"], drawn.action, drawn.direction, drawn.ground)


def _draw_scene(rng: np.random.Generator, pool: Pool, seconds: float) -> Scene:
    names = _IN_IMAGES if pool == "captioned_image" else tuple(ACTIONS)
    odds = np.array([ACTIONS[name].odds for name in names])
    action = str(rng.choice(names, p=odds / odds.sum()))
    direction = "up" if action == "climb" else str(rng.choice(DIRECTIONS))
    ground = str(rng.choice([*TERRAIN, *PLAIN] if action != "climb" else list(PLAIN)))
    goes = action in ("walk", "run")
    follows = goes and ground in TERRAIN and rng.random() < 0.5
    person = draw_person(rng, fights=ACTIONS[action].sword, may_have_wings=action in _WITH_WINGS)
    return Scene(
        person=person,
        action=action,
        direction=direction,
        ground=ground,
        follows=follows,
        middle=(rng.uniform(-6, 6), rng.uniform(3, 7) if action == "jump" else rng.uniform(-3, 3)),
        phase=rng.uniform(0, 12) if ACTIONS[action].speed or action == "stand" else 0.0,
        tiles=int(rng.integers(2**31)),
        seconds=seconds,
    )


@dataclass(frozen=True, kw_only=True)
class Sprites(World):
    """Clips of the sprites world, without end, from a checkout of LPC Revised.

    ``height`` is 64 times or a whole part of 64, such as 32, 64 or 128.
    """

    root: str | Path

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = self.height > 0 and (self.height % _HEIGHT == 0 or _HEIGHT % self.height == 0)
        if not whole or self.width * _HEIGHT % self.height:
            raise ValueError(f"sprites cannot be {self.height}x{self.width}: the height must be 64 times or a part of 64")
        self.checkout.require(folders(), {season for season, _ in TERRAIN.values()})

    @cached_property
    def checkout(self) -> Checkout:
        """The sheets."""
        return Checkout(Path(self.root))

    def __getitem__(self, index: int) -> Clip:
        truth = scene(index, self.split, self.pool, self.seconds)
        rng = dice(f"sprites {self.pool} caption", index)
        still = self.pool == "captioned_image"
        times = rng.uniform(0, self.seconds, 1) if still else np.arange(self.frames) / self.fps
        figure = self._figure(truth)
        return Clip(video=self._render(truth, figure, times), caption=self._caption(rng, truth, figure), fps=self.fps)

    def visible(self, truth: Scene) -> tuple[str, ...]:
        """The slots of the wardrobe that can be seen in a scene, which are those that captions may name."""
        shown = self._figure(truth).shown
        return tuple(slot for slot in truth.person.wears if shown.get(slot, 0) >= _VISIBLE)

    def _figure(self, truth: Scene) -> Figure:
        action = ACTIONS[truth.action]
        return self.checkout.compose(layers(truth.person, sword=action.sword), action.animation, truth.direction)

    def _caption(self, rng: np.random.Generator, truth: Scene, figure: Figure) -> str | None:
        if self.pool == "unlabelled_video":
            return None
        shown = {slot for slot, pixels in figure.shown.items() if pixels >= _VISIBLE}
        values = spoken(
            rng,
            truth.person,
            shown,
            action=truth.action,
            direction=truth.direction,
            ground=truth.ground,
            follows=truth.follows,
        )
        if self.pool == "captioned_image":
            return phrase(rng, IMAGE, values)
        return phrase(rng, BRIEF if rng.integers(_BRIEF_ONE_IN) == 0 else VIDEO, values)

    def _render(self, truth: Scene, figure: Figure, times: Times) -> Float[Tensor, "3 t {self.height} {self.width}"]:
        index, colours = paint(self.checkout, figure, truth, times, self.width * _HEIGHT // self.height)
        if self.height > _HEIGHT:
            index = repeat(index, "t h w -> t (h p) (w q)", p=self.height // _HEIGHT, q=self.height // _HEIGHT)
        levels = rearrange(colours.astype(np.float32) / 127.5 - 1, "n c -> c n")
        video = torch.from_numpy(levels.take(index, axis=1))
        return functional.avg_pool2d(video, _HEIGHT // self.height) if self.height < _HEIGHT else video


def paint(
    checkout: Checkout, figure: Figure, truth: Scene, times: Times, width: int
) -> tuple[UInt16[np.ndarray, "t 64 {width}"], UInt8[np.ndarray, "n 3"]]:
    """The scene at ``times`` as indices into colours, 64 pixels high: the ground, and the figure at whole pixels of it."""
    drawings = (truth.phase + times * ACTIONS[truth.action].rate).astype(int) % len(figure.index)
    place = np.rint(truth.place(times)).astype(int)
    camera = place - np.rint(truth.middle).astype(int)[:, None] if truth.follows else 0 * place
    ground, ground_colours = _ground(checkout, truth, camera, width)
    index = ground + np.uint16(len(figure.colours))
    side = figure.index.shape[-1]
    for frame, (drawing, (x, y)) in enumerate(zip(drawings, (place - camera).T, strict=True)):
        left, top = x + (width - side) // 2, y + (_HEIGHT - side) // 2
        rows, columns = slice(max(0, top), min(_HEIGHT, top + side)), slice(max(0, left), min(width, left + side))
        part = figure.index[drawing, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        np.copyto(index[frame, rows, columns], part, where=part > 0)
    return index, np.concatenate([figure.colours, ground_colours])


def _ground(
    checkout: Checkout, truth: Scene, camera: np.ndarray, width: int
) -> tuple[UInt16[np.ndarray, "t 64 {width}"], UInt8[np.ndarray, "n 3"]]:
    if truth.ground in PLAIN:
        return np.zeros((camera.shape[1], _HEIGHT, width), np.uint16), np.array([PLAIN[truth.ground]], np.uint8)
    tiles = checkout.ground(*TERRAIN[truth.ground])
    chosen = dice("sprites tiles", truth.tiles).integers(len(tiles.index), size=(_TILES, _TILES))
    texture = rearrange(tiles.index[chosen], "i j h w -> (i h) (j w)").astype(np.uint16)
    columns = (camera[0][:, None] + np.arange(width)) % (_TILES * TILE)
    rows = (camera[1][:, None] + np.arange(_HEIGHT)) % (_TILES * TILE)
    return texture[rows[:, :, None], columns[:, None, :]], tiles.colours
