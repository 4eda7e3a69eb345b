"""Wan 2.1's and 2.2's autoencoder of videos, as data about names and configurations."""

from __future__ import annotations

from typing import Any

import torch

from noisereel.codecs.causal_vae import CausalVAE
from noisereel.pretrained.folder import Config, Kind, expect
from noisereel.pretrained.keymap import KeyMap, Rule, constant, rearranged, under

FIXED: Config = dict(attn_scales=[], dropout=0.0)
DEFAULTS: Config = {
    **FIXED, "base_dim": 96, "decoder_base_dim": None, "z_dim": 16, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2,
    "temperal_downsample": (False, True, True), "is_residual": False, "in_channels": 3, "out_channels": 3, "patch_size": None,
    "scale_factor_temporal": 4, "scale_factor_spatial": 8,  # these two follow from the others
    "clip_output": True,  # of no consequence here; Wan 2.2 5B was published with it, and diffusers has dropped it
    "latents_mean": (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
                     -0.1922, -0.9497, 0.2503, -0.2921),
    "latents_std": (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
                    1.6382, 1.1253, 2.8251, 1.9160),
}  # fmt: skip


def options(config: Config) -> dict[str, Any]:
    """The arguments of our ``CausalVAE`` for an AutoencoderKLWan.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    patch = config["patch_size"] or 1
    expect(config, {**FIXED, "in_channels": 3 * patch**2, "out_channels": 3 * patch**2}, "AutoencoderKLWan")
    base, decoder_base = config["base_dim"], config["decoder_base_dim"] or config["base_dim"]
    return dict(
        widths=[base * multiplier for multiplier in config["dim_mult"]],
        decoder_widths=[decoder_base * multiplier for multiplier in reversed(config["dim_mult"])],
        halve=["thw" if time else "hw" for time in config["temperal_downsample"]],
        latent_channels=config["z_dim"],
        patch=patch,
        blocks=config["num_res_blocks"],
        resample="residual" if config["is_residual"] else "conv",
        quant=True,
    )


RES = [
    *(Rule(f"norm{n}.gain", f"norm{n}.gamma", rearranged("c 1 1 1", "c")) for n in (1, 2)),
    Rule("shortcut.{p}", "conv_shortcut.{p}"),
    Rule("{conv}.{p}", "{conv}.{p}"),
]
MIDDLE = [
    *under("0", "resnets.0", RES),
    Rule("1.norm.gain", "attentions.0.norm.gamma", rearranged("c 1 1", "c")),
    Rule("1.to_qkv.weight", "attentions.0.to_qkv.weight", rearranged("o i 1 1", "o i")),
    Rule("1.to_out.weight", "attentions.0.proj.weight", rearranged("o i 1 1", "o i")),
    Rule("1.to_qkv.bias", "attentions.0.to_qkv.bias"),
    Rule("1.to_out.bias", "attentions.0.proj.bias"),
    *under("2", "resnets.1", RES),
]
RESAMPLE = [Rule("space.{p}", "resample.1.{p}"), Rule("time.{p}", "time_conv.{p}")]
ENDS = [
    Rule("conv_{end}.{p}", "conv_{end}.{p}"),
    Rule("norm_out.gain", "norm_out.gamma", rearranged("c 1 1 1", "c")),
    *under("middle", "mid_block", MIDDLE),
]


def names(config: Config) -> KeyMap:
    """Our names and theirs of an AutoencoderKLWan, whose scaling is in its configuration."""
    levels, blocks = len(config["dim_mult"]), config["num_res_blocks"]
    rules = [
        Rule("mean", (), constant(torch.tensor(config["latents_mean"]))),
        Rule("std", (), constant(torch.tensor(config["latents_std"]))),
        Rule("quant.{p}", "quant_conv.{p}"),
        Rule("post_quant.{p}", "post_quant_conv.{p}"),
    ]
    for level in range(levels):
        for ours, theirs in down_blocks(level, blocks, config["is_residual"]):
            rules += under(f"encoder.{ours}", f"encoder.{theirs}", RES if int(ours[-1]) < blocks else RESAMPLE)
        for block in range(blocks + 1):
            rules += under(f"decoder.levels.{level}.{block}", f"decoder.up_blocks.{level}.resnets.{block}", RES)
        upsampler = "upsampler" if config["is_residual"] else "upsamplers.0"
        rules += under(f"decoder.levels.{level}.{blocks + 1}", f"decoder.up_blocks.{level}.{upsampler}", RESAMPLE)
    return KeyMap([*rules, *under("encoder", "encoder", ENDS), *under("decoder", "decoder", ENDS)])


def down_blocks(level: int, blocks: int, residual: bool) -> list[tuple[str, str]]:
    """Where the parts of an encoder's level are kept: in one list of all levels, or where it is ``residual`` by level."""
    ours = [f"levels.{level}.{part}" for part in range(blocks + 1)]
    if residual:
        theirs = [f"down_blocks.{level}.resnets.{block}" for block in range(blocks)] + [f"down_blocks.{level}.downsampler"]
    else:
        theirs = [f"down_blocks.{level * (blocks + 1) + part}" for part in range(blocks + 1)]
    return [*zip(ours, theirs, strict=True)]


WAN_VAE = Kind(defaults=DEFAULTS, build=lambda config: CausalVAE(**options(config)), names=names)
