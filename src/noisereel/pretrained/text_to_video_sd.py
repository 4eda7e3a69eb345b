"""Text-to-video-sd (ModelScope, Zeroscope): Stable Diffusion's U-Net with convolutions and transformers over time, as data."""

from __future__ import annotations

from typing import Any

from noisereel.nets.unet import UNet
from noisereel.pretrained.folder import Config, Kind, expect
from noisereel.pretrained.keymap import KeyMap, Rule, rearranged, under
from noisereel.pretrained.stable_diffusion import RES, attention, attention_rules, transformer_rules, unet_rules, widths

ATTENDS = {"CrossAttnDownBlock3D": True, "DownBlock3D": False, "CrossAttnUpBlock3D": True, "UpBlock3D": False}
ENTRY_HEADS = 8

# Fields of UNet3DConditionModel that must have these values, which are their defaults.
FIXED: Config = dict(
    downsample_padding=1, mid_block_scale_factor=1, act_fn="silu", norm_eps=1e-5, num_attention_heads=None,
    time_cond_proj_dim=None,
)  # fmt: skip
DEFAULTS: Config = {
    **FIXED, "sample_size": None, "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
    "up_block_types": ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
    "layers_per_block": 2, "norm_num_groups": 32, "cross_attention_dim": 1024, "attention_head_dim": 64,
}  # fmt: skip


def unet_options(config: Config) -> dict[str, Any]:
    """The arguments of our ``UNet`` for a UNet3DConditionModel.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    expect(config, {**FIXED, "in_channels": config["out_channels"]}, "UNet3DConditionModel")
    width, multipliers = widths(config, "UNet3DConditionModel")
    return dict(
        channels=config["out_channels"],
        width=width,
        multipliers=multipliers,
        depth=config["layers_per_block"],
        attention=attention(config, "UNet3DConditionModel", ATTENDS),
        attention_kind="transformer",
        head_width=config["attention_head_dim"],
        temporal_attention="unordered",
        temporal_transformer="twice",
        temporal_entry=ENTRY_HEADS,
        temporal_conv="deep",
        clip_norms=True,
        text_dim=config["cross_attention_dim"],
        norm_groups=config["norm_num_groups"],
        scale_shift=False,
    )


def temporal_transformer_rules() -> list[Rule]:
    """Of a transformer over time."""
    block = "transformer_blocks.0"
    inner = [
        Rule("attention.norm.{p}", f"{block}.norm1.{{p}}"),
        *attention_rules("attention", f"{block}.attn1"),
        Rule("again.norm.{p}", f"{block}.norm2.{{p}}"),
        *attention_rules("again", f"{block}.attn2"),
        Rule("feed_norm.{p}", f"{block}.norm3.{{p}}"),
        Rule("feed_forward.up.{p}", f"{block}.ff.net.0.proj.{{p}}"),
        Rule("feed_forward.down.{p}", f"{block}.ff.net.2.{{p}}"),
        *(Rule(f"{name}.{{p}}", f"{name}.{{p}}") for name in ("norm", "proj_in", "proj_out")),
    ]
    return under("branch", "", inner)


def deep_conv_rules() -> list[Rule]:
    """Of four convolutions over time; the first has no dropout, so what follows is numbered otherwise."""
    rules = []
    for number, theirs in enumerate(("conv1.2", "conv2.3", "conv3.3", "conv4.3")):
        rules.append(Rule(f"branch.norms.{number}.{{p}}", f"conv{number + 1}.0.{{p}}"))
        rules.append(Rule(f"branch.convs.{number}.conv.weight", f"{theirs}.weight", rearranged("o i k 1 1", "o i k 1")))
        rules.append(Rule(f"branch.convs.{number}.conv.bias", f"{theirs}.bias"))
    return rules


def unet_names(config: Config) -> KeyMap:
    """Our names and theirs of a UNet3DConditionModel."""
    parts = {
        "res": ("resnets", RES),
        "temporal_conv": ("temp_convs", deep_conv_rules()),
        "attention": ("attentions", transformer_rules(linear=True)),
        "temporal_attention": ("temp_attentions", temporal_transformer_rules()),
    }
    return KeyMap([*under("entry", "transformer_in", temporal_transformer_rules()), *unet_rules(config, parts)])


UNET3D = Kind(defaults=DEFAULTS, build=lambda config: UNet(**unet_options(config)), names=unet_names)
