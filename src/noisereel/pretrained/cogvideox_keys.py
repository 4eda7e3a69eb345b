"""CogVideoX's transformer, as data about names and configurations."""

from __future__ import annotations

from typing import Any

from noisereel.nets.dit import DiT
from noisereel.pretrained.folder import Config, Kind, expect
from noisereel.pretrained.keymap import KeyMap, Rule, joined, rearranged, same, under
from noisereel.pretrained.rotary_keys import paired, qkv

FIXED: Config = dict(
    flip_sin_to_cos=True, freq_shift=0, attention_bias=True, activation_fn="gelu-approximate", timestep_activation_fn="silu",
    norm_elementwise_affine=True,
)  # fmt: skip
DEFAULTS: Config = {
    **FIXED, "num_attention_heads": 30, "attention_head_dim": 64, "in_channels": 16, "out_channels": 16, "num_layers": 30,
    "time_embed_dim": 512, "ofs_embed_dim": None, "text_embed_dim": 4096, "max_text_seq_length": 226, "norm_eps": 1e-5,
    "sample_width": 90, "sample_height": 60, "sample_frames": 49, "temporal_compression_ratio": 4,
    "patch_size": 2, "patch_size_t": None, "patch_bias": True,
    "spatial_interpolation_scale": 1.875, "temporal_interpolation_scale": 1.0,
    "use_rotary_positional_embeddings": False, "use_learned_positional_embeddings": False,
    "dropout": 0.0,  # of no consequence here
}  # fmt: skip


def config_from(config: Config) -> dict[str, Any]:
    """The arguments of our ``DiT`` for a CogVideoXTransformer3DModel.

    Raises:
        ValueError: a configuration that it cannot express; names the field.
    """
    expect(config, FIXED, "CogVideoXTransformer3DModel")
    expect(config, dict(ofs_embed_dim=(None, config["time_embed_dim"])), "CogVideoXTransformer3DModel")
    expect(config, dict(patch_bias=True if config["patch_size_t"] is None else (True, False)), "CogVideoXTransformer3DModel")
    head, size = config["attention_head_dim"], config["patch_size"]
    return dict(
        channels=config["out_channels"],
        hint_channels=config["in_channels"] - config["out_channels"],
        width=config["num_attention_heads"] * head,
        depth=config["num_layers"],
        heads=config["num_attention_heads"],
        patch=(config["patch_size_t"] or 1, size, size),
        text="joint",
        text_dim=config["text_embed_dim"],
        text_mask=False,
        scalars=("ofs",) if config["ofs_embed_dim"] else (),
        embed_width=config["time_embed_dim"],
        time_width=config["num_attention_heads"] * head,
        axes=(head // 4, head // 8 * 3, head // 8 * 3),
        qk_norm="layer",
        gelu="tanh",
        norm_affine=True,
        norm_eps=config["norm_eps"],
        **positions_from(config),
    )


def positions_from(config: Config) -> dict[str, Any]:
    """The 2B adds waves to its tokens; the 5B turns, and from images also adds a table; 1.5 counts patches as they are."""
    frames = (config["sample_frames"] - 1) // config["temporal_compression_ratio"] + 1
    rows, columns = (config[name] // config["patch_size"] for name in ("sample_height", "sample_width"))
    if not config["use_rotary_positional_embeddings"]:
        expect(config, dict(use_learned_positional_embeddings=False), "CogVideoXTransformer3DModel without rotary positions")
        space = config["spatial_interpolation_scale"]
        return dict(positions="sincos", position_scale=(config["temporal_interpolation_scale"], space, space))
    fitted = (rows, columns) if config["patch_size_t"] is None else ()
    if not config["use_learned_positional_embeddings"]:
        return dict(positions="rope", fitted=fitted)
    return dict(positions="learned", fitted=fitted, table=(config["max_text_seq_length"], frames, rows, columns))


BLOCK = [
    Rule("modulation.linear.{p}", ["norm1.linear.{p}", "norm2.linear.{p}"], joined(2)),
    Rule("{norm}.{p}", "{norm}.norm.{p}"),
    Rule("attention.out.{p}", "attn1.to_out.0.{p}"),
    Rule("feed_forward.up.{p}", "ff.net.0.proj.{p}"),
    Rule("feed_forward.down.{p}", "ff.net.2.{p}"),
]


def names(config: Config) -> KeyMap:
    """Our names and theirs of a CogVideoXTransformer3DModel."""
    flat = rearranged("o c h w", "o (c h w)", h=config["patch_size"], w=config["patch_size"])
    attention = [
        Rule("qkv.{p}", ["to_q.{p}", "to_k.{p}", "to_v.{p}"], qkv(config["num_attention_heads"])),
        Rule("norm_{qk}.{p}", "norm_{qk}.{p}", paired(1)),
    ]
    return KeyMap(
        [
            Rule("patches.weight", "patch_embed.proj.weight", flat if config["patch_size_t"] is None else same),
            Rule("patches.bias", "patch_embed.proj.bias"),
            Rule("text.{p}", "patch_embed.text_proj.{p}"),
            Rule("positions.table", "patch_embed.pos_embedding"),
            *under("time.mlp", "time_embedding", EMBEDDING),
            *under("scalars.ofs.mlp", "ofs_embedding", EMBEDDING),
            *under("blocks.{i}.attention", "transformer_blocks.{i}.attn1", attention),
            *under("blocks.{i}", "transformer_blocks.{i}", BLOCK),
            Rule("norm_final.{p}", "norm_final.{p}"),
            Rule("norm_out.{p}", "norm_out.norm.{p}"),
            Rule("out_modulation.linear.{p}", "norm_out.linear.{p}"),
            Rule("out.{p}", "proj_out.{p}"),
        ]
    )


EMBEDDING = [Rule("0.{p}", "linear_1.{p}"), Rule("2.{p}", "linear_2.{p}")]

TRANSFORMER = Kind(defaults=DEFAULTS, build=lambda config: DiT(**config_from(config)), names=names)
