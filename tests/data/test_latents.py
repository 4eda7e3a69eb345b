"""Kept latents: what the codec makes, made once, found again, and never mixed up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from noisereel.data.clips import Clip, Origin
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


def test_a_clip_whose_line_was_cut_off_by_a_kill_is_made_again(cache: Path):
    kept(Numbers())[4]
    (log,) = cache.glob("latents/*/*.list")
    log.write_text(log.read_text()[:-3])
    numbers = Numbers()
    assert kept(numbers)[4].caption == "clip 4"
    assert 4 in numbers.asked


@dataclass(frozen=True)
class Files:
    """Clips that know what they are made of: index i shows file i, and another moment of it each time round."""

    contents: list[float]
    captions: list[str | None]
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> Clip:
        self.asked.append(index)
        turn, row = divmod(index, len(self))
        level = self.contents[row] + turn % 2 / 8
        return Clip(video=torch.full((3, 2, 4, 4), level), caption=self.captions[row], fps=4.0)

    def origin(self, index: int) -> Origin:
        turn, row = divmod(index, len(self))
        return Origin(footage=f"{self.contents[row]} {turn % 2}", caption=self.captions[row])

    def distinct(self) -> int:
        return 2 * len(self)


def of_files(files: Files, count: int = 100) -> Latents:
    codec = Halving(2.0)
    return Latents(source=files, count=count, encode=codec.encode, codec=codec)


def test_clips_of_files_go_by_what_they_hold_and_captions_stay_alive():
    latents = of_files(Files([1.0, 2.0], ["one", "two"]))
    assert len(latents) == 4  # no more than differ
    assert list(latents.fill(batch=3)) == [3, 4]
    files = Files([2.0, 3.0, 1.0], ["zwei", "drei", None])  # another order, one more, other captions
    again = of_files(files)
    assert sorted(row % 3 for row in again.missing()) == [1, 1]
    clips = [again[row] for row in range(6)]
    assert [clip.caption for clip in clips] == ["zwei", "drei", None] * 2
    assert [float(clip.video.mean()) for clip in clips] == [4, 6, 2, 4.25, 6.25, 2.25]
    assert sorted(set(files.asked)) == [1, 4]


def test_the_caption_of_what_replaced_a_damaged_clip_goes_with_its_pixels():
    class Damaged(Files):
        def __getitem__(self, index: int) -> Clip:
            return super().__getitem__(1 if index % len(self) == 0 else index)

    of_files(Damaged([1.0, 2.0], ["one", "two"]))[0]
    assert of_files(Damaged([1.0, 2.0], ["one", "two"]))[0].caption == "two"


def test_another_encoder_is_noticed(caplog: pytest.LogCaptureFixture):
    kept(Numbers(), scale=2.0)[0]
    assert "another encoder" not in caplog.text
    kept(Numbers(), scale=3.0)[0]
    assert "latents of these clips are kept, but of another encoder" in caplog.text


def test_worlds_that_look_different_do_not_share_latents():
    class Darker(Numbers):
        def __getitem__(self, index: int) -> Clip:
            clip = super().__getitem__(index)
            return replace(clip, video=clip.video - 1)

    assert float(kept(Numbers())[1].video.mean()) == 2
    assert float(kept(Darker())[1].video.mean()) == 0


def test_decoding_ahead_in_processes_keeps_the_same():
    plain, ahead = Files([1.0, 2.0, 3.0], [None] * 3), Files([4.0, 5.0, 6.0], [None] * 3)
    list(of_files(plain).fill(batch=2))
    assert list(of_files(ahead).fill(batch=2, workers=2)) == [2, 4, 6]
    assert [float(of_files(ahead)[row].video.mean()) for row in range(6)] == [8, 10, 12, 8.25, 10.25, 12.25]


def test_batches_of_kept_clips_say_that_they_are_encoded():
    batch = Mix(video=kept(Numbers()), batch=2)(0)
    assert batch.encoded
    assert batch.video.shape == (2, 3, 2, 2, 2)
    assert not Mix(video=Numbers(), batch=2)(0).encoded
