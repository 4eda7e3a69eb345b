"""One clip of a sequence: its tokens, and all that a transformer's blocks must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisereel.nets.frames import Frames
from noisereel.nets.fused import Spans
from noisereel.nets.tokens import Grid
from noisereel.nets.transformer import Segment
from noisereel.types import Cond, Groups, Hint, Text, Video


@dataclass(frozen=True, kw_only=True)
class ImageHint(Hint):
    """A hint that also says what is in an image, in the tokens of an image encoder (Wan 2.1 from images: CLIP's)."""

    tokens: Float[Tensor, "b i d"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The tokens of a video behind those of its text, if text joins the sequence; else ``text`` is beside it."""

    tokens: Float[Tensor, "b l c"]
    embedding: Float[Tensor, "b r e"]
    grid: Grid
    rows: range  # of the embedding: one for all of the video's tokens, or one for each frame of patches
    text_length: int = 0  # how many of the tokens are text's
    text: Float[Tensor, "b m c"] | None = None
    mask: Bool[Tensor, "b m"] | None = None  # which tokens of the text may be looked at; all if None
    image: Float[Tensor, "b i c"] | None = None

    @property
    def segment(self) -> Segment:
        """What attention must know."""
        length = self.tokens.shape[1]
        if self.text is None:
            return Segment(length=length, mask=self.mask)
        return Segment(length=length, text=self.text, text_mask=self.mask, image=self.image)


def spans_of(clips: Sequence[Clip], streams: int) -> Spans:
    """The spans of clips that follow one another; each row of an embedding gives ``streams`` (video, text) to choose from."""
    spans, start = [], 0
    for clip in clips:
        if clip.text_length:
            spans.append((clip.text_length, range(start + 1, start + 2)))
        rows = range(start + streams * clip.rows.start, start + streams * clip.rows.stop, streams)
        spans.append((clip.tokens.shape[1] - clip.text_length, rows))
        start += streams * clip.embedding.shape[1]
    return tuple(spans)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Frames of some samples that are one clip of each."""

    samples: slice
    frames: list[int]
    rows: Int[Tensor, s]  # of the clips in ``Cond.text`` and ``Cond.fps``

    def of(self, x: Video) -> Float[Tensor, "s c part h w"]:
        """These frames of a video."""
        return x[self.samples, :, self.frames]

    def cond(self, cond: Cond) -> Cond:
        """The conditions of these clips alone."""
        text, hint = cond.text, cond.hint
        if text is not None:
            text = Text(tokens=text.tokens[self.rows], mask=text.mask[self.rows], pooled=text.pooled[self.rows])
        if hint is not None:
            noise = None if hint.noise is None else hint.noise[self.samples]
            tokens = dict(tokens=hint.tokens[self.samples]) if isinstance(hint, ImageHint) else {}
            hint = replace(hint, channels=self.of(hint.channels), noise=noise, **tokens)
        return Cond(text=text, fps=None if cond.fps is None else cond.fps[self.rows], hint=hint)


def parts_of(groups: Groups) -> list[Part]:
    """The clips of a batch: of all samples at once if they are divided alike, with images behind a clip, else one by one."""
    frames = Frames.of(groups.shape[0], groups.shape[1], groups)
    if frames.clip:
        starts = [0, *range(frames.clip, frames.count)]
        every = [range(frames.clip), *((start,) for start in starts[1:])]
        return [Part(samples=slice(None), frames=list(some), rows=groups[:, some[0]]) for some in every]
    return [
        Part(
            samples=slice(i, i + 1), frames=[j for j, other in enumerate(row) if other == clip], rows=groups.new_tensor([clip])
        )
        for i, row in enumerate(groups.tolist())
        for clip in dict.fromkeys(row)
    ]
