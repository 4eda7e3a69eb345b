"""The factorised space-time U-Net of VDM, Make-A-Video, Imagen Video and Video LDM (systems 1 to 4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from noisereel.nets.attention import SpatialAttention, SpatialTransformer
from noisereel.nets.frames import Frames
from noisereel.nets.layers import (
    Context,
    Conv,
    Downsample,
    Embedding,
    Maps,
    NewMaps,
    ResBlock,
    ScalarEmbedding,
    Upsample,
    first_conv,
    zero,
)
from noisereel.nets.norm import FrameNorm
from noisereel.nets.temporal import DeepTemporalBranch, HintEncoder, SeriesConv, Temporal, TemporalAttention, TemporalBranch
from noisereel.nets.temporal_transformer import TemporalTransformer
from noisereel.nets.unet_config import SCALARS, UNetConfig
from noisereel.types import Cond, Groups, Times, Video


class Block(nn.Sequential):
    """Parts applied one after another, all looking at the same context."""

    def forward(self, x: Maps, context: Context) -> NewMaps:  # type: ignore[override]
        for part in self:
            x = part(x, context)
        return x


class UNet(nn.Module):
    """A U-Net over the frames of a video, with parts that mix frames between those that work on each frame.

    Order in a block: residual block, temporal convolution, spatial attention, temporal attention. At birth the output is 0
    and every temporal part is the identity.

    Args (keywords only; ``UNet(**net.config)`` builds the same network):
        channels: of the video, in and out.
        hint_channels: extra channels that ``Cond.hint`` brings; the network ignores them at birth.
        hint_path: they are further "input" channels; or go to the "temporal" convolutions of each level, where an image network
            never sees them, zeros say nothing, and no hint at all is the same as zeros (Video LDM, section 3.2).
        width: channels at full size; each level has its multiple of it in ``multipliers`` and half the size of the last.
        depth: residual blocks going down, on all levels or on each; going up there is one more.
        attention: whether the blocks of each level attend, in space and (unless "none") in time. The middle attends if
            any level does; a network without attention runs at any size.
        attention_kind: "plain" (one residual attention) or "transformer" (Stable Diffusion's).
        head_width: of an attention head, on all levels or on each.
        temporal_attention: "none", or how it knows the order of frames: "relative", "sinusoidal", "rotary", or "unordered",
            which does not.
        temporal_transformer: "none" (one residual attention), or a transformer block whose second attention is to the "text"
            (Video LDM), or to the frames once more, "twice" (text-to-video-sd).
        temporal_entry: heads of a temporal transformer before the first block (text-to-video-sd); 0 for none.
        temporal_conv: "none", "series" after every spatial convolution (Make-A-Video), "residual" blocks (Imagen Video,
            Video LDM), or "deep", four in a row without the time embedding (text-to-video-sd).
        clip_norms: the norms of "deep" convolutions and temporal transformers see all frames of a clip (text-to-video-sd).
        reach: temporal attention looks this many frames far, as a long video asks for; 0 for the whole clip.
        blend: mix the temporal parts in by a learned alpha (Video LDM).
        text_dim: width of the text tokens that are attended to; 0 for none.
        pooled_dim: width of the pooled text that joins the time embedding; 0 for none.
        pooled_tokens: the pooled text also becomes so many tokens, attended to as those of the text are (unCLIP, section 2.1).
        scalars: which of "fps" and "hint_noise" join the time embedding; with hint_path "temporal" that of the temporal
            convolutions alone, so that the image network never hears of them.
        embed_width: of the time embedding; 0 for ``4 * width``.
        norm_groups: groups of the norms, which see one frame at a time.
        scale_shift: the time embedding scales and shifts (FiLM); or, as in Stable Diffusion, only shifts.
        dropout: inside the residual blocks.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        options = UNetConfig(**config)
        self.config = asdict(options)
        parts = Parts(options)
        embed = options.embed
        self.time = ScalarEmbedding(options.width, embed, unit=1000.0)
        self.scalars = nn.ModuleDict({name: ScalarEmbedding(options.width, embed, SCALARS[name]) for name in options.scalars})
        self.pooled = Embedding(options.pooled_dim, embed) if options.pooled_dim else None
        made = options.pooled_tokens * options.text_dim
        self.pooled_tokens = nn.Linear(options.pooled_dim, made) if made else None

        self.hints = HintEncoder(options.hint_channels, options.widths) if options.hint_path == "temporal" else None
        self.conv_in = parts.conv(options.input_channels, options.widths[0])
        self.entry = parts.entry()
        down, middle, up = parts.down(), parts.middle(), parts.up()
        self.blocks = nn.ModuleList([*down, *middle, *up])
        self.ends = len(down), len(down) + len(middle)  # of the way down, and of the middle
        self.norm_out = FrameNorm(options.norm_groups, options.widths[0])
        self.conv_out = parts.conv(options.widths[0], options.channels)
        zero(first_conv(self.conv_out))
        with torch.no_grad():
            first_conv(self.conv_in).weight[:, options.channels :] = 0

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        context = self._context(x, t, cond)
        h = self.conv_in(self._maps(x, cond), context.frames)
        h = h if self.entry is None else self.entry(h, context)
        skips = [h]
        for block in self.blocks[: self.ends[0]]:
            h = block(h, context)
            skips.append(h)
        for block in self.blocks[self.ends[0] : self.ends[1]]:
            h = block(h, context)
        for block in self.blocks[self.ends[1] :]:
            h = block(torch.cat([h, skips.pop()], dim=1), context)
        h = self.conv_out(self.norm_out(h, silu=True), context.frames)
        return rearrange(h, "(b t) c h w -> b c t h w", b=len(x)).to(x.dtype)

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this, to be halved from level to level."""
        return 2 ** (len(self.config["multipliers"]) - 1)

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that mix frames, how much of them is mixed in, and what they alone are told."""
        if self.hints is not None:
            yield from self.hints.parameters()
            yield from self.scalars.parameters()
        for module in self.modules():
            if isinstance(module, Temporal):
                yield from module.parameters()
            elif isinstance(module, SeriesConv):
                yield from module.temporal.parameters()

    def image_parameters(self) -> dict[str, nn.Parameter]:
        """The others, by their names in the same network without temporal parts."""
        temporal = {id(parameter) for parameter in self.temporal_parameters()}
        return {name.replace(".spatial.", "."): p for name, p in self.named_parameters() if id(p) not in temporal}

    def load_image(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of an image network: the same but for its temporal parts, which keep their own.

        Raises:
            ValueError: ``state`` is not that of the same network without temporal parts.
        """
        own = self.image_parameters()
        wrong = sorted(own.keys() ^ state.keys()) or sorted(name for name in own if own[name].shape != state[name].shape)
        if wrong:
            raise ValueError(f"these are not the weights of this network without its temporal parts: see {wrong[0]}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    @torch.no_grad()
    def take(self, other: UNet) -> None:
        """Take the weights of a network that is the same but for the hint it is not given; it does the same then.

        Raises:
            ValueError: it is another network.
        """
        state = dict(other.state_dict())
        (name,) = (name for name, weight in self.named_parameters() if weight is first_conv(self.conv_in).weight)
        columns = torch.zeros_like(self.get_parameter(name))
        try:
            columns[:, : state[name].shape[1]] = state[name]
            self.load_state_dict(state | {name: columns})
        except (KeyError, RuntimeError) as error:
            raise ValueError("these are not the weights of the same network without its hint") from error

    def _maps(self, x: Video, cond: Cond) -> Float[Tensor, "bt c_in h w"]:
        """The input of the first convolution, in channels-last memory."""
        given = 0 if cond.hint is None else cond.hint.channels.shape[1]
        if given != self.config["hint_channels"] and (cond.hint is not None or self.hints is None):
            raise ValueError(f"the network takes {self.config['hint_channels']} hint channels and was given {given}")
        if x.shape[3] % self.multiple or x.shape[4] % self.multiple:
            raise ValueError(f"frames are {x.shape[3]}x{x.shape[4]}; height and width must be multiples of {self.multiple}")
        if cond.hint is not None and self.hints is None:
            x = torch.cat([x, cond.hint.channels], dim=1)
        return self._frames(x)

    def _frames(self, x: Float[Tensor, "b c t h w"]) -> Maps:
        maps = rearrange(x, "b c t h w -> (b t) c h w").to(self.norm_out.weight.dtype)
        return maps.contiguous(memory_format=torch.channels_last)

    def _context(self, x: Video, t: Times, cond: Cond) -> Context:
        frames = Frames.of(len(x), x.shape[2], cond.groups, self.config["reach"])
        embedding, told = self._embedding(t, frames, cond), self._told(frames, cond)
        given: dict[str, Any] = {}
        if self.hints is None:
            embedding = embedding + told
        else:
            given["temporal_embedding"] = silu(embedding + told)
            given["hints"] = () if cond.hint is None else self.hints(self._frames(cond.hint.channels))
        if self.config["text_dim"]:
            given["tokens"], given["mask"] = self._text(embedding, frames, cond)
        return Context(frames=frames, embedding=silu(embedding), **given)

    def _embedding(self, t: Times, frames: Frames, cond: Cond) -> Float[Tensor, "bt e"]:
        """Time and pooled text, of each frame."""
        embedding = self.time(t.flatten())
        if t.ndim == 1:
            embedding = repeat(embedding, "b e -> (b t) e", t=frames.count)
        if self.pooled is not None and cond.text is not None:
            embedding = embedding + per_frame(self.pooled(cond.text.pooled.to(embedding.dtype)), frames, cond.groups)
        return embedding

    def _told(self, frames: Frames, cond: Cond) -> Float[Tensor, "bt e"] | float:
        """The scalars of each frame, summed."""
        told: Tensor | float = 0.0
        if "hint_noise" in self.scalars and cond.hint is not None and cond.hint.noise is not None:
            told = told + repeat(self.scalars["hint_noise"](cond.hint.noise), "b e -> (b t) e", t=frames.count)
        if "fps" in self.scalars and cond.fps is not None:
            told = told + per_frame(self.scalars["fps"](cond.fps), frames, cond.groups)
        return told

    def _text(self, like: Tensor, frames: Frames, cond: Cond) -> tuple[Float[Tensor, "s l d"], Bool[Tensor, "s l"]]:
        """What pixels attend to. Where there is no text at all they see one token of zeros, whose value is zero."""
        if cond.text is None:
            tokens = like.new_zeros(frames.samples, 1, self.config["text_dim"])
            return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=like.device)
        some = cond.text.mask.any(-1)
        tokens = cond.text.tokens.to(like.dtype) * some[:, None, None]
        mask = cond.text.mask | ~some[:, None]
        if self.pooled_tokens is not None:
            more = rearrange(self.pooled_tokens(cond.text.pooled.to(like.dtype)), "n (l d) -> n l d", d=tokens.shape[2])
            tokens, mask = torch.cat([tokens, more], dim=1), torch.cat([mask, mask.new_ones(more.shape[:2])], dim=1)
        if cond.groups is None:
            return tokens, mask
        rows = cond.groups.flatten()
        return tokens[rows], mask[rows]


def per_frame(rows: Float[Tensor, "n e"], frames: Frames, groups: Groups | None) -> Float[Tensor, "bt e"]:
    """The row of each frame's clip."""
    return repeat(rows, "b e -> (b t) e", t=frames.count) if groups is None else rows[groups.flatten()]


@dataclass(frozen=True)
class Parts:
    """Makes the blocks of a U-Net, in the order they run."""

    options: UNetConfig

    def conv(self, width: int, out_width: int, stride: int = 1) -> nn.Module:
        """A 3x3 convolution of each frame, with one over time behind it if the network has them in series."""
        conv = Conv(width, out_width, 3, padding=1, stride=stride)
        return SeriesConv(conv) if self.options.temporal_conv == "series" else conv

    def block(self, width: int, level: int, *, attend: bool) -> Block:
        """A block from ``width`` channels to the level's."""
        options, out_width = self.options, self.options.widths[level]
        settings = {name: getattr(options, name) for name in ("norm_groups", "scale_shift", "dropout")}
        parts: dict[str, nn.Module] = {"res": ResBlock(width, out_width, options.embed, make_conv=self.conv, **settings)}
        if options.temporal_conv in ("residual", "deep"):
            parts["temporal_conv"] = Temporal(self.temporal_conv(level, settings), options.blend)
        if attend:
            heads = max(1, out_width // options.head_widths[level])
            kind = SpatialAttention if options.attention_kind == "plain" else SpatialTransformer
            parts["attention"] = kind(out_width, heads, text_dim=options.text_dim, norm_groups=options.norm_groups)
        if attend and options.temporal_attention != "none":
            parts["temporal_attention"] = Temporal(self.temporal_attention(level, heads), options.blend)
        return Block(OrderedDict(parts))

    def temporal_conv(self, level: int, settings: dict[str, Any]) -> nn.Module:
        """The convolutions over time of a block."""
        options, width = self.options, self.options.widths[level]
        if options.temporal_conv == "residual":
            return TemporalBranch(width, options.embed, level=level, **settings)
        return DeepTemporalBranch(
            width, norm_groups=options.norm_groups, clip_norms=options.clip_norms, dropout=options.dropout
        )

    def temporal_attention(self, level: int, heads: int) -> nn.Module:
        """The attention over time of a block."""
        options, width = self.options, self.options.widths[level]
        if options.temporal_transformer == "none":
            return TemporalAttention(width, heads, options.temporal_attention)
        return TemporalTransformer(
            width,
            heads,
            options.temporal_attention,
            second=options.temporal_transformer,
            head_width=min(width, options.head_widths[level]),
            text_dim=options.text_dim,
            norm_groups=options.norm_groups,
            clip_norms=options.clip_norms,
        )

    def entry(self) -> Temporal | None:
        """The temporal transformer before the first block."""
        options = self.options
        if not options.temporal_entry:
            return None
        return Temporal(self.temporal_attention(0, options.temporal_entry), options.blend)

    def down(self) -> list[Block]:
        """Each of these leaves its output behind for the way up."""
        options, blocks, width = self.options, [], self.options.widths[0]
        for level, out_width in enumerate(options.widths):
            for _ in range(options.depths[level]):
                blocks.append(self.block(width, level, attend=options.attention[level]))
                width = out_width
            if level + 1 < len(options.widths):
                blocks.append(Block(OrderedDict(downsample=Downsample(self.conv(width, width, stride=2)))))
        return blocks

    def middle(self) -> list[Block]:
        """Two blocks at the smallest size, attention between them."""
        last = len(self.options.widths) - 1
        width, attend = self.options.widths[last], any(self.options.attention)
        return [self.block(width, last, attend=attend), self.block(width, last, attend=False)]

    def up(self) -> list[Block]:
        """Each of these also takes what was left behind last: by the way down or, in the end, by the first convolution."""
        options, blocks, width = self.options, [], self.options.widths[-1]
        for level, out_width in reversed(list(enumerate(options.widths))):
            below = options.widths[max(level - 1, 0)]
            for left in [out_width] * options.depths[level] + [below]:
                blocks.append(self.block(width + left, level, attend=options.attention[level]))
                width = out_width
            if level > 0:
                blocks[-1].add_module("upsample", Upsample(self.conv(width, width)))
        return blocks
