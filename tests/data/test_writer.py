import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch.nn import functional

from noisereel.data.reader import probe, read_clip
from noisereel.data.writer import checked, export_to_video, grid, read_metadata, write

NOTE = {"prompt": 'a café, "quoted"\nand long ' + "x" * 400, "seed": 7, "model": "default"}


def smooth(frames: int = 9, height: int = 36, width: int = 48) -> torch.Tensor:
    """Slowly changing colours: what a lossy codec should keep."""
    coarse = torch.rand(1, 3, 4, 3, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return functional.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)[0]


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / (one - other).square().mean()))


@pytest.mark.parametrize(("ending", "least"), [("mp4", 33), ("webm", 33), ("gif", 27), ("webp", 50), ("apng", 50)])
@pytest.mark.parametrize("fps", [8.0, 7.5, 29.97])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str, least: float, fps: float) -> None:
    video = smooth()
    path = write(video, tmp_path / f"clip.{ending}", fps=fps, metadata=NOTE)
    facts = probe(path)
    assert (facts.frames, facts.height, facts.width) == (9, 36, 48)
    assert facts.fps == pytest.approx(fps, rel=0.02), "a gif counts hundredths of a second"
    assert psnr(read_clip(path, fps=fps, frames=9), video) > least
    assert read_metadata(path) == NOTE
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp", "apng"])
def test_primary_colours_survive(tmp_path: Path, ending: str) -> None:
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1], [-1, -1, -1]])
    video = colours.T[:, :, None, None].expand(3, 5, 32, 32)
    back = read_clip(write(video, tmp_path / f"clip.{ending}", fps=5.0))
    assert (back - video).abs().max() < 0.05


def test_equal_frames_are_still_counted(tmp_path: Path) -> None:
    video = smooth(3).repeat_interleave(4, dim=1)
    for ending in ("gif", "webp", "apng"):
        back = read_clip(write(video, tmp_path / f"clip.{ending}", fps=12.0), fps=12.0)
        assert back.shape == video.shape
        assert psnr(back, video) > 27


@pytest.mark.parametrize(("height", "width"), [(33, 48), (32, 47), (1, 1)])
def test_odd_sizes_gain_an_edge_in_mp4_only(tmp_path: Path, height: int, width: int) -> None:
    video = smooth(3, 33, 48)[..., :height, :width]
    back = read_clip(write(video, tmp_path / "clip.mp4", fps=8.0))
    assert back.shape[-2:] == (height + height % 2, width + width % 2)
    assert psnr(back[..., :height, :width], video) > 28
    assert read_clip(write(video, tmp_path / "clip.webp", fps=8.0)).shape == video.shape


def test_scale_repeats_pixels(tmp_path: Path) -> None:
    video = smooth(2, 5, 6)
    back = read_clip(write(video, tmp_path / "clip.apng", fps=8.0, scale=3))
    assert torch.equal(
        back, read_clip(write(video, tmp_path / "one.apng", fps=8.0)).repeat_interleave(3, -1).repeat_interleave(3, -2)
    )


def test_a_contact_sheet_holds_every_frame_apart(tmp_path: Path) -> None:
    video = smooth(9, 8, 10)
    with Image.open(write(video, tmp_path / "sheet.png", fps=8.0, metadata=NOTE)) as image:
        assert image.size == (3 * 10 + 2 * 2, 3 * 8 + 2 * 2)
        pixels = np.asarray(image)
    last = torch.from_numpy(pixels[-8:, -10:].copy()).permute(2, 0, 1).float() / 127.5 - 1
    assert psnr(last, video[:, -1]) > 50
    assert (pixels[8:10] == 255).all()
    assert read_metadata(tmp_path / "sheet.png") == NOTE


def test_one_frame_as_png_is_the_image_itself(tmp_path: Path) -> None:
    image = smooth(1)
    assert psnr(read_clip(write(image, tmp_path / "image.png", fps=8.0)), image) > 50


def test_a_sprite_sheet_says_where_its_frames_are(tmp_path: Path) -> None:
    video = smooth(10, 8, 6)
    path = write(video, tmp_path / "walk.png", fps=8.0, scale=2, sheet=True)
    sheet = json.loads((tmp_path / "walk.json").read_text())
    pixels = np.asarray(Image.open(path))
    assert pixels.shape[:2] == (sheet["meta"]["size"]["h"], sheet["meta"]["size"]["w"])
    assert sheet["meta"]["image"] == "walk.png"
    assert sum(cell["duration"] for cell in sheet["frames"]) == 1250
    for i, cell in enumerate(sheet["frames"]):
        x, y, w, h = (cell["frame"][key] for key in "xywh")
        frame = torch.from_numpy(pixels[y : y + h, x : x + w].copy()).permute(2, 0, 1).float() / 127.5 - 1
        assert psnr(frame[:, ::2, ::2], video[:, i]) > 50


@pytest.mark.parametrize("name", ["clip.mov", "clip", "clip.json"])
def test_an_unknown_ending_names_the_legal_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.mp4, \.webm, \.gif, \.webp, \.apng, \.png"):
        write(smooth(1), tmp_path / name, fps=8.0)
    with pytest.raises(ValueError, match=r"sprite sheet .* end the name in \.png"):
        checked(tmp_path / "clip.mp4", sheet=True)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        checked(tmp_path / "nowhere" / "clip.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        checked(tmp_path / "folder.mp4")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip.webp", "clip.apng", "clip.png"])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"the old file")
    noise = torch.rand(3, 12, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(OSError, match=name):
            write(noise, path, fps=8.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == [name]
    assert path.read_bytes() == b"the old file"


def test_values_that_are_no_video_are_not_written(tmp_path: Path) -> None:
    broken = smooth(2)
    broken[0, 1, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        write(broken, tmp_path / "clip.mp4", fps=8.0)
    with pytest.raises(ValueError, match="at most 50"):
        write(smooth(2), tmp_path / "clip.gif", fps=60.0)
    with pytest.raises(ValueError, match="positive"):
        write(smooth(2), tmp_path / "clip.gif", fps=0.0)
    assert not list(tmp_path.iterdir())


def test_someone_elses_comment_is_no_metadata(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif", comment=b"made by hand")
    assert read_metadata(tmp_path / "a.gif") == {}


def test_metadata_of_a_video_is_read_whatever_its_ending(tmp_path: Path) -> None:
    written = write(smooth(2), tmp_path / "clip.mp4", fps=8.0, metadata=NOTE)
    assert read_metadata(written.rename(tmp_path / "clip.mov")) == NOTE


def test_grid_puts_videos_in_reading_order() -> None:
    videos = torch.arange(5.0).reshape(5, 1, 1, 1, 1).expand(5, 3, 2, 4, 6)
    tiled = grid(videos, columns=3, gap=1)
    assert tiled.shape == (3, 2, 2 * 4 + 1, 3 * 6 + 2)
    assert tiled[0, 0, 0, ::7].tolist() == [0, 1, 2]
    assert tiled[0, 0, 5, ::7].tolist() == [3, 4, 1], "a blank cell is white"
    assert (tiled[:, :, 4] == 1).all()


def test_export_takes_what_diffusers_gives(tmp_path: Path) -> None:
    video = (smooth(4, 16, 16) + 1) / 2
    array = video.permute(1, 2, 3, 0).numpy()
    images = [Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in array]
    forms = (array, list(array), images, video.transpose(0, 1))
    clips = [read_clip(export_to_video(frames, tmp_path / f"{i}.webp", fps=4.0)) for i, frames in enumerate(forms)]
    assert all(torch.equal(clip, clips[0]) for clip in clips)
    assert psnr(clips[0], video * 2 - 1) > 50


# Transparency


def cutout(frames: int = 5, height: int = 12, width: int = 10) -> torch.Tensor:
    """A disc that moves over nothing, with soft edges; colours go on where nothing shows."""
    y, x = torch.arange(height)[:, None], torch.arange(width)
    alpha = torch.stack([(3.5 - torch.hypot(y - 5.0, x - 2.0 - i)).clamp(0, 1) for i in range(frames)])
    return torch.cat([smooth(frames, height, width), 2 * alpha[None] - 1])


def rgba(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)])


def in_bytes(video: torch.Tensor) -> np.ndarray:
    return ((video + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()


@pytest.mark.parametrize("ending", ["webp", "apng"])
@pytest.mark.parametrize("frames", [1, 5])
def test_alpha_is_kept_without_loss(tmp_path: Path, ending: str, frames: int) -> None:
    video = cutout(frames)
    path = write(video, tmp_path / f"clip.{ending}", fps=5.0, metadata=NOTE)
    back, wanted = rgba(path), in_bytes(video)
    assert np.array_equal(back[..., 3], wanted[..., 3])
    kept = (wanted[..., 3] > 0) | (ending == "apng")  # an animated webp forgets colours of which nothing shows
    assert np.array_equal(back[kept], wanted[kept])
    assert read_metadata(path) == NOTE


def test_a_gif_is_transparent_or_not(tmp_path: Path) -> None:
    video = cutout()
    back = rgba(write(video, tmp_path / "clip.gif", fps=5.0, metadata=NOTE))
    wanted = in_bytes(video)
    assert np.array_equal(back[..., 3], np.where(wanted[..., 3] < 128, 0, 255))
    shown = back[..., 3] == 255
    assert np.abs(back[shown][:, :3].astype(int) - wanted[shown][:, :3]).max() < 24, "quantized"
    assert read_metadata(tmp_path / "clip.gif") == NOTE


def test_what_has_left_a_frame_does_not_stay(tmp_path: Path) -> None:
    """A square that jumps: nothing of it is left where it was."""
    video = torch.full((4, 3, 8, 8), -1.0)
    for frame in range(3):
        video[:, frame, :3, 3 * frame : 3 * frame + 2] = 1.0
    for ending in ("gif", "webp", "apng"):
        assert np.array_equal(rgba(write(video, tmp_path / f"clip.{ending}", fps=5.0))[..., 3], in_bytes(video)[..., 3]), ending


def test_sheets_keep_alpha_and_leave_blank_cells_transparent(tmp_path: Path) -> None:
    video = cutout(10)
    (contact,) = rgba(write(video, tmp_path / "contact.png", fps=5.0))
    assert contact.shape == (3 * 12 + 2 * 2, 4 * 10 + 3 * 2, 4)
    assert (contact[12:14, :, 3] == 0).all()
    (sheet,) = rgba(write(video, tmp_path / "sheet.png", fps=5.0, sheet=True))
    atlas = json.loads((tmp_path / "sheet.json").read_text())
    assert atlas["meta"]["format"] == "RGBA8888"
    assert (sheet[24:, 20:, 3] == 0).all()
    for frame, cell in zip(in_bytes(video), atlas["frames"], strict=True):
        x, y, w, h = cell["frame"].values()
        assert np.array_equal(sheet[y : y + h, x : x + w], frame)


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_formats_without_alpha_name_those_that_have_it(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ValueError, match=r"transparent video .* end the name in \.gif, \.webp, \.apng, \.png"):
        write(cutout(), tmp_path / f"clip.{ending}", fps=5.0)
    with pytest.raises(ValueError, match=r"end the name in \.png"):
        checked(tmp_path / "clip.apng", sheet=True, transparent=True)


def test_the_atlas_has_every_field_that_aseprite_writes_of_a_frame(tmp_path: Path) -> None:
    write(smooth(3, 8, 6), tmp_path / "walk.png", fps=8.0, sheet=True)
    atlas = json.loads((tmp_path / "walk.json").read_text())
    assert atlas["frames"][1] == {
        "filename": "1",
        "frame": {"x": 6, "y": 0, "w": 6, "h": 8},
        "rotated": False,
        "trimmed": False,
        "spriteSourceSize": {"x": 0, "y": 0, "w": 6, "h": 8},
        "sourceSize": {"w": 6, "h": 8},
        "duration": 125,
    }
    assert set(atlas["meta"]) == {"app", "version", "image", "format", "size", "scale", "frameTags"}
    assert atlas["meta"]["frameTags"] == [{"name": "walk", "from": 0, "to": 2, "direction": "forward"}]


def test_a_folder_that_takes_no_files_is_named_and_nothing_else() -> None:
    with pytest.raises(ValueError, match=r"^cannot write in /proc \(.*\): choose another folder$"):
        checked("/proc/out.mp4")


def test_equal_frames_stay_frames_of_their_own(tmp_path: Path) -> None:
    video = torch.zeros(3, 7, 8, 8)
    video[:, 5:] = 1
    back = read_clip(write(video, tmp_path / "still.apng", fps=10))
    assert torch.equal(back > 0.5, video > 0.5)
    assert probe(write(video[:, :5], tmp_path / "still.apng", fps=10)).frames == 5
