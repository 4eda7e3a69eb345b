"""Whole runs: prompts to frames, as diffusers makes them from the same folder and the same noise."""

from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
import torch
from peers import NEGATIVE, PROMPT
from PIL import Image

from noisereel.pipeline import TextToVideo

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, on numpy 2


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_same(found: np.ndarray, expected: np.ndarray, near: float = 1e-3) -> None:
    """Equal frames, which are more than a plain ground."""
    assert expected.std() > 0.02
    np.testing.assert_allclose(found, expected, rtol=0, atol=near)


def test_stable_diffusion(tmp_path: Path) -> None:
    peer = peers.save(peers.stable_diffusion(), tmp_path)
    pipe = TextToVideo.from_pretrained(tmp_path)
    start, options = noise(1, 4, 8, 8), dict(num_inference_steps=6, guidance_scale=3.0, negative_prompt=NEGATIVE)
    expected = peer(PROMPT, latents=start, output_type="np", **options).images
    found = pipe(PROMPT, latents=start[:, :, None], output_type="np", **options).frames
    assert_same(found[:, 0], expected)


def test_text_to_video_sd(tmp_path: Path) -> None:
    peer = peers.save(peers.text_to_video_sd(), tmp_path)
    pipe = TextToVideo.from_pretrained(tmp_path)
    start, options = (
        noise(1, 4, 3, 8, 8),
        dict(num_frames=3, num_inference_steps=4, guidance_scale=3.0, negative_prompt=NEGATIVE),
    )
    expected = peer(PROMPT, latents=start, output_type="np", **options).frames
    found = pipe(PROMPT, latents=start, output_type="np", **options).frames
    assert_same(found, expected)


COGVIDEOX = {
    "2B": ({}, "CogVideoXDDIMScheduler"),
    "5B": (peers.COGVIDEOX_5B, "CogVideoXDPMScheduler"),
    "1.5": (peers.COGVIDEOX_15, "CogVideoXDDIMScheduler"),
}


@pytest.mark.parametrize("size", COGVIDEOX)
def test_cogvideox(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, scheduler = COGVIDEOX[size]
    peer = peers.save(peers.cogvideox(scheduler=scheduler, **config), tmp_path)
    pipe = TextToVideo.from_pretrained(tmp_path)
    start = noise(1, *pipe.system.first.latent_shape((9, 32, 48)))
    assert start.shape[2] == (4 if size == "1.5" else 3)
    options = dict(num_inference_steps=4, guidance_scale=3.0, negative_prompt=NEGATIVE, output_type="np")
    found = pipe(PROMPT, latents=start, generator=torch.Generator().manual_seed(5), **options).frames
    share_noise(monkeypatch, start.shape, steps=4)
    expected = peer(PROMPT, latents=start.movedim(1, 2), max_sequence_length=12, **options).frames
    assert_same(found, expected)


def share_noise(monkeypatch: pytest.MonkeyPatch, shape: torch.Size, steps: int) -> None:
    """CogVideoX's stochastic scheduler draws what our sampler draws with seed 5: once in the first step and in the last,
    otherwise twice, and leaves the first.
    """
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(shape[1:], generator=generator)[None].movedim(1, 2) for _ in range(steps)]
    given = iter([drawn[0], *(noise for noise in drawn[1:-1] for _ in range(2)), drawn[-1]])
    monkeypatch.setattr("diffusers.schedulers.scheduling_dpm_cogvideox.randn_tensor", lambda *_, **__: next(given))


WAN = {
    "2.1": dict(),
    "2.1, euler": dict(scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)),
    "2.2 A14B": dict(experts=True, boundary_ratio=0.875),
    "2.2 5B": dict(expand_timesteps=True),
}


@pytest.mark.parametrize("size", WAN)
def test_wan(size: str, tmp_path: Path) -> None:
    peer = peers.save(peers.wan(**WAN[size]), tmp_path)
    pipe = TextToVideo.from_pretrained(tmp_path)
    options: dict[str, Any] = dict(num_frames=9, height=32, width=48, num_inference_steps=4, guidance_scale=3.0)
    options |= dict(latents=noise(1, 4, 3, 4, 6), negative_prompt=NEGATIVE, output_type="np")
    assert_same(pipe(PROMPT, **options).frames, peer(PROMPT, **options).frames)


def picture() -> Image.Image:
    """Coloured ramps of 48x32 pixels."""
    y, x = np.mgrid[0:1:32j, 0:1:48j]
    return Image.fromarray((255 * np.stack([x, y, 1 - x], axis=-1)).round().astype(np.uint8))


@pytest.mark.parametrize(
    "config", [peers.COGVIDEOX_5B_IMAGE, peers.COGVIDEOX_15_IMAGE], ids=["5B from images", "1.5 from images"]
)
def test_cogvideox_from_an_image(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = peers.save(peers.cogvideox(image=True, **config), tmp_path)
    pipe = TextToVideo.from_pretrained(tmp_path)
    start = noise(1, *pipe.system.first.latent_shape((9, 32, 48)))
    options: dict[str, Any] = dict(num_frames=9, num_inference_steps=4, guidance_scale=3.0, negative_prompt=NEGATIVE)
    options |= dict(output_type="np", image=picture())
    found = pipe(PROMPT, latents=start, **options).frames
    # Theirs draws the image's latents; ours takes the most likely ones.
    gaussian = "diffusers.models.autoencoders.vae.DiagonalGaussianDistribution"
    monkeypatch.setattr(f"{gaussian}.sample", lambda self, generator=None: self.mean)
    expected = peer(prompt=PROMPT, latents=start.movedim(1, 2), max_sequence_length=12, **options).frames
    assert_same(found, expected)


WAN_IMAGE = {
    "2.1": dict(seen=True),
    "2.2 A14B": dict(experts=True, boundary_ratio=0.9),
    "2.2 5B": dict(expand_timesteps=True),
}


@pytest.mark.parametrize("size", WAN_IMAGE)
def test_wan_from_an_image(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.pipelines.wan.pipeline_wan_i2v.basic_clean", str.strip)  # theirs needs a package more
    peer = peers.save(peers.wan(image=True, **WAN_IMAGE[size]), tmp_path)
    pipe = TextToVideo.from_pretrained(tmp_path)
    options: dict[str, Any] = dict(num_frames=9, height=32, width=48, num_inference_steps=4, guidance_scale=3.0)
    options |= dict(image=picture(), latents=noise(1, 4, 3, 4, 6), negative_prompt=NEGATIVE, output_type="np")
    assert_same(pipe(PROMPT, **options).frames, peer(prompt=PROMPT, **options).frames)
