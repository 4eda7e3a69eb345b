"""Which clips are wanted, and what of a place gives them."""

from __future__ import annotations

from dataclasses import dataclass

from noisereel.data.buckets import Shape, best
from noisereel.data.check import Finding, survey
from noisereel.data.decode import Probe
from noisereel.data.listing import Item, Listing, Skipped

_TICK = 1e-3  # seconds


@dataclass(frozen=True, kw_only=True)
class Want:
    """The clips that are wanted."""

    frames: int
    height: int
    width: int
    fps: float
    channels: int = 3
    among: tuple[Shape, ...] = ()  # shapes that are trained on in turn: footage is used for the one that it fits best

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.channels) < 1 or not self.fps > 0:
            raise ValueError(f"{self}: all must be positive")

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}" + (f" and {self.channels} channels" if self.channels != 3 else "")
        what = f"clips of {self.frames} frames" if self.frames > 1 else "single frames"
        return f"{what} of {size} at {self.fps:g} fps"

    def refusal(self, found: Finding) -> str | None:
        """Why footage of which this was found gives no such clip; None if it does."""
        if found.problem or found.probe is None:
            return found.problem
        facts = found.probe
        if facts.channels not in (1, self.channels):
            return f"it has {facts.channels} channels, and the clips are to have {self.channels}"
        if self.frames > 1 and facts.frames == 1:
            return "it is a single image: used where single frames are wanted"
        if self.frames > 1 and facts.seconds < self.seconds(facts) - _TICK:
            lasting = f"{facts.seconds:.2f} s" if facts.rated else f"{facts.frames} frames"
            return f"it lasts {lasting}: too short for {self.frames} frames" + (f" at {self.fps:g} fps" if facts.rated else "")
        if self.among and (other := best(facts, self.among, self.fps)) != (self.frames, self.height, self.width):
            return f"it is used for clips of {'x'.join(map(str, other or ()))}, which it fits better"
        return None

    def seconds(self, facts: Probe) -> float:
        """How long a clip of such footage lasts."""
        return self.frames / self.rate(facts)

    def rate(self, facts: Probe) -> float:
        """The rate to read it at: its own where nothing says how fast its frames follow."""
        return self.fps if facts.rated else facts.fps


def sorted_out(place: str, listing: Listing, want: Want) -> tuple[list[tuple[Item, Probe]], list[Skipped]]:
    """What of a listing gives the wanted clips, and what does not with the reason."""
    used, unused = [], list(listing.skipped)
    for item, found in survey(place, listing.items):
        reason = want.refusal(found)
        if reason is None:
            assert found.probe is not None
            used.append((item, found.probe))
        else:
            unused.append(Skipped(name=item.name, reason=reason))
    return used, unused
