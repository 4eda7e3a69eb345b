"""CogVideoX's autoencoder of videos, as data about names and configurations."""

from __future__ import annotations

from typing import Any

import torch

from noisereel.codecs.causal_vae import CausalVAE
from noisereel.pretrained.folder import Config, Kind, expect
from noisereel.pretrained.keymap import KeyMap, Rule, constant, under

FIXED: Config = dict(
    in_channels=3, out_channels=3, act_fn="silu", norm_eps=1e-6, shift_factor=None, latents_mean=None, latents_std=None,
    use_quant_conv=False, use_post_quant_conv=False,
)  # fmt: skip
DEFAULTS: Config = {
    **FIXED, "down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (128, 256, 256, 512), "latent_channels": 16, "layers_per_block": 3, "norm_num_groups": 32,
    "temporal_compression_ratio": 4, "scaling_factor": 1.15258426,
    "sample_height": 480, "sample_width": 720, "force_upcast": True,  # these and the next are of no consequence here
    "invert_scale_latents": False,
}  # fmt: skip


def options(config: Config) -> dict[str, Any]:
    """The arguments of our ``CausalVAE`` for an AutoencoderKLCogVideoX.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    expect(config, FIXED, "AutoencoderKLCogVideoX")
    levels, time = len(config["block_out_channels"]), config["temporal_compression_ratio"]
    steps = ["thw" if 2**level < time else "hw" for level in range(levels - 1)]
    return dict(
        widths=config["block_out_channels"],
        halve=steps,
        double=steps,  # the first levels of either half change the time, which are not the same levels
        latent_channels=config["latent_channels"],
        blocks=config["layers_per_block"],
        attention=False,
        resample="pool",
        norm_groups=config["norm_num_groups"],
        pad="first",
        chunk=2,
    )


NORM = [
    Rule("scale.{p}", "conv_y.conv.{p}"),
    Rule("shift.{p}", "conv_b.conv.{p}"),
    Rule("{p}", "norm_layer.{p}"),
]
GROUP_NORM = [Rule("{p}", "{p}")]


def half(levels: int, blocks: int, way: str, norm: list[Rule]) -> list[Rule]:
    """Of an encoder or a decoder, which have other norms."""
    res = [*under("norm1", "norm1", norm), *under("norm2", "norm2", norm), *BLOCK]
    rules = [Rule("conv_{end}.{p}", "conv_{end}.conv.{p}"), *under("norm_out", "norm_out", norm)]
    for block in range(2):
        rules += under(f"middle.{block}", f"mid_block.resnets.{block}", res)
    for level in range(levels):
        for block in range(blocks):
            rules += under(f"levels.{level}.{block}", f"{way}_blocks.{level}.resnets.{block}", res)
        rules.append(Rule(f"levels.{level}.{blocks}.space.{{p}}", f"{way}_blocks.{level}.{way}samplers.0.conv.{{p}}"))
    return rules


BLOCK = [Rule("shortcut.{p}", "conv_shortcut.{p}"), Rule("conv1.{p}", "conv1.conv.{p}"), Rule("conv2.{p}", "conv2.conv.{p}")]


def names(config: Config) -> KeyMap:
    """Our names and theirs of an AutoencoderKLCogVideoX, whose scaling is in its configuration."""
    levels, blocks, channels = len(config["block_out_channels"]), config["layers_per_block"], config["latent_channels"]
    return KeyMap(
        [
            Rule("mean", (), constant(torch.zeros(channels))),
            Rule("std", (), constant(torch.full((channels,), 1 / config["scaling_factor"]))),
            *under("encoder", "encoder", half(levels, blocks, "down", GROUP_NORM)),
            *under("decoder", "decoder", half(levels, blocks + 1, "up", NORM)),
        ]
    )


COGVIDEOX_VAE = Kind(defaults=DEFAULTS, build=lambda config: CausalVAE(**options(config)), names=names)
