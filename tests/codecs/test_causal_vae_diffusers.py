"""The published autoencoders of video: the same weights give the numbers of diffusers, and convert back without loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from noisereel.codecs.causal_vae import CausalVAE
from noisereel.pretrained.cogvideox_vae import COGVIDEOX_VAE
from noisereel.pretrained.folder import Kind
from noisereel.pretrained.wan_vae import WAN_VAE

wan = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_wan")
cogvideox = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_cogvideox")

WAN = dict(base_dim=8, z_dim=4, latents_mean=[0.1, 0.2, -0.3, 0.0], latents_std=[0.5, 1.0, 2.0, 1.5])
WAN22 = dict(WAN, decoder_base_dim=12, is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
COGVIDEOX = dict(block_out_channels=(8, 16, 16, 24), latent_channels=4, layers_per_block=1, norm_num_groups=4)


def full(kind: Kind, config: Any) -> dict[str, Any]:
    return {name: config.get(name, default) for name, default in kind.defaults.items()}


def both(kind: Kind, peer: Any) -> tuple[Any, CausalVAE]:
    """The peer with random weights of a size that neither fades nor explodes, and ours with the same."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():
            spread = (1 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            noise = torch.randn(parameter.shape) * spread
            parameter.copy_(noise) if parameter.numel() > len(parameter) else parameter.add_(noise)
    config = full(kind, peer.config)
    ours, names = kind.build(config), kind.names(config)
    names.load(ours, peer.state_dict(), "the peer")
    back = names.to_theirs(ours.state_dict())
    assert back.keys() == peer.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in peer.state_dict().items())
    assert isinstance(ours, CausalVAE)
    return peer.eval(), ours.eval()


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(
    ("kind", "build", "config", "frames"),
    [
        (WAN_VAE, wan.AutoencoderKLWan, WAN, (1, 9)),
        (WAN_VAE, wan.AutoencoderKLWan, WAN22, (1, 9)),
        (COGVIDEOX_VAE, cogvideox.AutoencoderKLCogVideoX, COGVIDEOX, (1, 13, 25)),
    ],
    ids=["wan 2.1", "wan 2.2", "cogvideox"],
)
@torch.no_grad()
def test_the_same_weights_give_the_same_numbers(
    kind: Kind, build: Any, config: dict[str, Any], frames: tuple[int, ...]
) -> None:
    peer, ours = both(kind, build(**config))
    for count in frames:
        video = torch.rand(2, 3, count, 32, 48) * 2 - 1
        theirs = peer.encode(video).latent_dist
        mean, logvar = ours.posterior(video)
        assert_close(mean, theirs.mean)
        assert_close(logvar, theirs.logvar)
        if kind is COGVIDEOX_VAE and mean.shape[2] % 2 == 0:
            continue  # the peer decodes an even number of latents to a number of frames that it would not encode to them
        latent = torch.randn_like(mean)
        found = ours.decode_raw(latent)
        assert_close(found.clamp(-1, 1) if kind is WAN_VAE else found, peer.decode(latent).sample)


def test_latents_are_scaled_by_what_the_configuration_says() -> None:
    _, ours = both(WAN_VAE, wan.AutoencoderKLWan(**WAN))
    assert ours.mean.tolist() == pytest.approx(WAN["latents_mean"])
    assert ours.std.tolist() == pytest.approx(WAN["latents_std"])
    _, ours = both(COGVIDEOX_VAE, cogvideox.AutoencoderKLCogVideoX(**COGVIDEOX, scaling_factor=0.7))
    assert ours.std.tolist() == pytest.approx([1 / 0.7] * 4)


@pytest.mark.parametrize(
    ("kind", "config", "millions", "tensors"),
    [
        (WAN_VAE, {}, 126.9, 194),
        (
            WAN_VAE,
            dict(base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, patch_size=2, in_channels=12, out_channels=12)
            | dict(latents_mean=[0.0] * 48, latents_std=[1.0] * 48),
            704.7,
            None,
        ),
        (COGVIDEOX_VAE, {}, 215.6, 436),
    ],
    ids=["wan 2.1", "wan 2.2", "cogvideox"],
)
def test_the_published_sizes_have_their_numbers_of_parameters(
    kind: Kind, config: dict[str, Any], millions: float, tensors: int | None
) -> None:
    with torch.device("meta"):
        ours = kind.build(full(kind, config))
    assert sum(parameter.numel() for parameter in ours.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    if tensors is not None:
        assert len(kind.names(full(kind, config)).expected(ours)) == tensors
