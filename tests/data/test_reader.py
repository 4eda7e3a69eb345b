import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noisereel.data.reader import probe, read_clip
from noisereel.data.writer import write


def counter(frames: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Frame i is flat grey of level i, so that a picture says which frame it is."""
    levels = torch.linspace(-0.9, 0.9, frames)
    return levels[None, :, None, None].expand(3, frames, height, width)


def numbers(clip: torch.Tensor, frames: int) -> list[int]:
    return ((clip.mean(dim=(0, 2, 3)) + 0.9) / 1.8 * (frames - 1)).round().int().tolist()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write(counter(40), tmp_path / "film.mp4", fps=20.0)


def test_resampling_takes_the_frame_nearest_in_time(film: Path) -> None:
    assert numbers(read_clip(film), 40) == list(range(40))
    assert numbers(read_clip(film, frames=5, fps=5.0), 40) == [0, 4, 8, 12, 16]
    assert numbers(read_clip(film, frames=4, fps=40.0), 40) == [0, 0, 1, 1]
    assert numbers(read_clip(film, frames=4, fps=8.0), 40) == [0, 3, 5, 8], "2.5 lies between: either neighbour would do"
    assert numbers(read_clip(film, frames=3, fps=20.0, start=1.0), 40) == [20, 21, 22]
    assert numbers(read_clip(film, fps=10.0, start=1.5), 40) == [30, 32, 34, 36, 38]


def test_a_clip_may_reach_to_the_very_end_and_no_further(film: Path) -> None:
    assert read_clip(film, frames=10, fps=10.0, start=1.0).shape[1] == 10
    with pytest.raises(ValueError, match=r"lasts 2\.00 s: too short for 11 frames at 10 fps from 1 s"):
        read_clip(film, frames=11, fps=10.0, start=1.0)
    with pytest.raises(ValueError, match="too short"):
        read_clip(film, start=3.0)


def test_varying_rates_are_read_by_the_clock(tmp_path: Path) -> None:
    first, *rest = [Image.new("L", (8, 8), level) for level in (0, 100, 200)]
    for name in ("a.gif", "a.webp", "a.apng"):
        kind = "PNG" if name.endswith("apng") else None
        first.save(tmp_path / name, kind, save_all=True, append_images=rest, duration=[100, 400, 200])
        clip = read_clip(tmp_path / name, frames=7, fps=10.0)
        levels = ((clip[0, :, 4, 4] + 1) * 127.5).round()
        assert levels.sub(torch.tensor([0.0, 100, 100, 100, 100, 200, 200])).abs().max() <= 3, name
        assert probe(tmp_path / name).seconds == pytest.approx(0.7)


@pytest.mark.parametrize("ending", ["mkv", "webm", "mp4"])
def test_a_file_that_was_cut_short_is_reported(tmp_path: Path, ending: str) -> None:
    import av

    path = tmp_path / f"film.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"} if ending == "mp4" else {}) as output:
        stream = output.add_stream("libvpx-vp9" if ending == "webm" else "libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in noise:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    assert read_clip(path).shape[1] == 40
    os.truncate(path, path.stat().st_size * 6 // 10)
    assert read_clip(path, frames=10, fps=20.0).shape[1] == 10, "what is there may be read"
    for wanted in ({"frames": 40, "fps": 20.0}, {}):
        with pytest.raises(ValueError, match=r"says that it lasts 2\.0\d s but ends after [01]\.\d\d s|cannot read"):
            read_clip(path, **wanted)


def test_a_phones_rotation_is_undone(tmp_path: Path) -> None:
    video = -torch.ones(3, 4, 32, 48)
    video[:, :, :8, :8] = 1.0  # white top left corner
    path = write(video, tmp_path / "phone.mp4", fps=8.0)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # 3x3, 16.16 and 2.30 fixed point, after the version-0 fields
    quarter_turn_clockwise = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter_turn_clockwise)
    path.write_bytes(data)
    clip = read_clip(path)
    assert (probe(path).height, probe(path).width) == (48, 32)
    assert clip.shape[-2:] == (48, 32)
    assert (clip[:, :, :8, -8:].mean(), clip[:, :, :8, :8].mean()) == pytest.approx((1, -1), abs=0.1)


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    half.putpixel((0, 0), (0, 0, 0, 0))
    for name in ("a.png", "a.webp"):
        half.save(tmp_path / name, lossless=True)
        clip = read_clip(tmp_path / name)[:, 0]
        assert clip[:, 0, 0].tolist() == [1, 1, 1]
        assert clip[:, 2, 2].tolist() == pytest.approx([1, 0, 0], abs=0.01)


def test_the_centre_is_cropped_and_antialiased(tmp_path: Path) -> None:
    stripes = torch.ones(3, 1, 30, 60)
    stripes[..., ::2] = -1.0  # averages to grey
    stripes[..., :15] = stripes[..., 45:] = 1.0
    clip = read_clip(write(stripes, tmp_path / "a.png", fps=1.0), height=10, width=10)
    assert clip.shape == (3, 1, 10, 10)
    assert clip[..., 1:-1].abs().max() < 0.35, "the white sides are gone, and stripes are not aliased"
    assert read_clip(tmp_path / "a.png", height=64, width=32).shape == (3, 1, 64, 32)


def test_what_cannot_be_read_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.webm").touch()
    Image.effect_noise((64, 64), 90).save(tmp_path / "half.png")
    os.truncate(tmp_path / "half.png", 2000)
    for name in ("text.mp4", "text.png", "empty.webm", "half.png"):
        with pytest.raises(ValueError, match=f"cannot read .*{name}.*is it a whole"):
            read_clip(tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        probe(tmp_path / "none.mp4")
    Image.new("RGB", (4, 4)).save(tmp_path / "still.png")
    with pytest.raises(ValueError, match="a single image"):
        read_clip(tmp_path / "still.png", frames=2)
    with pytest.raises(ValueError, match="both sides or none"):
        read_clip(tmp_path / "still.png", height=4)


@pytest.mark.skipif("NOISEREEL_DATA" not in os.environ, reason="real clips are not shipped")
def test_real_clips_are_read() -> None:
    clips = sorted((Path(os.environ["NOISEREEL_DATA"]) / "clips").glob("*.[mgw][pike][4vfb]*"))
    assert len(clips) > 20
    for path in clips:
        clip = read_clip(path, frames=3, height=24, width=32, fps=4.0, start=0.5)
        assert clip.shape == (3, 3, 24, 32)
        assert clip.std() > 0.05
