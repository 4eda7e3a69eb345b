"""How the sprites world is put into words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from noisereel.worlds.captions import Language
from noisereel.worlds.sprite_people import WARDROBE, Person

_COLOUR_WORDS = {
    "grey": ("grey", "gray"),
    "navy": ("navy", "navy blue"),
    "blonde": ("blonde", "blond"),
    "ginger": ("ginger", "orange"),
}
_ON_HEAD = ("hair", "helmet", "beard", "glasses")
_ON_BODY = ("top", "over", "bow tie", "legs", "socks", "feet", "wings")

_TO = {
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "up": ("away", "away from the viewer", "up"),
    "down": ("towards the viewer", "down"),
}
_FACING = {
    "left": ("facing left", "turned to the left"),
    "right": ("facing right", "turned to the right"),
    "up": ("facing away", "seen from behind"),
    "down": ("facing the viewer", "facing forwards"),
}
# Action -> its verbs, what follows them, and whether it goes somewhere rather than faces somewhere.
_VERBS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "stand": (("stands", "stands still"), "", False),
    "walk": (("walks", "strolls"), "", True),
    "run": (("runs",), "", True),
    "jump": (("jumps", "leaps"), "", False),
    "guard": (("holds", "raises"), " a sword", False),
    "slash": (("slashes",), " with a sword", False),
    "strike": (("strikes",), " with a sword", False),
    "slash twice": (("slashes back and forth",), " with a sword", False),
}
_PARTICIPLES = {
    "stands": "standing",
    "walks": "walking",
    "strolls": "strolling",
    "runs": "running",
    "jumps": "jumping",
    "leaps": "leaping",
    "holds": "holding",
    "raises": "raising",
    "slashes": "slashing",
    "strikes": "striking",
    "climbs": "climbing",
}


def _doings() -> dict[str, tuple[str, ...]]:
    """Every action in every direction, in the third person."""
    doings: dict[str, tuple[str, ...]] = {"climb up": ("climbs", "climbs up")}
    for action, (verbs, tail, goes) in _VERBS.items():
        for direction in _TO:
            ends = [f" {end}" if goes else f", {end}," for end in (_TO if goes else _FACING)[direction]]
            doings[f"{action} {direction}"] = tuple(verb + tail + end for verb in verbs for end in ends)
    return doings


def _participle(said: str) -> str:
    verb, space, tail = said.partition(" ")
    bare = verb.rstrip(",")
    return _PARTICIPLES[bare] + verb[len(bare) :] + space + tail


_ACTIONS = _doings()
_PLACES = {
    "grass": ("on grass", "on green grass", "in a meadow"),
    "dry grass": ("on dry grass", "on yellow grass"),
    "dirt": ("on dirt", "on brown earth"),
    "sand": ("on sand", "on a beach"),
    "snow": ("on snow", "in the snow"),
}


def _place(ground: str) -> tuple[str, ...]:
    plain = tuple(
        f"{start} a {colour} background" for start in ("on", "in front of") for colour in _COLOUR_WORDS.get(ground, (ground,))
    )
    return _PLACES.get(ground, plain)


_WHO = {
    "woman": ("a woman", "a lady"),
    "man": ("a man", "a guy"),
    "old woman": ("an old woman", "an elderly woman"),
    "old man": ("an old man", "an elderly man"),
}


def spoken(
    rng: np.random.Generator, person: Person, shown: Collection[str], *, action: str, direction: str, ground: str, follows: bool
) -> dict[str, str]:
    """What the slots of a caption hold, each item named in one of its ways; only slots in ``shown`` are spoken of."""
    hides_age = direction == "up" or person.wears.get("helmet", ("", ""))[0] == "closed"
    head = [_named(rng, person, slot) for slot in _ON_HEAD if slot in person.wears and slot in shown]
    body = [_named(rng, person, slot) for slot in _ON_BODY if slot in person.wears and slot in shown]
    return {
        "who": _pick(rng, _WHO[person.who.removeprefix("old ") if hides_age else person.who]),
        "head": _joined(head or ["a bald head"]),
        "clothes": _joined(body),
        "garment": _pick(rng, body[:2]),
        "action": _pick(rng, _ACTIONS[f"{action} {direction}"]),
        "facing": _pick(rng, _FACING[direction]),
        "place": _pick(rng, _place(ground)),
        "camera": _pick(rng, (", followed by the camera", ", and the camera follows", "")) if follows else "",
    }


def phrase(rng: np.random.Generator, language: Language, values: dict[str, str]) -> str:
    """A caption in one of the language's sentences, the action in the form that the sentence wants."""
    said = language.phrase(rng, values | {"doing": _participle(values["action"])})
    for wrong, right in ((",,", ","), (" ,", ",")):
        said = said.replace(wrong, right)
    return said.rstrip(", ")


def _named(rng: np.random.Generator, person: Person, slot: str) -> str:
    kind, colour = person.wears[slot]
    way = _pick(rng, WARDROBE[slot][kind].ways)
    return way.format(_pick(rng, _COLOUR_WORDS.get(colour, (colour,))))


def _joined(things: Sequence[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def _pick(rng: np.random.Generator, ways: Sequence[str]) -> str:
    return ways[int(rng.integers(len(ways)))]


VIDEO = Language(
    templates=(
        "{who} with {head}, wearing {clothes}, {action} {place}{camera}",
        "{who} with {head} in {clothes} {action} {place}{camera}",
        "{who} {doing} {place}, wearing {clothes}, with {head}{camera}",
        "a pixel art video of {who} with {head} and dressed in {clothes}, {doing} {place}{camera}",
        "{place}, {who} with {head} wearing {clothes} {action}{camera}",
        "wearing {clothes}, {who} with {head} {action} {place}{camera}",
        "{who} {action} {place}; they have {head} and wear {clothes}",
    ),
    words={},
)
# Captions that leave most out, as people do.
BRIEF = Language(
    templates=(
        "{who} {action}",
        "{who} {doing} {place}",
        "{who} with {head} {action}",
        "{who} in {garment} {action} {place}",
        "{who} wearing {garment}, {doing}",
        "{who} with {head} in {garment}, {doing} {place}{camera}",
    ),
    words={},
)
# Captions of one frame: nothing that only motion could show.
IMAGE = Language(
    templates=(
        "{who} with {head}, wearing {clothes}, {facing}, {place}",
        "{who} {place}, {facing}, with {head}, wearing {clothes}",
        "a pixel art picture of {who} with {head} in {clothes}, {facing}, {place}",
        "{place}, {who} with {head} in {clothes}, {facing}",
        "{who} {facing}, wearing {clothes}, {place}",
        "{who} with {head} {place}",
        "{who} in {garment}, {facing}",
    ),
    words={},
)
