import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from noisereel.data.encode import losses, sounds
from noisereel.data.reader import probe, read_clip, stream_clip
from noisereel.data.writer import read_metadata, write, written


def counter(frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """Frame i is flat grey of level i."""
    levels = torch.linspace(-0.9, 0.9, frames)
    return levels[None, :, None, None].expand(3, frames, height, width)


def filmed(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[float] = (),
    sound: str = "",
    seconds: float = 1.0,
) -> Path:
    """A grey film of 16 x 32x48, with a tone beside it if a codec for one is named."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=16)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        tone = output.add_stream(sound, rate=48000) if sound else None
        for i in range(16):
            picture = np.full((32, 48, 4), [16 * i, 16 * i, 16 * i, 255 if i < 8 else 0], dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format=pixels)
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[i] if times else i / 16))
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            wave = np.sin(2 * math.pi * 440 * np.arange(int(48000 * seconds)) / 48000).astype(np.float32)
            for start in range(0, len(wave), 960):
                piece = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 960]]), format="fltp", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 48000, start, Fraction(1, 48000)
                output.mux(tone.encode(piece))
            output.mux(tone.encode(None))
    return path


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.dts is not None]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a.apng"])
def test_a_film_written_piece_by_piece_is_the_film_written_at_once(tmp_path: Path, name: str) -> None:
    video = counter(16, 31, 45)
    whole = write(video, tmp_path / f"whole-{name}", fps=16.0, metadata={"seed": 1})
    with written(tmp_path / name, fps=16.0, size=(31, 45), metadata={"seed": 1}) as add:
        for piece in video.split([1, 7, 3, 5], dim=1):
            add(piece)
    assert torch.equal(read_clip(tmp_path / name), read_clip(whole))
    assert read_metadata(tmp_path / name) == {"seed": 1}
    if name != "a.webm":  # each webm has a random number of its own
        assert (tmp_path / name).read_bytes() == whole.read_bytes()


def test_a_film_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with written(tmp_path / "a.mp4", fps=16.0, size=(32, 48)) as add:
            add(counter(16))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp", "apng", "png"])
def test_a_clip_is_streamed_as_it_is_read_at_once(tmp_path: Path, ending: str) -> None:
    path = write(counter(1 if ending == "png" else 16), tmp_path / f"a.{ending}", fps=16.0)
    assert torch.equal(torch.stack(list(stream_clip(path)), dim=1), read_clip(path))


@pytest.mark.parametrize(("ending", "video", "sound"), [("mp4", "libx264", "aac"), ("webm", "libvpx-vp9", "libopus")])
def test_sound_is_kept_packet_by_packet(tmp_path: Path, ending: str, video: str, sound: str) -> None:
    source = filmed(tmp_path / f"a.{ending}", video, sound=sound)
    kept, lost = sounds(source, f".{ending}")
    assert (kept, lost) == (["aac" if sound == "aac" else "opus"], [])
    with written(tmp_path / f"b.{ending}", fps=32.0, size=(32, 48), sound=source) as add:
        for piece in counter(32).split(5, dim=1):
            add(piece)
    assert packets(tmp_path / f"b.{ending}") == packets(source) != []
    assert probe(tmp_path / f"b.{ending}").frames == 32
    with av.open(str(source)) as before, av.open(str(tmp_path / f"b.{ending}")) as after:
        starts = [float((c.streams.audio[0].start_time or 0) * c.streams.audio[0].time_base) for c in (before, after)]
        assert starts[0] == pytest.approx(starts[1], abs=0.03)


def test_what_a_film_cannot_keep_is_said(tmp_path: Path) -> None:
    assert losses(filmed(tmp_path / "plain.mp4"), ".mp4") == []
    assert losses(filmed(tmp_path / "tone.mp4", sound="aac"), ".mp4") == []
    assert losses(tmp_path / "tone.mp4", ".webm") == ["its sound (aac), which .webm cannot hold"]
    assert losses(tmp_path / "tone.mp4", ".gif") == ["its sound (aac), which .gif cannot hold"]
    assert losses(filmed(tmp_path / "deep.mkv", pixels="yuv420p10le"), ".mp4") == ["colours of 10 bits become 8"]
    assert losses(filmed(tmp_path / "glass.mov", "qtrle", "argb"), ".mp4") == ["transparency is laid on white"]
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    assert losses(tmp_path / "glass.png", ".mp4") == ["transparency is laid on white"]
    uneven = filmed(tmp_path / "uneven.mp4", times=[i / 16 if i < 8 else 0.5 + (i - 8) / 4 for i in range(16)])
    (said,) = losses(uneven, ".mp4")
    assert said.startswith("its varying rate becomes a steady")


def test_deep_and_transparent_films_are_read(tmp_path: Path) -> None:
    deep = torch.stack(list(stream_clip(filmed(tmp_path / "deep.mkv", pixels="yuv420p10le"))), dim=1)
    levels = (deep[0, :, 16, 24] + 1) * 127.5
    assert (levels - 16 * torch.arange(16)).abs().max() < 3
    glass = torch.stack(list(stream_clip(filmed(tmp_path / "glass.mov", "qtrle", "argb"))), dim=1)
    assert torch.equal(glass[:, 8:], torch.ones_like(glass[:, 8:])), "laid on white"
    assert glass[0, 3, 0, 0] == pytest.approx(48 / 127.5 - 1, abs=0.02)


def test_varying_rates_become_steady_and_last_as_long(tmp_path: Path) -> None:
    times = [i / 16 if i < 8 else 0.5 + (i - 8) / 4 for i in range(16)]
    path = filmed(tmp_path / "uneven.mkv", times=times)
    facts, frames = probe(path), list(stream_clip(path))
    assert len(frames) / facts.fps == pytest.approx(2.5, abs=0.3)
    assert len(frames) == pytest.approx(facts.frames, abs=2)
