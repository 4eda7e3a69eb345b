"""The causal autoencoder: nothing leaks back in time, and pieces make the whole, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisereel.codecs.causal import Chunk
from noisereel.codecs.causal_vae import CausalVAE
from noisereel.codecs.chunk_norm import ChunkNorm
from noisereel.codecs.pixel_norm import PixelNorm
from noisereel.types import Codec

Z = 4
FORMS: dict[str, dict[str, Any]] = {
    "4x8x8": dict(halve=("hw", "thw", "thw"), widths=(8, 16, 16, 24)),
    "patched": dict(halve=("thw", "thw"), widths=(16, 24, 16), patch=2, quant=True),
    "4x4x4": dict(halve=("thw", "t"), widths=(16, 24, 16), patch=2),
    "residual": dict(halve=("thw", "thw"), widths=(8, 16, 16), patch=2, resample="residual", decoder_widths=(24, 24, 12)),
    "pooled": dict(halve=("thw", "hw"), double=("thw", "hw"), widths=(8, 16, 16), resample="pool", pad="first"),
}


def vae(form: str, **more: Any) -> CausalVAE:
    """A small autoencoder none of whose weights are zero, so that nothing goes unseen."""
    torch.manual_seed(1)
    net = CausalVAE(**{"latent_channels": Z, "blocks": 1, **FORMS[form], **more})
    with torch.no_grad():
        for parameter in net.parameters():
            spread = (1 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.2
            parameter.add_(torch.randn(parameter.shape) * spread)
        net.mean.copy_(torch.linspace(-0.5, 0.5, Z))
        net.std.copy_(torch.linspace(0.5, 2.0, Z))
    return net.eval()


def clip(frames: int, batch: int = 1, size: int = 16) -> Tensor:
    return torch.rand(batch, 3, frames, size, 2 * size, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def cut(x: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return x.split(list(sizes), dim=2)


@pytest.mark.parametrize("form", FORMS)
def test_what_comes_later_changes_nothing_before_it(form: str) -> None:
    net, time = vae(form), stride_of(form)
    video = clip(1 + 4 * time, batch=2)
    with torch.no_grad():
        latent = net.encode(video)
        decoded = net.decode(latent)
        for seen in range(4):
            changed = video.clone()
            changed[:, :, 1 + seen * time :] += 1.0
            new = net.encode(changed)
            assert torch.equal(new[:, :, : 1 + seen], latent[:, :, : 1 + seen])
            assert not torch.equal(new[:, :, 1 + seen], latent[:, :, 1 + seen])
            assert torch.equal(net.decode(latent[:, :, : 1 + seen]), decoded[:, :, : 1 + seen * time])


def stride_of(form: str) -> int:
    return 2 ** sum("t" in step for step in FORMS[form]["halve"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 2])
def test_chunks_make_the_whole_exactly(form: str, batch: int) -> None:
    net, time = vae(form), stride_of(form)
    video = clip(1 + 6 * time, batch)
    mean, _ = net.posterior(video)  # with gradients, hence in one piece
    whole = net.decode_raw(mean).detach()
    with torch.no_grad():
        latent = net.encode(video)
        for sizes in ([1, 1, 5], [3, 4], [2, 2, 2, 1]):
            frames = [1 + (sizes[0] - 1) * time, *(size * time for size in sizes[1:])]
            pieces = list(net.encode_stream(cut(video, frames)))
            assert [piece.shape[2] for piece in pieces] == sizes
            assert torch.equal(torch.cat(pieces, dim=2), latent)
            videos = list(net.decode_stream(cut(latent, sizes)))
            assert [piece.shape[2] for piece in videos] == frames
            assert torch.equal(torch.cat(videos, dim=2), net.decode(latent))
        assert torch.equal(net.posterior(video)[0], mean)
        assert torch.equal(net.decode_raw(mean), whole)


def test_the_past_is_passed_on_and_never_kept() -> None:
    net = vae("patched")
    latent = torch.randn(1, Z, 3, 2, 4)
    with torch.no_grad():
        _, past = net.decode_chunk(latent[:, :, :1], None)
        net.decode(torch.randn(1, Z, 2, 4, 4))  # another video in between
        video, _ = net.decode_chunk(latent[:, :, 1:], past)
        assert torch.equal(video, net.decode_raw(latent)[:, :, 1:])
        with pytest.raises(ValueError, match="this past was used before"):
            net.decode_chunk(latent[:, :, 1:], past)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_the_first_frame_of_a_video(form: str) -> None:
    net, time = vae(form), stride_of(form)
    video = clip(1 + 2 * time)
    with torch.no_grad():
        image = net.encode(video[:, :, :1])
        torch.testing.assert_close(image, net.encode(video)[:, :, :1], rtol=1e-6, atol=1e-6)
        assert net.decode(image).shape == video[:, :, :1].shape


@pytest.mark.parametrize("form", FORMS)
def test_frames_become_latent_frames_and_come_back(form: str) -> None:
    net = vae(form)
    assert isinstance(net, Codec)
    time, height, width = net.stride
    assert net.stride == {"4x8x8": (4, 8, 8), "4x4x4": (4, 4, 4), "pooled": (2, 4, 4)}.get(form, (4, 8, 8))
    for k in range(4):
        video = clip(net.lead + k * time)
        with torch.no_grad():
            latent = net.encode(video)
            assert latent.shape == (1, Z, net.lead + k, 16 // height, 32 // width)
            assert net.decode(latent).shape == video.shape


def test_encode_scales_the_mean_and_decode_undoes_it() -> None:
    net, video = vae("patched"), clip(5)
    mean, logvar = net.posterior(video)
    assert logvar.shape == mean.shape
    assert logvar.min() >= -30
    assert logvar.max() <= 20
    scaled = (mean - net.mean.view(Z, 1, 1, 1)) / net.std.view(Z, 1, 1, 1)
    torch.testing.assert_close(net.encode(video), scaled)
    torch.testing.assert_close(net.decode(net.encode(video)), net.decode_raw(mean), rtol=1e-4, atol=1e-5)


def test_the_pixel_norm_is_its_formula_with_its_gradient() -> None:
    norm = PixelNorm(6)
    x = torch.randn(2, 6, 3, 4, 5).to(memory_format=torch.channels_last_3d).requires_grad_()
    gain, grad = norm.gain, torch.randn(2, 6, 3, 4, 5)
    nn.init.normal_(gain)
    for silu in (True, False):
        plain = F.normalize(x, dim=1) * 6**0.5 * gain.view(6, 1, 1, 1)
        plain = F.silu(plain) if silu else plain
        ours = norm(x, Chunk(first=True), silu=silu)
        with torch.no_grad():
            into = norm(x, Chunk(first=True), silu=silu, out=torch.empty_like(x))
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(into, plain)
        for found, wanted in zip(
            torch.autograd.grad(ours, (x, gain), grad), torch.autograd.grad(plain, (x, gain), grad), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["4x8x8", "residual", "pooled"])
def test_half_precision_is_close(form: str) -> None:
    net, video = vae(form), clip(5)
    mean, _ = net.posterior(video)
    wanted = net.decode_raw(mean)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = net.decode_raw(net.posterior(video)[0])
    autocast.sum().backward()
    with torch.no_grad():
        half = net.bfloat16()
        cast = half.decode_raw(half.posterior(video)[0])
    for found in (autocast, cast):
        assert found.dtype == torch.float32  # that of what was asked
        assert (found - wanted).norm() < 0.1 * wanted.norm()


def test_a_norm_over_chunks_is_the_same_with_and_without_a_gradient() -> None:
    net = vae("pooled", norm_groups=4)
    video = clip(9)
    mean, _ = net.posterior(video)
    decoded = net.decode_raw(mean)
    with torch.no_grad():
        torch.testing.assert_close(net.posterior(video)[0], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.decode_raw(mean), decoded, rtol=1e-4, atol=1e-4)


def test_a_norm_over_chunks_keeps_its_digits_over_many_pixels() -> None:
    norm = ChunkNorm(2, 0, 8)
    x = (torch.randn(1, 8, 9, 128, 128) * 0.5 + 3).to(memory_format=torch.channels_last_3d)
    exact = F.group_norm(x.double(), 2, eps=norm.eps)
    with torch.no_grad():
        found = norm(x, Chunk(first=True), silu=False)
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_configuration_builds_the_same_network() -> None:
    for form in FORMS:
        net = vae(form)
        again = CausalVAE(**net.config)
        again.load_state_dict(net.state_dict())
        assert again.config == net.config


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((16, 16, 16), "frames 16 will not do: this codec takes 1 more than a multiple of 4, such as 13 or 17"),
        ((3, 16, 16), "frames 3 will not do: this codec takes 1 more than a multiple of 4, such as 1 or 5"),
        ((0, 16, 16), "frames 0 will not do: this codec takes 1 more than a multiple of 4, such as 1"),
        ((5, 60, 16), "height 60 will not do: this codec takes a multiple of 8, such as 56 or 64"),
        ((5, 16, 4), "width 4 will not do: this codec takes a multiple of 8, such as 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_would(shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vae("patched").encode(torch.zeros(1, 3, *shape))


def test_a_later_chunk_has_no_frame_of_its_own() -> None:
    net = vae("patched")
    with pytest.raises(ValueError, match="frames 5 will not do: this codec takes a multiple of 4, such as 4 or 8"):
        list(net.encode_stream([clip(1), clip(5)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(widths=(8, 8)), "widths has 2 levels and halve 3 steps"),
        (dict(halve=("hw", "wh", "t")), "halve has the step 'wh'; the steps are hw, t, thw"),
        (dict(double=("hw", "thw")), "decoder_widths has 4 levels and double 2 steps"),
        (dict(double=("hw", "hw", "thw")), "does not undo halve"),
        (dict(norm_groups=5), "norm_groups=5 does not divide a level's width of 96"),
        (dict(resample="residual", widths=(8, 8, 8, 7)), "no shortcut from 7 to 8 channels"),
    ],
)
def test_levels_that_do_not_fit_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        CausalVAE(**options)


MEASURED = """
import pathlib, resource, torch
from noisereel.codecs.causal import Chunk
from noisereel.codecs.causal_vae import CausalVAE
torch.manual_seed(0)
vae = CausalVAE(widths=(32, 32, 32), halve=("thw", "thw"), latent_channels=4, patch=2, blocks=1)
latent = torch.randn(1, 4, {latents}, 8, 8)
with torch.no_grad():
    vae.decode(latent[:, :, :1, :1, :1])
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    video = vae.decode(latent)
output = video.numel() * 4 / 2**10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rest - output) / 2**10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures resident memory in the unit of Linux")
def test_257_frames_take_the_memory_of_17() -> None:
    """In MiB beyond the output. Large blocks are given back at once, so that the allocator's habits are not measured."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}

    def beyond_output(latents: int) -> float:
        code = MEASURED.format(latents=latents)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return float(run.stdout)

    assert beyond_output(65) < beyond_output(5) + 2
