"""Wan's transformer against diffusers', of every published kind, and both ways of its key map."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peers import loud

from noisereel.nets.clip import ImageHint
from noisereel.nets.dit import DiT
from noisereel.pretrained.folder import complete
from noisereel.pretrained.wan_keys import DEFAULTS, TRANSFORMER, config_from, names
from noisereel.types import Cond, Hint, Text

transformers = pytest.importorskip("diffusers.models.transformers.transformer_wan")

SMALL: dict[str, Any] = dict(num_attention_heads=2, attention_head_dim=16, text_dim=12, num_layers=2, freq_dim=8, ffn_dim=40)
KINDS: dict[str, dict[str, Any]] = {
    "2.1": dict(),
    "2.1 from images": dict(in_channels=36, image_dim=10, added_kv_proj_dim=32),
    "2.2 from images": dict(in_channels=36),
    "2.2 5B": dict(in_channels=48, out_channels=48),
}
TEXT = 512  # a length that is fixed in their code
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def networks(kind: str) -> tuple[Any, DiT]:
    """Theirs with random weights, and ours with the same."""
    torch.manual_seed(0)
    peer = loud(transformers.WanTransformer3DModel(**(SMALL | KINDS[kind])))
    config = complete(dict(peer.config), DEFAULTS, Path("config.json"))
    ours = DiT(**config_from(config))
    names(config).load(ours, peer.state_dict(), "the peer")
    return peer.eval(), ours.eval()


def conditions(kind: str, generator: torch.Generator) -> Cond:
    # They look at the padding of the text, too.
    mask = torch.arange(TEXT) < torch.tensor([[0], [9]])
    text = Text(tokens=torch.randn(2, TEXT, 12, generator=generator), mask=mask, pooled=torch.zeros(2, 1))
    if not kind.endswith("from images"):
        return Cond(text=text)
    channels = torch.randn(2, 20, 3, 6, 4, generator=generator)
    if kind.startswith("2.2"):
        return Cond(text=text, hint=Hint(channels=channels))
    return Cond(text=text, hint=ImageHint(channels=channels, tokens=torch.randn(2, 7, 10, generator=generator)))


@every_kind
def test_the_transformer_computes_what_diffusers_does(kind: str) -> None:
    peer, ours = networks(kind)
    generator = torch.Generator().manual_seed(1)
    x, cond = torch.randn(2, ours.config["channels"], 3, 6, 4, generator=generator), conditions(kind, generator)
    assert cond.text is not None
    given = x if cond.hint is None else torch.cat([x, cond.hint.channels], dim=1)
    image = cond.hint.tokens if isinstance(cond.hint, ImageHint) else None
    # 2.2 5B is told a time for each token; those of a frame are the same
    t = torch.tensor([[0.0, 0.999, 0.999], [0.0, 0.3, 0.3]]) if kind == "2.2 5B" else torch.tensor([0.999, 0.3])
    told = 1000 * (t.repeat_interleave(6, dim=1) if t.ndim == 2 else t)
    with torch.no_grad():
        wanted, out = peer(given, told, cond.text.tokens, image).sample, ours(x, t, cond)
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
    [(dict(num_attention_heads=12, num_layers=30, ffn_dim=8960), 1419.0, 825), (dict(), 14288.5, 1095)],
)
def test_published_sizes(written: dict[str, Any], millions: float, tensors: int) -> None:
    config = complete(written, DEFAULTS, Path("config.json"))
    with torch.device("meta"):
        ours = TRANSFORMER.build(config)
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 1) == millions
    assert len(names(config).expected(ours)) == tensors


def test_what_cannot_be_expressed_is_refused() -> None:
    for wrong in (dict(qk_norm=None), dict(pos_embed_seq_len=514), dict(added_kv_proj_dim=32)):
        with pytest.raises(ValueError, match=f"WanTransformer3DModel with {next(iter(wrong))}="):
            config_from(complete(wrong, DEFAULTS, Path("config.json")))
