"""How the shapes world is put into words."""

from __future__ import annotations

from typing import Literal

from noisereel.worlds.captions import Language, Words

# How prompts for evaluation are worded: as in training, in sentences that training never uses, or in those sentences and
# with words that training never uses (which only a text encoder trained elsewhere can know).
Wording = Literal["seen", "unseen phrasing", "unseen words"]

_PARTICIPLES = {
    "moves": "moving",
    "slides": "sliding",
    "goes": "going",
    "travels": "travelling",
    "grows": "growing",
    "gets": "getting",
    "shrinks": "shrinking",
    "stays": "staying",
    "rests": "resting",
    "circles": "circling",
    "sways": "swaying",
    "swings": "swinging",
    "falls": "falling",
    "drops": "dropping",
    "bounces": "bouncing",
    "heads": "heading",
    "drifts": "drifting",
    "expands": "expanding",
    "contracts": "contracting",
    "remains": "remaining",
    "orbits": "orbiting",
    "rocks": "rocking",
    "plummets": "plummeting",
    "jumps": "jumping",
}


def _verbs(verbs: str, *tails: str) -> tuple[str, ...]:
    """Each verb with each tail: ``_verbs("moves goes", "left")`` is ("moves left", "goes left")."""
    return tuple(f"{verb} {tail}".strip() for verb in verbs.split() for tail in tails)


def _with_participles(motions: dict[str, tuple[str, ...]]) -> Words:
    """The slots "motion" (a small circle *moves left*) and "moving" (a small circle *moving left*)."""

    def participle(said: str) -> str:
        verb, *tail = said.split(" ")
        return " ".join([_PARTICIPLES[verb], *tail])

    return {
        "motion": motions,
        "moving": {motion: tuple(participle(said) for said in ways) for motion, ways in motions.items()},
    }


_THINGS: Words = {
    "shape": {
        "circle": ("circle", "disc"),
        "square": ("square", "box"),
        "ring": ("ring", "hoop"),
        "diamond": ("diamond", "rhombus"),
        "cross": ("cross", "plus sign"),
        "bar": ("bar", "rectangle"),
    },
    "colour": {
        "red": ("red", "scarlet"),
        "cyan": ("cyan", "turquoise"),
        "purple": ("purple", "violet"),
    },
    "size": {"small": ("small", "little", "tiny"), "large": ("large", "big")},
    "ground": {"grey": ("grey", "gray"), "navy": ("navy", "navy blue")},
}
_MOTIONS = {
    "left": _verbs("moves slides goes", "left", "to the left"),
    "right": _verbs("moves slides goes", "right", "to the right"),
    "up": _verbs("moves slides goes", "up", "upwards"),
    "down": _verbs("moves slides goes", "down", "downwards"),
    "up left": _verbs("moves slides goes", "up and to the left", "diagonally up left"),
    "up right": _verbs("moves slides goes", "up and to the right", "diagonally up right"),
    "down left": _verbs("moves slides goes", "down and to the left", "diagonally down left"),
    "down right": _verbs("moves slides goes", "down and to the right", "diagonally down right"),
    "clockwise": _verbs("circles", "clockwise") + _verbs("moves goes", "clockwise in a circle"),
    "counterclockwise": _verbs("circles", "counterclockwise") + _verbs("moves goes", "counterclockwise in a circle"),
    "sways": _verbs("sways swings moves", "from side to side"),
    "falls": ("falls", "falls faster and faster", "drops"),
    "bounces": ("bounces", "bounces up and down", "bounces on the spot"),
    "grows": ("grows", "gets bigger", "grows larger"),
    "shrinks": ("shrinks", "gets smaller"),
    "still": ("stays still", "rests", "stays where it is"),
}
_UNSEEN_THINGS: Words = {
    "shape": {
        "circle": ("round dot", "ball"),
        "square": ("block",),
        "triangle": ("wedge",),
        "ring": ("loop", "doughnut"),
        "diamond": ("lozenge",),
        "star": ("five-pointed star",),
        "cross": ("plus",),
        "bar": ("oblong",),
    },
    "colour": {
        "red": ("crimson",),
        "orange": ("tangerine",),
        "yellow": ("lemon",),
        "green": ("emerald",),
        "cyan": ("aqua",),
        "blue": ("azure",),
        "purple": ("lilac",),
        "pink": ("rosy",),
    },
    "size": {"small": ("miniature",), "large": ("huge", "sizeable")},
    "ground": {
        "black": ("jet black",),
        "white": ("snowy",),
        "grey": ("ashen",),
        "navy": ("midnight blue",),
        "beige": ("sandy",),
    },
}
_UNSEEN_MOTIONS = {
    "left": _verbs("travels heads", "leftwards"),
    "right": _verbs("travels heads", "rightwards"),
    "up": _verbs("travels heads", "towards the top"),
    "down": _verbs("travels heads", "towards the bottom"),
    "up left": _verbs("drifts heads", "towards the top left"),
    "up right": _verbs("drifts heads", "towards the top right"),
    "down left": _verbs("drifts heads", "towards the bottom left"),
    "down right": _verbs("drifts heads", "towards the bottom right"),
    "clockwise": _verbs("orbits", "clockwise"),
    "counterclockwise": _verbs("orbits", "counterclockwise", "anticlockwise"),
    "sways": _verbs("rocks", "to and fro"),
    "falls": ("plummets",),
    "bounces": ("jumps again and again",),
    "grows": ("expands",),
    "shrinks": ("contracts",),
    "still": ("remains in place",),
}

_SEEN = _THINGS | _with_participles(_MOTIONS)
_UNSEEN = _UNSEEN_THINGS | _with_participles(_UNSEEN_MOTIONS)

VIDEO = Language(
    templates=(
        "a {size} {colour} {shape} {motion} on a {ground} background",
        "a {size} {colour} {shape} {moving} on a {ground} background",
        "on a {ground} background, a {size} {colour} {shape} {motion}",
        "{size} {colour} {shape} {moving}, {ground} background",
        "a video of a {size} {colour} {shape} that {motion} over a {ground} backdrop",
        "the background is {ground} and a {colour} {shape} of {size} size {motion}",
        "a clip in which a {size} {shape}, coloured {colour}, {motion} in front of a {ground} background",
        "there is a {size} {colour} {shape} on {ground}; it {motion}",
    ),
    words=_SEEN,
)
# Captions that leave something out, as people do.
BRIEF = Language(
    templates=(
        "a {colour} {shape} {motion}",
        "a {size} {colour} {shape} {moving}",
        "a {shape} {motion} on a {ground} background",
        "{colour} {shape} {moving}",
        "a {colour} {shape} {motion} on a {ground} background",
    ),
    words=_SEEN,
)
# Captions of one frame: nothing that only motion could show.
IMAGE = Language(
    templates=(
        "a {size} {colour} {shape} on a {ground} background",
        "on a {ground} background, a {size} {colour} {shape}",
        "{size} {colour} {shape}, {ground} background",
        "an image of a {size} {colour} {shape} over a {ground} backdrop",
        "the background is {ground} and there is a {colour} {shape} of {size} size",
        "a picture in which there is a {size} {shape}, coloured {colour}, in front of a {ground} background",
    ),
    words=_THINGS,
)
_UNSEEN_TEMPLATES = (
    "in front of a {ground} backdrop, {moving}: a {shape}, {size} and {colour}",
    "a {colour} {shape} of {size} size on {ground} that {motion}",
    "there is a {ground} background; a {size} {shape}, coloured {colour}, is {moving}",
    "a {size} {shape} {motion}, coloured {colour}, over a background that is {ground}",
    "a {ground} video of a {colour} {shape} that is {size} and {moving}",
)
PROMPTS: dict[Wording, Language] = {
    "seen": VIDEO,
    "unseen phrasing": Language(templates=_UNSEEN_TEMPLATES, words=_SEEN),
    "unseen words": Language(templates=_UNSEEN_TEMPLATES, words=_UNSEEN),
}
