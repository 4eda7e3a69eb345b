import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from noisereel.cli.app import main
from noisereel.data.reader import probe, read_clip
from noisereel.data.writer import read_metadata, write
from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest upscaler as it is born: it answers its hint, time 2 and space 4."""
    call = {"recipe": "upscaler", "arguments": {"size": "tiny"}}
    folder = tmp_path_factory.mktemp("models") / "upscaler"
    TextToVideo(system=rebuild(call).system, call=call).save_pretrained(folder)
    return folder


def clip(frames: int = 6, height: int = 10, width: int = 14) -> torch.Tensor:
    rows = torch.linspace(-0.8, 0.8, width).expand(3, frames, height, width)
    return rows + 0.02 * torch.arange(frames)[:, None, None]


def upscaled(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["upscale", *map(str, words), "--tile", "64", "--window", "12", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp", "apng"])
def test_every_kind_of_clip_becomes_larger_and_longer(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    source = write(clip(), tmp_path / f"small.{ending}", fps=8.0)
    result = upscaled(capsys, source, "--space", 4, "--time", 2, "--model", model, "-o", tmp_path / f"large.{ending}")
    assert (result["frames"], result["height"], result["width"], result["fps"]) == (12, 40, 56, 16.0)
    large = read_clip(tmp_path / f"large.{ending}")
    assert large.shape == (3, 12, 40, 56)
    small = read_clip(source)
    assert torch.nn.functional.avg_pool2d(large[:, ::2], 4).sub(small).abs().mean() < 0.05
    assert probe(tmp_path / f"large.{ending}").seconds == pytest.approx(probe(source).seconds, abs=0.03)
    assert read_metadata(tmp_path / f"large.{ending}")["space"] == 4


def test_an_image_becomes_larger(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGBA", (9, 7), (255, 0, 0, 128)).save(tmp_path / "small.png")
    result = upscaled(capsys, tmp_path / "small.png", "--space", 4, "--model", model, "-o", tmp_path / "large.png")
    assert result["lost"] == ["transparency is laid on white"]
    assert Image.open(tmp_path / "large.png").size == (36, 28)


def test_what_is_rotated_and_deep_and_uneven_is_read_as_it_looks(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "phone.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "yuv420p10le"
        for i, time in enumerate([0, 125, 250, 600, 1000, 1500]):
            frame = av.VideoFrame.from_ndarray(np.full((12, 16, 3), 30 * i, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p10le")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    result = upscaled(capsys, path, "--space", 4, "--model", model, "-o", tmp_path / "large.mp4")
    assert "colours of 10 bits become 8" in result["lost"]
    assert (result["height"], result["width"]) == (48, 64)
    assert result["frames"] / result["fps"] == pytest.approx(probe(path).seconds, abs=0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("clip.mp4", "say how much larger: --space 4"),
        ("clip.mp4 --space 3", "cannot be joined to time 1, space 3: they are 'time' (time 2, space 1), 'space'"),
        ("clip.mp4 --space 0", "--space takes 1 or more, not 0"),
        ("clip.mp4 --space 4 --steps 0", "--steps takes 1 or more"),
        ("clip.mp4 --space 4 --prompt cat", "enlarges without words"),
        ("clip.mp4 --space 4 --tile 2", "tiles of 2 pixels are too small"),
        ("clip.mp4 --time 2 --window 2", "a window of 2 frames is too short for this model: use 4 or more"),
        ("clip.mp4 --space 4 -o clip.mp4", "is the clip itself"),
        ("clip.mp4 --space 4 -o large.png", "holds one picture and the clip moves"),
        ("clip.mp4 --space 4 -o large.avi", "end the name in .mp4"),
        ("clip.mp4 --space 4 -o nowhere/large.mp4", "there is no folder"),
        ("still.png --time 2", "is a single frame"),
        ("nothing.mp4 --space 4", "there is no file"),
        ("words.mp4 --space 4", "words.mp4"),
        ("broken.mp4 --time 2 --tile 64 --window 40", "cut short"),
    ],
)
def test_each_mistake_is_one_line_and_leaves_nothing(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(clip(), Path("clip.mp4"), fps=8.0)
    write(clip(1), Path("still.png"), fps=1.0)
    Path("words.mp4").write_text("not a video")
    noise = torch.rand(3, 40, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if "broken" in words:
        write(noise, Path("broken.webm"), fps=20.0).rename("broken.mkv")
        whole = Path("broken.mkv").read_bytes()
        Path("broken.mkv").write_bytes(whole[: len(whole) * 6 // 10])
        words = words.replace("mp4", "mkv", 1)
    before = set(tmp_path.iterdir())
    assert main(["upscale", *words.split(), "--model", str(model)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


def test_a_model_without_such_stages_is_told(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(clip(), tmp_path / "clip.mp4", fps=8.0)
    assert main(["upscale", str(source), "--space", "4", "--model", str(tiny_folder)]) == 2
    assert "no stage that enlarges" in capsys.readouterr().err
