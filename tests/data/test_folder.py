import json
from pathlib import Path

import pytest
import torch

from noisereel.data.folder import Folder
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


def open_(path: Path, frames: int = 4) -> Folder:
    return Folder(path=path, frames=frames, height=8, width=12, fps=4.0)


def shown(source: Folder) -> dict[str | None, float]:
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


@pytest.mark.parametrize(("file", "text"), [("file_name", "text"), ("video", "caption"), ("path", "prompt")])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_metadata_names_files_and_captions(folder: Path, kind: str, file: str, text: str) -> None:
    rows = [("white.webp", 'snow, "deep"'), ("black.mp4", "")]
    if kind == "jsonl":
        lines = [json.dumps({file: name, text: caption}) for name, caption in rows]
    else:
        lines = [f"{file},{text}", 'white.webp,"snow, ""deep"""', "black.mp4,"]
    (folder / f"metadata.{kind}").write_text("\n".join(lines) + "\n")
    assert shown(open_(folder)) == {'snow, "deep"': 1, None: -1}


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
        ('{"file_name": "gone.mp4"}', "clip 1 names gone.mp4, which is not there"),
        ('{"clip": "black.mp4"}', "names no file: it has clip"),
        ('{"file_name": ', "line 1 is not JSON"),
        ('"black.mp4"', "write one object"),
        ('{"file_name": "grey.png"}', "no clips of 4 frames"),
    ],
)
def test_mistakes_in_metadata_are_named(folder: Path, metadata: str, says: str) -> None:
    (folder / "metadata.jsonl").write_text(metadata)
    with pytest.raises(ValueError, match=says):
        open_(folder)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        open_(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no clips of 4 frames under .*\.mp4"):
        open_(tmp_path)
