"""What can be said of an opened model: shown to people, and what requests are checked against before they are queued."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

EXAMPLES = 8  # prompts
FACTORS = range(1, 9)  # by which a clip may be enlarged


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A model as the server knows it, which never loads one."""

    id: str
    frames: int  # made at once
    height: int
    width: int
    fps: float
    steps: int
    guidance: float | None
    fixed: bool  # whether it takes no other steps and guidance than these
    lead: int  # frames are this and a multiple of the first of these, height and width multiples of the others
    multiples: tuple[int, int, int]
    keep: int  # frames an extension goes on from; 0 if it cannot
    stages: int
    can: tuple[str, ...]  # kinds of jobs
    enlarges: tuple[tuple[int, int], ...]  # by how much, in time and space, what comes first if nothing is said
    examples: tuple[str, ...]
    words: tuple[str, ...]  # seen in training; none where the text encoder came trained
    parameters: int
    recipe: str
    summary: str

    def fits(self, frames: int, height: int, width: int) -> str | None:
        """What is wrong with this shape, if anything is."""
        leads = (self.lead, 0, 0)
        for name, size, multiple, lead in zip(
            ("num_frames", "height", "width"), (frames, height, width), self.multiples, leads, strict=True
        ):
            if size < 1 or (size - lead) % multiple:
                return f"{name} {size} will not do: this model takes {_legal(multiple, lead)}"
        return None

    def legal_frames(self, wanted: float) -> int:
        """The number of frames nearest to ``wanted`` that the model takes."""
        step = self.multiples[0]
        return max(self.lead + round((wanted - self.lead) / step) * step, self.lead or step)


def _legal(multiple: int, lead: int) -> str:
    if multiple == 1:
        return "1 or more"
    return f"{f'{lead} and ' if lead else ''}a multiple of {multiple}"


def facts_of(name: str, pipe: Any) -> Facts:
    """Of an opened ``TextToVideo``."""
    from noisereel.conditioning import LowRes
    from noisereel.making.job import kept_frames

    system = pipe.system
    first, last = system.first, system.last
    alone = len(system.stages) == 1
    enlarges = factors(system)
    can = [] if first.needs_video else ["generate"]
    can += ["image"] if first.shape[0] > 1 and not isinstance(first.given, LowRes) else []
    can += ["extend"] if alone and not first.needs_video and first.shape[0] > 1 else []
    can += ["upscale"] if enlarges else []
    frames, height, width = first.shape
    return Facts(
        id=name,
        frames=frames,
        height=height,
        width=width,
        fps=float(last.fps),
        steps=first.steps,
        guidance=pipe.guidance(None),
        fixed=pipe.fixed,
        lead=first.codec.lead,
        multiples=first.legal_multiples(),
        keep=kept_frames(first) if "extend" in can else 0,
        stages=len(system.stages),
        can=tuple(can),
        enlarges=enlarges,
        examples=examples(pipe),
        words=tuple(pipe.known_words()),
        parameters=sum(p.numel() for part in system.parts().values() for p in part.parameters()),
        recipe=str(pipe.call["recipe"]),
        summary=pipe.summary,
    )


def factors(system: Any) -> tuple[tuple[int, int], ...]:
    """By how much in time and space the stages can enlarge a clip; what leaves its time alone comes first."""
    from noisereel.upscale import chosen

    found = []
    for time, space in product(FACTORS, FACTORS):
        with suppress(ValueError):
            if time * space > 1 and chosen(system.stages, time=time, space=space):
                found.append((time, space))
    return tuple(found)


def examples(pipe: Any) -> tuple[str, ...]:
    """Prompts like those the model learned from, where its training data can be opened here."""
    from noisereel.worlds.pools import Pools

    data = pipe.call["arguments"].get("data")
    if not data or not str(data).startswith("shapes"):  # other worlds need files that a server has no business with
        return ()
    return Pools.open(str(data), shape=(1, 16, 16), fps=float(pipe.system.first.fps)).prompts(EXAMPLES)


def rounds(facts: Facts, frames: int) -> int:
    """How often the model samples until a video of so many frames is finished."""
    if frames <= facts.frames:
        return 1
    return 1 + math.ceil((frames - facts.frames) / (facts.frames - facts.keep))
