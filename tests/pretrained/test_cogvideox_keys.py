"""CogVideoX's transformer against diffusers', of every published kind, and both ways of its key map."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peers import loud

from noisereel.nets.dit import DiT
from noisereel.pretrained.cogvideox_keys import DEFAULTS, TRANSFORMER, config_from, names
from noisereel.pretrained.folder import complete
from noisereel.types import Cond, Hint, Text

cogvideox = pytest.importorskip("diffusers.pipelines.cogvideo.pipeline_cogvideox")

SMALL: dict[str, Any] = dict(
    num_attention_heads=2, attention_head_dim=16, text_embed_dim=12, num_layers=2, time_embed_dim=24, sample_width=12,
    sample_height=8, sample_frames=9, max_text_seq_length=5,
)  # fmt: skip
TURNING: dict[str, Any] = dict(use_rotary_positional_embeddings=True)
KINDS: dict[str, dict[str, Any]] = {
    "2B": dict(),
    "5B": TURNING,
    "5B from images": TURNING | dict(use_learned_positional_embeddings=True, in_channels=32),
    "1.5": TURNING | dict(patch_size_t=2, patch_bias=False),
    "1.5 from images": TURNING | dict(patch_size_t=2, patch_bias=False, in_channels=32, ofs_embed_dim=24),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def networks(kind: str) -> tuple[Any, DiT]:
    """Theirs with random weights, and ours with the same."""
    torch.manual_seed(0)
    peer = loud(cogvideox.CogVideoXTransformer3DModel(**(SMALL | KINDS[kind])))
    if kind == "5B from images":
        peer.patch_embed.pos_embedding = torch.randn(peer.patch_embed.pos_embedding.shape)
    config = complete(dict(peer.config), DEFAULTS, Path("config.json"))
    ours = DiT(**config_from(config))
    names(config).load(ours, peer.state_dict(), "the peer")
    return peer.eval(), ours.eval()


def theirs(peer: Any, x: torch.Tensor, t: torch.Tensor, cond: Cond) -> torch.Tensor:
    """What their pipeline asks their transformer, and gets."""
    assert cond.text is not None
    pipeline = type("Pipeline", (), dict(vae_scale_factor_spatial=8, transformer=peer))()
    turn = None
    if peer.config.use_rotary_positional_embeddings:
        make = cogvideox.CogVideoXPipeline._prepare_rotary_positional_embeddings
        turn = make(pipeline, 8 * x.shape[3], 8 * x.shape[4], x.shape[2], torch.device("cpu"))
    given = x if cond.hint is None else torch.cat([x, cond.hint.channels], dim=1)
    ofs = torch.full((1,), 2.0) if peer.config.ofs_embed_dim else None
    out = peer(given.transpose(1, 2), cond.text.tokens, 1000 * t, ofs=ofs, image_rotary_emb=turn).sample
    return out.transpose(1, 2)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("2B", (3, 8, 12)),
        ("2B", (5, 6, 4)),  # of another size than trained for
        ("5B", (3, 8, 12)),
        ("5B", (1, 6, 4)),
        ("5B from images", (3, 8, 12)),
        ("1.5", (2, 4, 12)),
        ("1.5 from images", (4, 8, 12)),
    ],
)
def test_the_transformer_computes_what_diffusers_does(kind: str, shape: tuple[int, int, int]) -> None:
    peer, ours = networks(kind)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 16, *shape, generator=generator)
    # They look at the padding of the text, too.
    mask = torch.arange(5) < torch.tensor([[0], [3]])
    text = Text(tokens=torch.randn(2, 5, 12, generator=generator), mask=mask, pooled=torch.zeros(2, 1))
    hint = Hint(channels=torch.randn(x.shape, generator=generator)) if ours.config["hint_channels"] else None
    t, cond = torch.tensor([0.999, 0.3]), Cond(text=text, hint=hint)
    with torch.no_grad():
        wanted, out = theirs(peer, x, t, cond), ours(x, t, cond)
    assert float((out - wanted).abs().max() / wanted.abs().max()) < 1e-5


@every_kind
def test_weights_go_back_as_they_came(kind: str) -> None:
    peer, ours = networks(kind)
    config = complete(dict(peer.config), DEFAULTS, Path("config.json"))
    back, state = names(config).to_theirs(ours.state_dict()), peer.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("written", "millions", "tensors"),
    [(dict(), 1693.8, 736), (dict(num_attention_heads=48, num_layers=42, **TURNING), 5570.3, 1024)],
)
def test_published_sizes(written: dict[str, Any], millions: float, tensors: int) -> None:
    config = complete(written, DEFAULTS, Path("config.json"))
    with torch.device("meta"):
        ours = TRANSFORMER.build(config)
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 1) == millions
    assert len(names(config).expected(ours)) == tensors


def test_what_cannot_be_expressed_is_refused() -> None:
    for wrong in (dict(norm_elementwise_affine=False), dict(patch_bias=False), dict(ofs_embed_dim=64)):
        with pytest.raises(ValueError, match=f"CogVideoXTransformer3DModel with {next(iter(wrong))}="):
            config_from(complete(wrong, DEFAULTS, Path("config.json")))
