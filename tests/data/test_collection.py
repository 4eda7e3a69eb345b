from pathlib import Path

import numpy as np
import pytest
import torch

from noisereel.data.collection import Collection
from noisereel.data.want import Want
from noisereel.data.writer import write


def video(level: float, frames: int = 16) -> torch.Tensor:
    flicker = torch.tensor([0.0, 0.02]).repeat(frames)[:frames]  # else lossless formats keep a single frame
    return level + (flicker if level < 0 else -flicker)[None, :, None, None].expand(3, frames, 16, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(video(-1.0), tmp_path / "black.mp4", fps=8.0)
    write(video(1.0), tmp_path / "white.webp", fps=8.0)
    write(video(0.0, frames=1), tmp_path / "grey.png", fps=8.0)
    return tmp_path


def open_(path: Path, frames: int = 4) -> Collection:
    return Collection(place=path, want=Want(frames=frames, height=8, width=12, fps=4.0))


def shown(source: Collection) -> dict[str | None, float]:
    return {source[i].caption: round(float(source[i].video.mean()), 1) for i in range(len(source))}


def test_texts_beside_the_clips_are_their_captions(folder: Path) -> None:
    (folder / "black.txt").write_text("the night\n")
    (folder / "white.txt").write_text("the snow")
    source = open_(folder)
    assert shown(source) == {"the night": -1, "the snow": 1}
    assert source[0].video.shape == (3, 4, 8, 12)
    assert source[0].fps == 4.0


def test_a_folder_without_captions_is_unlabelled_video(folder: Path) -> None:
    assert [open_(folder)[i].caption for i in range(2)] == [None, None]


def test_single_frames_come_from_images_and_videos_alike(folder: Path) -> None:
    source = open_(folder, frames=1)
    assert len(source) == 3
    assert {round(float(source[i].video.mean()), 1) for i in range(3)} == {-1, 0, 1}


def test_an_index_beyond_the_end_cuts_the_same_clip_at_another_moment(tmp_path: Path) -> None:
    levels = torch.linspace(-1, 1, 64)[None, :, None, None].expand(3, 64, 16, 16)
    write(levels, tmp_path / "ramp.mp4", fps=8.0)
    source = open_(tmp_path)
    starts = [float(source[i].video[0, 0].mean()) for i in range(6)]
    assert len({round(start, 2) for start in starts}) > 3
    assert torch.equal(source[5].video, open_(tmp_path)[5].video)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ('{"file_name": "gone.mp4"}', "line 1: it names gone.mp4, which is not there"),
        ('{"clip": "black.mp4"}', "line 1: it names no file: it has clip, not file_name or"),
        ('{"file_name": ', "line 1: it is not JSON"),
        ('"black.mp4"', "line 1: it is not an object"),
        ('{"file_name": "grey.png"}', "grey.png: it is a single image: used where single frames are wanted"),
        ('{"file_name": "../black.mp4"}', r"line 1: it names \.\./black.mp4, which is outside the folder"),
        ('{"file_name": "/etc/passwd"}', "line 1: it names /etc/passwd, which is outside the folder"),
        ('{"file_name": "notes.doc"}', r"files of this ending are not read: \.mp4"),
    ],
)
def test_mistakes_in_metadata_are_named(folder: Path, metadata: str, says: str) -> None:
    (folder / "notes.doc").touch()
    (folder / "metadata.jsonl").write_text(metadata)
    with pytest.raises(ValueError, match=rf"{folder} gives no clips of 4 frames of 8x12 at 4 fps: .*{says}"):
        open_(folder)


def test_what_is_passed_over_is_told_and_the_rest_is_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(video(0.0, frames=2), folder / "blink.mp4", fps=8.0)
    (folder / "metadata.csv").write_text("path,caption\nblack.mp4,night\nblack.mp4,night again\nblink.mp4,\ngone.mp4,lost\n")
    (folder / "loop").symlink_to(folder)
    (folder / "lost.mp4").symlink_to(folder / "nowhere")
    source = open_(folder)
    assert shown(source) == {"night": -1}
    reasons = {one.name.removeprefix(f"{folder}/"): one.reason for one in source.unused}
    assert reasons == {
        "metadata.csv, row 2": "it names black.mp4, which was named before",
        "metadata.csv, row 4": "it names gone.mp4, which is not there",
        "blink.mp4": "it lasts 0.25 s: too short for 4 frames at 4 fps",
        "white.webp": "metadata.csv does not name it",
        "grey.png": "metadata.csv does not name it",
        "loop": "this link leads to a folder that was looked through before",
        "lost.mp4": "this link leads nowhere, or it is no file",
    }
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "7 not used" in warning
    assert "metadata.csv does not name it (and 1 more)" in warning


def test_files_and_captions_without_one_another_are_told(folder: Path) -> None:
    (folder / "gone.txt").write_text("a caption of nothing")
    (folder / "black.txt").write_bytes(b"\xff\xfe not text")
    (folder / "readme.md").touch()
    source = open_(folder)
    assert shown(source) == {None: 1}
    assert {Path(one.name).name: one.reason[:30] for one in source.unused} == {
        "black.txt": "it is not UTF-8 text: 'utf-8' ",
        "grey.png": "it is a single image: used whe",
        "readme.md": "files that end in .md are not ",
        "gone.txt": "there is no video or image of ",
    }


def test_a_clip_that_breaks_off_is_replaced_and_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = torch.rand(3, 40, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = write(noise, folder / "broken.webm", fps=8.0).read_bytes()
    (folder / "broken.webm").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "white.webp").unlink()
    source = open_(folder, frames=8)
    assert [item.name for item, _ in source.clips] == ["black.mp4", "broken.webm"]
    replaced = [index for index in range(1, 16, 2) if float(source[index].video.mean()) < -0.9]
    assert 0 < len(replaced) < 8, "what is there is used, what is not is replaced by the next"
    assert "broken.webm is replaced by the next clip: " in caplog.text
    assert torch.equal(source[replaced[0]].video, open_(folder, frames=8)[replaced[0]].video)


def test_arrays_may_have_other_channels_and_no_rate(tmp_path: Path) -> None:
    numbers = np.linspace(-3, 3, 6 * 8 * 12 * 5, dtype=np.float32).reshape(6, 8, 12, 5)
    np.savez(tmp_path / "field.npz", data=numbers, axes="thwc", range=[-3, 3])
    wide = Collection(place=tmp_path, want=Want(frames=6, height=8, width=12, fps=30.0, channels=5))
    assert torch.allclose(wide[0].video, torch.from_numpy(numbers).permute(3, 0, 1, 2) / 3, atol=1e-6)
    assert wide[0].fps == 30.0
    with pytest.raises(ValueError, match="it has 5 channels, and the clips are to have 3"):
        open_(tmp_path)
    np.save(tmp_path / "grey.npy", (numbers[..., 0] + 3) / 6)
    (grey,) = [open_(tmp_path, frames=6)]
    assert torch.equal(grey[0].video[0], grey[0].video[2])
    assert torch.allclose(grey[0].video[0], torch.from_numpy(numbers[..., 0]) / 3, atol=1e-5)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder or file"):
        open_(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"gives no clips of 4 frames of 8x12 at 4 fps: it is empty"):
        open_(tmp_path)
