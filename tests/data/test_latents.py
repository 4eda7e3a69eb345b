"""Kept latents: what the codec makes, made once, found again, and never mixed up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from noisereel.data.clips import Clip
from noisereel.data.latents import Latents
from noisereel.data.mix import Mix


@dataclass(frozen=True)
class Numbers:
    """Clip i holds the number i everywhere."""

    asked: list[int] = field(default_factory=list)

    def __getitem__(self, index: int) -> Clip:
        self.asked.append(index)
        return Clip(video=torch.full((3, 2, 4, 4), float(index)), caption=f"clip {index}", fps=4.0)


class Halving(nn.Module):
    """Every second pixel, scaled."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def encode(self, video: Tensor) -> Tensor:
        return video[..., ::2, ::2] * self.scale


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISEREEL_CACHE", str(tmp_path))
    return tmp_path


def kept(numbers: Numbers, scale: float = 2.0, about: str = "numbers") -> Latents:
    codec = Halving(scale)
    return Latents(source=numbers, count=5, encode=codec.encode, codec=codec, about=about)


def test_a_clip_is_what_the_codec_makes_of_it_with_its_caption():
    clip = kept(Numbers())[3]
    assert clip.encoded
    assert clip.caption == "clip 3"
    assert clip.fps == 4.0
    assert torch.equal(clip.video, torch.full((3, 2, 2, 2), 6.0))


def test_a_clip_is_encoded_once_and_found_again_by_another_run():
    first, second = Numbers(), Numbers()
    one = kept(first)
    assert torch.equal(one[1].video, one[6].video)  # 5 clips, over and over
    assert first.asked == [0, 1]  # 0 told the size
    assert torch.equal(kept(second)[1].video, one[1].video)
    assert second.asked == [0]


def test_another_encoder_or_another_source_never_meets_the_old_latents():
    assert kept(Numbers(), scale=2.0)[1].video.unique().item() == 2
    assert kept(Numbers(), scale=3.0)[1].video.unique().item() == 3
    other = Numbers()
    assert kept(other, about="other numbers")[1].caption == "clip 1"
    assert 1 in other.asked


def test_filling_encodes_what_is_missing_in_batches():
    numbers = Numbers()
    latents = kept(numbers)
    latents[2]
    assert list(latents.fill(batch=2)) == [3, 5]
    numbers.asked.clear()
    assert [float(latents[row].video.mean()) for row in range(5)] == [0, 2, 4, 6, 8]
    assert numbers.asked == []


def test_a_row_whose_note_was_cut_off_by_a_kill_is_made_again(cache: Path):
    kept(Numbers())[4]
    (log,) = cache.glob("latents/*/clips.jsonl")
    log.write_text(log.read_text().rstrip("}\n"))
    numbers = Numbers()
    assert kept(numbers)[4].caption == "clip 4"
    assert 4 in numbers.asked


def test_batches_of_kept_clips_say_that_they_are_encoded():
    batch = Mix(video=kept(Numbers()), batch=2)(0)
    assert batch.encoded
    assert batch.video.shape == (2, 3, 2, 2, 2)
    assert not Mix(video=Numbers(), batch=2)(0).encoded
