"""The frame autoencoder: every frame by itself, a decoder that is born the image decoder, and scaling inside."""

import json
from typing import Any

import pytest
import torch

from noisereel.codecs.causal_resample import FoldedMean, UnfoldedCopy
from noisereel.codecs.frame_layers import Block, Down, Up
from noisereel.codecs.frame_vae import FrameVAE
from noisereel.types import Codec

SMALL: dict[str, Any] = dict(channels=4, width=8, multipliers=(1, 2, 2), depth=1, norm_groups=4)


def vae(**config: Any) -> FrameVAE:
    torch.manual_seed(0)
    return FrameVAE(**(SMALL | config))


def video(frames: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_shapes_and_protocol() -> None:
    made = vae()
    assert isinstance(made, Codec)
    assert (made.channels, made.stride, made.lead) == (4, (1, 4, 4), 0)
    with torch.no_grad():
        latent = made.encode(video())
        assert latent.shape == (2, 4, 3, 4, 6)
        assert made.decode(latent).shape == (2, 3, 3, 16, 24)


def test_a_frame_is_coded_by_itself() -> None:
    made, x = vae(), video()
    with torch.no_grad():
        changed = x.clone()
        changed[:, :, 1] += 1
        difference = (made.encode(changed) - made.encode(x)).abs().amax((0, 1, 3, 4))
        assert difference[1] > 1e-3
        assert difference[[0, 2]].max() == 0.0
        latent = made.encode(x)
        alone = torch.cat([made.decode(latent[:, :, [j]]) for j in range(3)], dim=2)
        torch.testing.assert_close(made.decode(latent), alone, rtol=1e-5, atol=1e-6)


def test_the_temporal_decoder_is_born_the_image_decoder() -> None:
    image, tuned = vae(), vae(temporal=True)
    image.mean += 0.5
    tuned.load_image(image.state_dict())
    latent = image.encode(video())
    with torch.no_grad():
        assert torch.equal(tuned.decode(latent), image.decode(latent))
        for parameter in tuned.temporal_parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        assert not torch.allclose(tuned.decode(latent), image.decode(latent), atol=1e-3)
        one = latent[:, :, :1]
        assert torch.equal(tuned.decode(one), image.decode(one))
        assert torch.equal(tuned.encode(video()), image.encode(video()))


def test_training_the_temporal_decoder_moves_nothing_else() -> None:
    tuned, x = vae(temporal=True), video()
    temporal = {id(parameter) for parameter in tuned.temporal_parameters()}
    before = {name: parameter.clone() for name, parameter in tuned.named_parameters()}
    optimiser = torch.optim.AdamW(tuned.temporal_parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        (tuned.decode(tuned.encode(x)) - x).square().mean().backward()
        optimiser.step()
    for name, parameter in tuned.named_parameters():
        assert torch.equal(parameter, before[name]) != (id(parameter) in temporal), name


def test_many_frames_are_coded_a_few_at_a_time() -> None:
    made, x = vae(), video(frames=19)
    latent = made.encode(x)
    with torch.no_grad():
        torch.testing.assert_close(made.encode(x), latent, rtol=1e-5, atol=1e-6)
        pixels = made.decode(latent)
    torch.testing.assert_close(made.decode(latent), pixels, rtol=1e-5, atol=1e-6)


def test_scaling_is_inside() -> None:
    made, x = vae(), video()
    with torch.no_grad():
        plain, pixels = made.encode(x), made.decode(made.encode(x))
        made.mean.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
        made.std.copy_(torch.tensor([2.0, 0.5, 5.0, 1.0]))
        scaled = made.encode(x)
        expected = (plain - made.mean[:, None, None, None]) / made.std[:, None, None, None]
        torch.testing.assert_close(scaled, expected)
        torch.testing.assert_close(made.decode(scaled), pixels, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.posterior(x)[0], plain, rtol=0, atol=0)


def test_config_rebuilds_the_network() -> None:
    made = vae(temporal=True)
    again = FrameVAE(**json.loads(json.dumps(made.config)))
    again.load_state_dict(made.state_dict())
    with torch.no_grad():
        assert torch.equal(again.encode(video()), made.encode(video()))


def test_bf16_is_close() -> None:
    made, x = vae(temporal=True), video()
    with torch.no_grad():
        exact = made.decode(made.encode(x))
        half = made.bfloat16()
        out = half.decode(half.encode(x))
    assert out.dtype == torch.float32
    assert (out - exact).norm() / exact.norm() < 0.05


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="norm_groups=3 does not divide a level's width of 8"):
        vae(norm_groups=3)
    with pytest.raises(ValueError, match="frames are 16x22; height and width must be multiples of 4"):
        vae().encode(video()[..., :22])
    with pytest.raises(ValueError, match=r"see decoder\.blocks\.0\.temporal"):
        vae(temporal=True).load_image(vae(temporal=True).state_dict())
    with pytest.raises(ValueError, match=r"see decoder\.conv_in\.weight"):
        vae(channels=3).load_image(vae().state_dict())


@torch.no_grad()
def test_pixels_of_a_patch_are_channels_in_the_order_they_come_back() -> None:
    made, x = vae(patch=2), video()
    assert made.stride == (1, 8, 8)
    seen = []
    made.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    latent = made.encode(x)
    assert latent.shape == (2, 4, 3, 2, 3)
    for p, q in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.equal(seen[0][:, 2 * p + q :: 4], x[..., p::2, q::2])
    made.decoder.conv_out.weight.zero_()
    made.decoder.conv_out.bias.copy_(torch.arange(12.0))
    out = made.decode(latent)
    assert out.shape == x.shape
    for p, q in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.equal(out[0, :, 0, p::2, q::2].unique(dim=-1).unique(dim=-2).flatten(), torch.arange(3.0) * 4 + 2 * p + q)


@torch.no_grad()
def test_a_shortcut_leads_round_a_change_of_size() -> None:
    x = torch.randn(3, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    smaller = Block(8, 16, 4, resize=Down(16), shortcut=FoldedMean(8, 16, "hw"))
    larger = Block(8, 8, 4, resize=Up(8), shortcut=UnfoldedCopy(8, 8, "hw"))
    for block in (smaller, larger):
        for parameter in block.resize.parameters():
            parameter.zero_()
    for p in (0, 1):  # twice the channels: each row of a square has one of its own, the mean of its two pixels
        torch.testing.assert_close(smaller(x, 3)[:, p::2], (x[:, :, p::2, ::2] + x[:, :, p::2, 1::2]) / 2)
    assert torch.equal(larger(x, 3), x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    plain, short = vae(), vae(shortcuts=True)
    short.load_state_dict(plain.state_dict())  # they have no parameters
    assert not torch.allclose(short.encode(video()), plain.encode(video()), atol=1e-2)


@torch.no_grad()
def test_the_posterior_is_narrow_at_birth() -> None:
    mean, logvar = vae(shortcuts=True).posterior(video())
    assert (0.5 * logvar).exp().mean() < 0.5 * mean.std()
