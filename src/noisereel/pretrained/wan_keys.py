"""Wan's transformer, as data about names and configurations."""

from __future__ import annotations

from typing import Any

from noisereel.nets.dit import DiT
from noisereel.pretrained.folder import Config, Kind, expect
from noisereel.pretrained.keymap import KeyMap, Rule, joined, rearranged, under
from noisereel.pretrained.rotary_keys import paired, qkv

FIXED: Config = dict(qk_norm="rms_norm_across_heads", cross_attn_norm=True, eps=1e-6, pos_embed_seq_len=None)
DEFAULTS: Config = {
    **FIXED, "patch_size": (1, 2, 2), "num_attention_heads": 40, "attention_head_dim": 128, "in_channels": 16,
    "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 13824, "num_layers": 40, "image_dim": None,
    "added_kv_proj_dim": None, "rope_max_seq_len": 1024,  # the last is of no consequence here
}  # fmt: skip


def config_from(config: Config) -> dict[str, Any]:
    """The arguments of our ``DiT`` for a WanTransformer3DModel.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    width = config["num_attention_heads"] * config["attention_head_dim"]
    image = width if config["image_dim"] else None
    expect(config, {**FIXED, "added_kv_proj_dim": image}, "WanTransformer3DModel")
    channels = config["out_channels"] or config["in_channels"]
    return dict(
        channels=channels,
        hint_channels=config["in_channels"] - channels,
        width=width,
        depth=config["num_layers"],
        heads=config["num_attention_heads"],
        patch=tuple(config["patch_size"]),
        text="cross",
        text_dim=config["text_dim"],
        text_mask=False,
        image_dim=config["image_dim"] or 0,
        modulation="shared",
        time_width=config["freq_dim"],
        inner_width=config["ffn_dim"],
        qk_norm="rms",
        gelu="tanh",
    )


EMBEDDING = [Rule("0.{p}", "linear_1.{p}"), Rule("2.{p}", "linear_2.{p}")]
IMAGE = [
    Rule("0.{p}", "norm1.{p}"),
    Rule("1.{p}", "ff.net.0.proj.{p}"),
    Rule("3.{p}", "ff.net.2.{p}"),
    Rule("4.{p}", "norm2.{p}"),
]
TO_TEXT = [
    Rule("q.{p}", "to_q.{p}"),
    Rule("kv.{p}", ["to_k.{p}", "to_v.{p}"], joined(2)),
    Rule("image_kv.{p}", ["add_k_proj.{p}", "add_v_proj.{p}"], joined(2)),
    Rule("norm_image_k.{p}", "norm_added_k.{p}"),
    Rule("norm_{qk}.{p}", "norm_{qk}.{p}"),
    Rule("out.{p}", "to_out.0.{p}"),
]


def block(heads: int) -> list[Rule]:
    """Of one block; only queries and keys that turn are in another order."""
    to_itself = [
        Rule("qkv.{p}", ["to_q.{p}", "to_k.{p}", "to_v.{p}"], qkv(heads)),
        Rule("norm_{qk}.{p}", "norm_{qk}.{p}", paired(heads)),
        Rule("out.{p}", "to_out.0.{p}"),
    ]
    return [
        Rule("modulation.table", "scale_shift_table"),
        *under("attention", "attn1", to_itself),
        *under("text_attention", "attn2", TO_TEXT),
        Rule("text_norm.{p}", "norm2.{p}"),
        Rule("feed_forward.up.{p}", "ffn.net.0.proj.{p}"),
        Rule("feed_forward.down.{p}", "ffn.net.2.{p}"),
    ]


def names(config: Config) -> KeyMap:
    """Our names and theirs of a WanTransformer3DModel."""
    frames, height, width = config["patch_size"]
    patch = dict(t=frames, h=height, w=width)
    out = rearranged("(t h w c) ...", "(c t h w) ...", **patch)
    return KeyMap(
        [
            Rule("patches.weight", "patch_embedding.weight", rearranged("o c t h w", "o (c t h w)", **patch)),
            Rule("patches.bias", "patch_embedding.bias"),
            *under("time.mlp", "condition_embedder.time_embedder", EMBEDDING),
            *under("text", "condition_embedder.text_embedder", EMBEDDING),
            *under("image", "condition_embedder.image_embedder", IMAGE),
            Rule("modulation.{p}", "condition_embedder.time_proj.{p}"),
            *under("blocks.{i}", "blocks.{i}", block(config["num_attention_heads"])),
            Rule("out_modulation.table", "scale_shift_table"),
            Rule("out.{p}", "proj_out.{p}", out),
        ]
    )


TRANSFORMER = Kind(defaults=DEFAULTS, build=lambda config: DiT(**config_from(config)), names=names)
