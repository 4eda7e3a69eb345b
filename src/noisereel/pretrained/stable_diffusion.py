"""Stable Diffusion 1.x and 2.x: the U-Net and the autoencoder of images, as data about names and configurations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from noisereel.codecs.frame_vae import FrameVAE
from noisereel.nets.unet import UNet
from noisereel.pretrained.folder import Config, Kind, expect
from noisereel.pretrained.keymap import KeyMap, Rule, constant, rearranged, same, under

ATTENDS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True, "UpBlock2D": False}

# Fields of UNet2DConditionModel that must have these values, which are their defaults.
UNET_FIXED: Config = dict(
    center_input_sample=False, flip_sin_to_cos=True, freq_shift=0, mid_block_type="UNetMidBlock2DCrossAttn",
    only_cross_attention=False, downsample_padding=1, mid_block_scale_factor=1, act_fn="silu", norm_eps=1e-5,
    transformer_layers_per_block=1, reverse_transformer_layers_per_block=None, encoder_hid_dim=None, encoder_hid_dim_type=None,
    dual_cross_attention=False, class_embed_type=None, addition_embed_type=None, addition_time_embed_dim=None,
    num_class_embeds=None, resnet_time_scale_shift="default", resnet_skip_time_act=False, resnet_out_scale_factor=1.0,
    time_embedding_type="positional", time_embedding_dim=None, time_embedding_act_fn=None, timestep_post_act=None,
    time_cond_proj_dim=None, conv_in_kernel=3, conv_out_kernel=3, projection_class_embeddings_input_dim=None,
    attention_type="default", class_embeddings_concat=False, mid_block_only_cross_attention=None, cross_attention_norm=None,
)  # fmt: skip
UNET_DEFAULTS: Config = {
    **UNET_FIXED, "sample_size": None, "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2, "dropout": 0.0, "norm_num_groups": 32, "cross_attention_dim": 1280, "attention_head_dim": 8,
    "num_attention_heads": None, "use_linear_projection": False,
    "upcast_attention": False, "addition_embed_type_num_heads": 64,  # of no consequence here
}  # fmt: skip

VAE_FIXED: Config = dict(
    in_channels=3, out_channels=3, act_fn="silu", use_quant_conv=True, use_post_quant_conv=True, mid_block_add_attention=True,
    latents_mean=None, latents_std=None,
)  # fmt: skip
VAE_DEFAULTS: Config = {
    **VAE_FIXED, "down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 32,
    "scaling_factor": 0.18215, "shift_factor": None, "sample_size": 32, "force_upcast": True,  # the last two: of no consequence
}  # fmt: skip


def unet_options(config: Config) -> dict[str, Any]:
    """The arguments of our ``UNet`` for a UNet2DConditionModel.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    expect(config, {**UNET_FIXED, "in_channels": config["out_channels"]}, "UNet2DConditionModel")
    width, multipliers = widths(config, "UNet2DConditionModel")
    heads = config["num_attention_heads"] or config["attention_head_dim"]  # the second is the number of heads, not their width
    heads = [heads] * len(multipliers) if isinstance(heads, int) else heads
    return dict(
        channels=config["out_channels"],
        width=width,
        multipliers=multipliers,
        depth=config["layers_per_block"],
        attention=attention(config, "UNet2DConditionModel", ATTENDS),
        attention_kind="transformer",
        head_width=[width * multiplier // count for multiplier, count in zip(multipliers, heads, strict=True)],
        temporal_attention="none",
        text_dim=config["cross_attention_dim"],
        norm_groups=config["norm_num_groups"],
        scale_shift=False,
        dropout=config["dropout"],
    )


def vae_options(config: Config) -> dict[str, Any]:
    """The arguments of our ``FrameVAE`` for an AutoencoderKL.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    expect(config, VAE_FIXED, "AutoencoderKL")
    width, multipliers = widths(config, "AutoencoderKL")
    for field, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        expect({field: list(config[field])}, {field: ([kind] * len(multipliers),)}, "AutoencoderKL")
    return dict(
        channels=config["latent_channels"],
        width=width,
        multipliers=multipliers,
        depth=config["layers_per_block"],
        norm_groups=config["norm_num_groups"],
    )


def widths(config: Config, where: str) -> tuple[int, list[int]]:
    """The width of the first level, and what each level multiplies it with."""
    first, *_ = found = list(config["block_out_channels"])
    if any(width % first for width in found):
        raise ValueError(f"{where} with block_out_channels={found} is not supported, only with multiples of the first")
    return first, [width // first for width in found]


def attention(config: Config, where: str, attends: Mapping[str, bool]) -> list[bool]:
    """Whether each level attends, by the names of the blocks of the way down and of the way up."""
    down, up = list(config["down_block_types"]), list(config["up_block_types"])
    if unknown := sorted({*down, *up} - attends.keys()):
        raise ValueError(f"{where} with blocks of type {', '.join(unknown)} is not supported, only {', '.join(attends)}")
    levels = [attends[name] for name in down]
    if levels != [attends[name] for name in reversed(up)] or len(levels) != len(config["block_out_channels"]):
        raise ValueError(
            f"{where} with blocks {', '.join(down)} down and {', '.join(up)} up is not supported, only mirrored ones"
        )
    return levels


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block of ours, ``blocks.{number}``, is kept by diffusers: part ``index`` of each list below ``prefix``."""

    number: int
    prefix: str
    index: int


def places(levels: int, depth: int) -> Iterator[Place]:
    """The blocks of a U-Net in the order they run; a down-sampling is a block of its own."""
    down = [Place(number=0, prefix=f"down_blocks.{i}", index=j) for i in range(levels) for j in range(depth + (i < levels - 1))]
    middle = [Place(number=0, prefix="mid_block", index=j) for j in range(2)]
    up = [Place(number=0, prefix=f"up_blocks.{i}", index=j) for i in range(levels) for j in range(depth + 1)]
    for number, place in enumerate([*down, *middle, *up]):
        yield Place(number=number, prefix=place.prefix, index=place.index)


RES = [
    Rule("embed.{p}", "time_emb_proj.{p}"),
    Rule("shortcut.{p}", "conv_shortcut.{p}"),
    Rule("{part}.{p}", "{part}.{p}"),
]


def attention_rules(ours: str, theirs: str) -> list[Rule]:
    """Of queries, keys, values and output."""
    return [Rule(f"{ours}.to_out.{{p}}", f"{theirs}.to_out.0.{{p}}"), Rule(f"{ours}.{{x}}.{{p}}", f"{theirs}.{{x}}.{{p}}")]


def transformer_rules(linear: bool) -> list[Rule]:
    """Of a spatial transformer; where it is not ``linear`` its first and last layers are 1x1 convolutions there."""
    block = "transformer_blocks.0"
    change = same if linear else rearranged("o i 1 1", "o i")
    return [
        *(Rule(f"{name}.weight", f"{name}.weight", change) for name in ("proj_in", "proj_out")),
        *(Rule(f"{name}.bias", f"{name}.bias") for name in ("proj_in", "proj_out")),
        Rule("norm.{p}", "norm.{p}"),
        *(Rule(f"norm{n}.{{p}}", f"{block}.norm{n}.{{p}}") for n in (1, 2, 3)),
        *attention_rules("attention", f"{block}.attn1"),
        *attention_rules("text_attention", f"{block}.attn2"),
        Rule("feed_forward.up.{p}", f"{block}.ff.net.0.proj.{{p}}"),
        Rule("feed_forward.down.{p}", f"{block}.ff.net.2.{{p}}"),
    ]


OUTSIDE = [
    Rule("time.mlp.0.{p}", "time_embedding.linear_1.{p}"),
    Rule("time.mlp.2.{p}", "time_embedding.linear_2.{p}"),
    Rule("conv_in.{p}", "conv_in.{p}"),
    Rule("norm_out.{p}", "conv_norm_out.{p}"),
    Rule("conv_out.{p}", "conv_out.{p}"),
]


def unet_rules(config: Config, parts: Mapping[str, tuple[str, Sequence[Rule]]]) -> list[Rule]:
    """Of a U-Net whose blocks have ``parts``: ours by name, with the list they are kept in there and the rules of one."""
    rules = list(OUTSIDE)
    for place in places(len(config["block_out_channels"]), config["layers_per_block"]):
        ours, theirs = f"blocks.{place.number}", place.prefix
        for name, (where, inner) in parts.items():
            rules += under(f"{ours}.{name}", f"{theirs}.{where}.{place.index}", inner)
        if place.index == config["layers_per_block"] and theirs != "mid_block":
            name = f"{theirs.split('_')[0]}sample"
            rules.append(Rule(f"{ours}.{name}.conv.{{p}}", f"{theirs}.{name}rs.0.conv.{{p}}"))
    return rules


def unet_names(config: Config) -> KeyMap:
    """Our names and theirs of a UNet2DConditionModel."""
    transformer = transformer_rules(config["use_linear_projection"])
    return KeyMap(unet_rules(config, {"res": ("resnets", RES), "attention": ("attentions", transformer)}))


def vae_names(config: Config) -> KeyMap:
    """Our names and theirs of an AutoencoderKL, whose scaling is in its configuration."""
    levels, depth, channels = len(config["block_out_channels"]), config["layers_per_block"], config["latent_channels"]
    middle = [("mid_block", 0), ("mid_block", 1)]
    down = [(f"down_blocks.{i}", j) for i in range(levels) for j in range(depth)] + middle
    up = middle + [(f"up_blocks.{i}", j) for i in range(levels) for j in range(depth + 1)]
    return KeyMap(
        [
            Rule("mean", (), constant(torch.full((channels,), config["shift_factor"] or 0.0))),
            Rule("std", (), constant(torch.full((channels,), 1 / config["scaling_factor"]))),
            Rule("quant.{p}", "quant_conv.{p}"),
            Rule("post_quant.{p}", "post_quant_conv.{p}"),
            *under("encoder", "encoder", tower_rules(down, "down", depth - 1)),
            *under("decoder", "decoder", tower_rules(up, "up", depth)),
        ]
    )


def tower_rules(blocks: Sequence[tuple[str, int]], way: str, last: int) -> list[Rule]:
    """Of an encoder or a decoder, by where its blocks are kept there; the ``last`` of a level changes the size."""
    rules = []
    for number, (theirs, j) in enumerate(blocks):
        ours = f"blocks.{number}"
        rules += under(f"{ours}.res", f"{theirs}.resnets.{j}", RES)
        if theirs == "mid_block" and j == 0:
            rules.append(Rule(f"{ours}.attention.norm.{{p}}", f"{theirs}.attentions.0.group_norm.{{p}}"))
            rules += attention_rules(f"{ours}.attention", f"{theirs}.attentions.0")
        elif j == last:
            rules.append(Rule(f"{ours}.resize.conv.{{p}}", f"{theirs}.{way}samplers.0.conv.{{p}}"))
    return [*rules, Rule("norm_out.{p}", "conv_norm_out.{p}"), Rule("conv_{end}.{p}", "conv_{end}.{p}")]


OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OLD_NAME = re.compile(rf"(?<=attentions\.0\.)({'|'.join(OLD_NAMES)})(?=\.)")


def current_vae_name(name: str) -> str:
    """Today's name of an autoencoder's weight; the published Stable Diffusion calls those of its attention as in 2022."""
    return OLD_NAME.sub(lambda match: OLD_NAMES[match[0]], name)


UNET2D = Kind(defaults=UNET_DEFAULTS, build=lambda config: UNet(**unet_options(config)), names=unet_names)
VAE = Kind(
    defaults=VAE_DEFAULTS, build=lambda config: FrameVAE(**vae_options(config)), names=vae_names, current=current_vae_name
)
