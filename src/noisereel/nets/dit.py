"""The spacetime diffusion transformer of Sora, CogVideoX and Wan (system 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.nets.clip import Clip, ImageHint, parts_of, spans_of
from noisereel.nets.layers import Embedding, ScalarEmbedding, zero
from noisereel.nets.modulation import Modulation, modulated
from noisereel.nets.positions import Positions
from noisereel.nets.tokens import grid_of, patchify, unpatchify
from noisereel.nets.transformer import QK_NORMS, Block, Context, SelfAttention
from noisereel.types import Cond, Times, Video

AnyVideo = Float[Tensor, "b c _ _ _"]
AnyTimes = Float[Tensor, "b"] | Float[Tensor, "b _"]

SCALARS = {"fps": 10.0, "hint_noise": 1000.0, "ofs": 1.0}  # what brings each to the 0..1000 of its sinusoids

CHOICES = {
    "text": ("joint", "cross"),
    "modulation": ("block", "shared"),
    "positions": ("rope", "sincos", "learned"),
    "qk_norm": QK_NORMS,
    "gelu": ("none", "tanh"),
}


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The arguments of ``DiT``, which says what they mean."""

    channels: int = 16
    hint_channels: int = 0
    width: int = 256
    depth: int = 8
    heads: int = 4
    patch: Sequence[int] = (1, 2, 2)
    text: str = "joint"
    text_dim: int = 0
    text_mask: bool = True
    pooled_dim: int = 0
    scalars: Sequence[str] = ()
    modulation: str = "block"
    embed_width: int = 0
    time_width: int = 256
    inner_width: int = 0
    positions: str = "rope"
    axes: Sequence[int] = ()
    fitted: Sequence[int] = ()
    position_scale: Sequence[float] = (1.0, 1.0, 1.0)
    table: Sequence[int] = ()
    image_dim: int = 0
    qk_norm: str = "layer"
    gelu: str = "none"
    norm_affine: bool = False
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if unknown := set(self.scalars) - set(SCALARS):
            raise ValueError(f"scalars has {', '.join(sorted(unknown))}; known are {', '.join(SCALARS)}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width} does not split into {self.heads} heads of an even width")
        if len(self.patch) != 3:
            raise ValueError(f"patch is {tuple(self.patch)}; it needs three sizes: frames, rows, columns")
        if sum(self.split) != self.width // self.heads or any(part % 2 for part in self.split):
            raise ValueError(f"axes is {tuple(self.axes)}; it needs three even widths that make {self.width // self.heads}")
        if self.positions == "sincos" and self.width % 16:
            raise ValueError(f"positions='sincos' needs a width that 16 divides, not {self.width}")
        if (self.positions == "learned") != (len(self.table) == 4):
            raise ValueError("positions='learned' needs a table of four sizes (text, frames, rows, columns), others none")
        if self.image_dim and self.text != "cross":
            raise ValueError("image_dim is for text='cross', whose attention to text it joins")
        if self.modulation == "shared" and self.embed != self.width:
            raise ValueError(f"modulation='shared' needs an embed_width of {self.width}, not {self.embed}")

    @property
    def embed(self) -> int:
        """Width of the conditioning embedding."""
        return self.embed_width or self.width

    @property
    def split(self) -> tuple[int, ...]:
        """How much of a head turns with time, rows and columns."""
        head = self.width // self.heads
        return tuple(self.axes) or (head - 4 * (head // 6), 2 * (head // 6), 2 * (head // 6))


class DiT(nn.Module):
    """A transformer over the patches of a video, in space and time at once; at birth it gives 0, its blocks what they get.

    Args (keywords only; ``DiT(**net.config)`` builds the same network):
        channels: of the video, in and out.
        hint_channels: extra input channels that ``Cond.hint`` brings; the network ignores them at birth.
        width: of the tokens; ``heads`` divides it.
        depth: how many blocks.
        patch: frames, rows and columns of the video that make one token.
        text: "joint" puts text tokens into the sequence before the video's, with a modulation of their own (CogVideoX);
            "cross" lets every block attend to them (Wan).
        text_dim: width of the text tokens; 0 for none.
        text_mask: padding of the text is not looked at; the published CogVideoX and Wan look at it.
        pooled_dim: width of the pooled text that joins the time embedding; 0 for none.
        scalars: which join the time embedding: "fps", "hint_noise", "ofs" (a 2 that CogVideoX 1.5 is told beside an image).
        modulation: "block" gives every block a linear layer to scale, shift and gate with; "shared" gives the network one and
            every block a table to add.
        embed_width: of the time embedding; 0 for ``width``.
        time_width: how many sinusoids the time is told in.
        inner_width: of the feed-forward layers; 0 for ``4 * width``.
        positions: "rope" turns queries and keys with time, row and column; "sincos" adds waves to the tokens; "learned" adds
            a table for videos of one size, and turns (CogVideoX-5B from images).
        axes: how much of a head turns with each; about a third if not given.
        fitted: rows and columns of patches into which every frame is scaled, to be counted there; none counts as it is.
        position_scale: what divides the counts of "sincos".
        table: of "learned": text tokens, frames, rows and columns of patches.
        image_dim: width of the image tokens that ``ImageHint`` brings, attended to beside the text; 0 for none.
        qk_norm: of queries and keys: "none", "layer" of each head, "rms" over all heads.
        gelu: of the feed-forward layers: exact ("none") or approximated by "tanh", as CogVideoX and Wan were trained; PyTorch
            computes the approximation far more slowly on a CPU.
        norm_affine: the norms have weights of their own, and there is one more before the output (CogVideoX).
    """

    folder = "transformer"  # in a diffusers checkpoint

    def __init__(self, **config: Any) -> None:
        super().__init__()
        options = DiTConfig(**config)
        self.config = asdict(options)
        frames, height, width = options.patch
        self.patch = frames, height, width
        self.streams = 2 if options.text == "joint" and options.text_dim else 1  # that have a modulation of their own
        shared, wide, embed = options.modulation == "shared", options.width, options.embed
        volume = frames * height * width
        self.patches = nn.Linear((options.channels + options.hint_channels) * volume, wide)
        with torch.no_grad():
            self.patches.weight[:, options.channels * volume :] = 0
        self.text = text_projection(options) if options.text_dim else None
        self.image = image_projection(options) if options.image_dim else None
        self.time = ScalarEmbedding(options.time_width, embed, unit=1000.0)
        self.scalars = nn.ModuleDict({name: ScalarEmbedding(embed, embed, SCALARS[name]) for name in options.scalars})
        self.pooled = Embedding(options.pooled_dim, embed) if options.pooled_dim else None
        self.positions = Positions(
            options.positions, wide, options.split,
            fitted=options.fitted, scale=options.position_scale, table=options.table,
        )  # fmt: skip
        self.blocks = nn.ModuleList(make_block(options) for _ in range(options.depth))
        self.modulation = zero(nn.Linear(embed, 6 * self.streams * wide)) if shared else None
        self.norm_final = nn.LayerNorm(wide, options.norm_eps) if options.norm_affine else nn.Identity()
        self.norm_out = nn.LayerNorm(wide, options.norm_eps, options.norm_affine)
        self.out_modulation = Modulation(embed, wide, 2, shared=shared)
        self.out = zero(nn.Linear(wide, options.channels * volume))

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        if cond.groups is None:
            return self.packed([x], [t], [cond])[0]
        parts = parts_of(cond.groups)
        videos = [part.of(x) for part in parts]
        times = [t[part.samples] if t.ndim == 1 else t[part.samples][:, part.frames] for part in parts]
        outs = self.packed(videos, times, [part.cond(cond) for part in parts])
        whole = torch.empty_like(x)
        for part, out in zip(parts, outs, strict=True):
            whole[part.samples, :, part.frames] = out
        return whole

    def packed(self, videos: Sequence[AnyVideo], times: Sequence[AnyTimes], conds: Sequence[Cond]) -> list[AnyVideo]:
        """Several videos of any sizes in one sequence, each with its own conditions; equal to running them one by one."""
        clips = [self._clip(x, t, cond) for x, t, cond in zip(videos, times, conds, strict=True)]
        context = self._context(clips)
        tokens = torch.cat([clip.tokens for clip in clips], dim=1)
        for block in self.blocks:
            tokens = block(tokens, context)
        parts = tokens.split([clip.segment.length for clip in clips], dim=1)
        outs = [self._video(part, clip) for part, clip in zip(parts, clips, strict=True)]
        return [out.to(x.dtype) for out, x in zip(outs, videos, strict=True)]

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return math.lcm(*self.patch[1:])

    @property
    def multiple_frames(self) -> int:
        """The number of latent frames must be a multiple of this."""
        return self.patch[0]

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the attention, which mixes space and time at once."""
        for module in self.modules():
            if isinstance(module, SelfAttention):
                yield from module.parameters()

    def _clip(self, x: Video, t: Times, cond: Cond) -> Clip:
        """A video and its text as tokens, and all that the blocks must know of them."""
        grid = grid_of(x, self.patch)
        tokens = self.patches(patchify(self._input(x, cond), self.patch))
        times = row_times(t, self.patch[0])
        embedding = self._embedding(times, cond)
        clip = Clip(tokens=tokens, embedding=embedding, grid=grid, rows=range(t.ndim - 1, times.shape[1]))
        clip = self._with_text(clip, cond)
        return replace(clip, tokens=self.positions.added(clip.tokens, grid, clip.text_length))

    def _with_text(self, clip: Clip, cond: Cond) -> Clip:
        if self.text is None or cond.text is None:
            return clip
        text, mask = self.text(cond.text.tokens.to(clip.tokens.dtype)), cond.text.mask if self.config["text_mask"] else None
        if self.config["text"] == "joint":
            return replace(clip, tokens=torch.cat([text, clip.tokens], dim=1), text_length=text.shape[1], mask=mask)
        image = None
        if self.image is not None and isinstance(cond.hint, ImageHint):
            image = self.image(cond.hint.tokens.to(text.dtype))
        if mask is not None:  # where there is no text at all, zeros are looked at
            some = mask.any(-1)
            text, mask = text * some[:, None, None], mask | ~some[:, None]
        return replace(clip, text=text, mask=mask, image=image)

    def _input(self, x: Video, cond: Cond) -> Float[Tensor, "b c_in t h w"]:
        given = 0 if cond.hint is None else cond.hint.channels.shape[1]
        if given != self.config["hint_channels"]:
            raise ValueError(f"the network takes {self.config['hint_channels']} hint channels and was given {given}")
        x = x if cond.hint is None else torch.cat([x, cond.hint.channels], dim=1)
        return x.to(self.out.weight.dtype)

    def _embedding(self, times: Float[Tensor, "b r"], cond: Cond) -> Float[Tensor, "b r e"]:
        embedding = self.time(times.flatten()).unflatten(0, times.shape)
        values = scalar_values(cond, times)
        for name, embed in self.scalars.items():
            if (value := values[name]) is not None:
                embedding = embedding + embed(value)[:, None]
        if self.pooled is not None and cond.text is not None:
            embedding = embedding + self.pooled(cond.text.pooled.to(self.out.weight.dtype))[:, None]
        return embedding

    def _context(self, clips: Sequence[Clip]) -> Context:
        embedding = torch.cat([clip.embedding for clip in clips], dim=1)
        common = None
        if self.modulation is not None:
            common = self.modulation(F.silu(embedding)).unflatten(-1, (-1, self.config["width"]))
        return Context(
            embedding=embedding,
            common=common,
            spans=spans_of(clips, self.streams),
            segments=tuple(clip.segment for clip in clips),
            rotation=self.positions.rotation([(clip.grid, clip.text_length) for clip in clips], embedding.device),
        )

    def _video(self, tokens: Float[Tensor, "b l d"], clip: Clip) -> Video:
        """The way out, for the video's tokens alone."""
        tokens = self.norm_final(tokens[:, clip.text_length :])
        spans = ((tokens.shape[1], clip.rows),)
        shift, scale = self.out_modulation(clip.embedding, clip.embedding[:, :, None]).unbind(2)
        tokens = self.out(modulated(self.norm_out, tokens, shift, scale, spans))
        return unpatchify(tokens, self.patch, clip.grid)


def text_projection(options: DiTConfig) -> nn.Module:
    """Text tokens at the width of the network: one linear where they join the sequence, two where they are attended to."""
    if options.text == "joint":
        return nn.Linear(options.text_dim, options.width)
    return nn.Sequential(
        nn.Linear(options.text_dim, options.width), nn.GELU(approximate="tanh"), nn.Linear(options.width, options.width)
    )


def image_projection(options: DiTConfig) -> nn.Module:
    """Image tokens at the width of the network (Wan 2.1)."""
    return nn.Sequential(
        nn.LayerNorm(options.image_dim),
        nn.Linear(options.image_dim, options.image_dim),
        nn.GELU(),
        nn.Linear(options.image_dim, options.width),
        nn.LayerNorm(options.width),
    )


def scalar_values(cond: Cond, like: Tensor) -> dict[str, Float[Tensor, "b"] | None]:
    """The numbers that may join the time embedding, by name."""
    noise = None if cond.hint is None else cond.hint.noise
    return {"fps": cond.fps, "hint_noise": noise, "ofs": like.new_full((len(like),), 2.0)}


def make_block(options: DiTConfig) -> Block:
    return Block(
        options.width,
        options.heads,
        inner=options.inner_width or 4 * options.width,
        embed_width=options.embed,
        text=options.text if options.text_dim else "none",
        shared=options.modulation == "shared",
        qk_norm=options.qk_norm,
        gelu=options.gelu,
        affine=options.norm_affine,
        eps=options.norm_eps,
        image=bool(options.image_dim),
    )


def row_times(t: Times, frames: int) -> Float[Tensor, "b r"]:
    """The times of the embedding's rows: of all; or, where each frame has its own, of the text and of each row of patches.

    Text takes the time of the noisiest frame, and so do patches of several ``frames``.
    """
    if t.ndim == 1:
        return t[:, None]
    return torch.cat([t.amax(1, keepdim=True), t.unflatten(1, (-1, frames)).amax(-1)], dim=1)
