"""Which scenes are worth training on: long, bright and lively enough, and not seen before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from noisereel.data.scenes import Look, Scene

Range = tuple[float, float]
# What has too little of it is, and what has too much.
WORDS = {"seconds": ("short", "long"), "brightness": ("dark", "bright"), "motion": ("still", "restless")}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a scene must be like; of a still image only brightness counts."""

    seconds: Range = (0.0, inf)
    brightness: Range = (0.02, 0.98)  # 0 black, 1 white
    motion: Range = (0.0005, inf)  # see ``Scene``
    duplicates: float = 2.5  # bits of 64 in which frames of two scenes differ on average, at most; below 0 all are kept

    def __post_init__(self) -> None:
        for name in ("seconds", "brightness", "motion"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} from {low:g} to {high:g}: give the smaller number first, such as {name} 0.1:0.9")
        if not self.duplicates <= 16:
            raise ValueError(f"duplicates {self.duplicates:g}: frames that differ in more than 16 bits of 64 are not alike")

    def refusal(self, scene: Scene, still: bool) -> str | None:
        """Why a scene is not used; None if it is."""
        length = scene.end - scene.start
        measured = {"seconds": length, "brightness": scene.brightness, "motion": scene.motion}
        for name in ("brightness",) if still else measured:
            (low, high), value = getattr(self, name), measured[name]
            if value < low:
                return f"too {WORDS[name][0]}: {name} {value:.4g}, under {low:g}"
            if value > high:
                return f"too {WORDS[name][1]}: {name} {value:.4g}, over {high:g}"
        return None


def sifted(looks: Iterable[tuple[str, Look]], rules: Rules) -> Iterator[tuple[str, Scene, str | None]]:
    """Each scene of named looks, with the reason why it is not used; of scenes that are alike the first is."""
    alike = Alike(rules.duplicates)
    for name, found in looks:
        for scene in found.scenes:
            title = called(name, scene, found)
            reason = rules.refusal(scene, found.still)
            if reason is None and (before := alike.before(title, scene)):
                reason = f"it looks like {before}"
            yield name, scene, reason


def called(name: str, scene: Scene, found: Look) -> str:
    """The name of a scene: that of its file, and which part it is, if it is not all."""
    return name if len(found.scenes) == 1 else f"{name} [{scene.start:.2f}-{scene.end:.2f} s]"


class Alike:
    """Scenes that were met, to be found again by what they look like."""

    def __init__(self, bits: float) -> None:
        self.bits = bits
        self._met: list[tuple[str, Scene]] = []
        self._by_part: dict[tuple[int, int, str], list[int]] = {}  # of scenes with so many prints, by a part of all of them

    def before(self, name: str, scene: Scene) -> str | None:
        """The name of a scene met before that is like this one; if there is none, this one has been met now."""
        if self.bits < 0:
            return None
        limit = int(self.bits * len(scene.prints))
        # What differs in no more than so many bits has, of one part more than that, at least one in common.
        parts = [(len(scene.prints), *part) for part in _parts("".join(scene.prints), limit + 1)]
        candidates = {number for part in parts for number in self._by_part.get(part, ())}
        for number in sorted(candidates):
            other, met = self._met[number]
            if _as_long(scene, met) and distance(scene, met) <= limit:
                return other
        for part in parts:
            self._by_part.setdefault(part, []).append(len(self._met))
        self._met.append((name, scene))
        return None


def distance(one: Scene, other: Scene) -> int:
    """In how many bits the frames of two scenes differ."""
    pairs = zip(one.prints, other.prints, strict=True)
    return sum((int(a, 16) ^ int(b, 16)).bit_count() for a, b in pairs)


def _as_long(one: Scene, other: Scene) -> bool:
    lengths = one.end - one.start, other.end - other.start
    return abs(lengths[0] - lengths[1]) <= 0.2 + 0.05 * max(lengths)


def _parts(text: str, count: int) -> Iterator[tuple[int, str]]:
    for number in range(count):
        yield number, text[number * len(text) // count : (number + 1) * len(text) // count]
