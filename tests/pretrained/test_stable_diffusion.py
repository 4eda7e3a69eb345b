"""Stable Diffusion's networks, made small and at random by diffusers, opened as ours: same numbers, same names, both ways."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from noisereel.pretrained.folder import Component, Kind, open_component, write_component
from noisereel.pretrained.stable_diffusion import UNET2D, VAE, unet_options
from noisereel.types import Cond, Text

KINDS = {"UNet2DConditionModel": UNET2D, "AutoencoderKL": VAE}
UNET: dict[str, Any] = dict(
    block_out_channels=(16, 32, 32), layers_per_block=2, norm_num_groups=4, cross_attention_dim=12, sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip
STYLES = {
    "1.5": dict(attention_head_dim=2),
    "2.1": dict(attention_head_dim=(2, 4, 4), use_linear_projection=True, upcast_attention=True),
}
AUTOENCODER: dict[str, Any] = dict(
    block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
)  # fmt: skip


def opened(peer: Any, folder: Path) -> Component:
    """A peer's network with weights of every kind, saved and opened; its names survive the way there and back."""
    peer.save_pretrained(folder / "peer")
    component = open_component(folder / "peer", KINDS)
    write_component(folder / "back", component)
    again = type(peer).from_pretrained(folder / "back").state_dict()
    assert again.keys() == peer.state_dict().keys()
    assert all(torch.equal(again[name], weight) for name, weight in peer.state_dict().items())
    return component


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest number."""
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("style", list(STYLES))
def test_the_unet_is_the_peer_s(style: str, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.UNet2DConditionModel(**UNET, **STYLES[style]).eval()
    net = opened(peer, tmp_path).module
    x, tokens, t = torch.randn(2, 4, 3, 8, 16), torch.randn(2, 5, 12), torch.tensor([0.125, 0.75])
    out = net(x, t, Cond(text=Text(tokens=tokens, mask=torch.ones(2, 5, dtype=torch.bool), pooled=torch.zeros(2, 1))))
    for frame in range(3):
        assert_close(out[:, :, frame], peer(x[:, :, frame], t * 1000, encoder_hidden_states=tokens).sample)


@torch.no_grad()
def test_the_autoencoder_is_the_peer_s(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.AutoencoderKL(**AUTOENCODER, shift_factor=0.1).eval()
    vae = opened(peer, tmp_path).module
    x = torch.rand(2, 3, 2, 16, 24) * 2 - 1
    mean, logvar = vae.posterior(x)
    latent = vae.encode(x)
    frames = vae.decode(latent)
    for frame in range(2):
        theirs = peer.encode(x[:, :, frame]).latent_dist
        assert_close(mean[:, :, frame], theirs.mean)
        assert_close(logvar[:, :, frame], theirs.logvar)
        assert_close(latent[:, :, frame], (theirs.mean - 0.1) * 0.18215)
        assert_close(frames[:, :, frame], peer.decode(theirs.mean).sample)


def test_the_names_that_the_published_autoencoders_have(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.AutoencoderKL(**AUTOENCODER)
    vae = opened(peer, tmp_path).module
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = peer.state_dict()
    for new, name in old.items():
        weights = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): value for key, value in weights.items()}
    save_file(weights, tmp_path / "peer" / "diffusion_pytorch_model.safetensors")
    again = open_component(tmp_path / "peer", KINDS).module
    assert sum("proj_attn" in name for name in weights) == 4
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in vae.state_dict().items())


SIZES = {
    "1.5": (UNET2D, dict(cross_attention_dim=768), 859_520_964),
    "2.1": (
        UNET2D,
        dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True),
        865_910_724,
    ),
    "autoencoder": (
        VAE,
        dict(
            block_out_channels=[128, 256, 512, 512], layers_per_block=2, down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        ),
        83_653_863,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SIZES))
def test_the_published_sizes(name: str) -> None:
    kind, config, count = SIZES[name]
    assert parameters(kind, config) == count


def parameters(kind: Kind, config: dict[str, Any]) -> int:
    """How many parameters a configuration has, and that the map of names covers them."""
    whole = {**kind.defaults, **config}
    with torch.device("meta"):
        net = kind.build(whole)
    theirs = kind.names(whole).expected(net)
    found = sum(parameter.numel() for parameter in net.parameters())
    assert sum(weight.numel() for weight in theirs.values()) == found
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(act_fn="gelu"), "UNet2DConditionModel with act_fn='gelu' is not supported, only with 'silu'"),
        (dict(num_class_embeds=10), "num_class_embeds=10 is not supported, only with None"),
        (dict(in_channels=9), "in_channels=9 is not supported, only with 4"),
        (dict(block_out_channels=(320, 500)), r"block_out_channels=\[320, 500\] is not supported, only with multiples"),
        (dict(down_block_types=("AttnDownBlock2D",) * 4), "blocks of type AttnDownBlock2D is not supported"),
        (dict(up_block_types=("UpBlock2D",) * 4), "only mirrored ones"),
    ],
)
def test_a_unet_that_cannot_be_expressed_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unet_options({**UNET2D.defaults, **change})
