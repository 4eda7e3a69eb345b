"""Whole runs: prompts to frames, as diffusers makes them from the same folder and the same noise."""

from pathlib import Path

import numpy as np
import peers
import pytest
import torch
from peers import NEGATIVE, PROMPT

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
