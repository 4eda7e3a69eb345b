"""What people send: good files are decoded, hostile ones are refused, quickly, and the server stays up."""

import base64
import io
import json
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from serving import PROMPT, Running

from noisereel.data.writer import write
from noisereel.serve import apart
from noisereel.serve.uploads import MOST_PIXELS, Shape, decode, kind_of

LOCAL = b"file:" + b"///etc/passwd"  # what a hostile file might have the server read


def picture(ending: str = "PNG", size: tuple[int, int] = (24, 20)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(stream, ending)
    return stream.getvalue()


def clip(tmp_path: Path, name: str = "clip.mp4", frames: int = 6) -> bytes:
    path = tmp_path / name
    write(torch.rand(3, frames, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1, path, fps=4)
    return path.read_bytes()


def png_bomb(side: int) -> bytes:
    """A picture of side x side pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeezed = zlib.compressobj(9)
    rows = b"".join(squeezed.compress(b"\0" * (side // 8 + 1)) for _ in range(side)) + squeezed.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../etc/passwd", b"0" * 10**6)
    return stream.getvalue()


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Files that claim to be what they are not, or are more than they look."""
    good, moving = picture(), clip(tmp_path)
    box = struct.pack(">I", 24) + b"ftypisom\0\0\2\0isomiso2"
    return {
        "nothing": b"",
        "text": b"#EXTM3U\n" + LOCAL + b"\n",
        "zip": zipped(),
        "zip in mp4": box + zipped(),
        "half a png": good[: len(good) // 2],
        "png of noise": good[:33] + np.random.default_rng(1).bytes(2000),
        "png bomb": png_bomb(30_000),
        "mp4 of noise": box + np.random.default_rng(2).bytes(5000),
        "half an mp4": moving[: len(moving) // 3],
        "mp4 with a huge box": struct.pack(">I", 1) + b"ftyp" + struct.pack(">Q", 2**62) + moving[24:],
        "webm of noise": b"\x1a\x45\xdf\xa3" + np.random.default_rng(3).bytes(5000),
        "gif that ends": b"GIF89a" + b"\xff\xff\xff\xff" + bytes(20),
        "webp of noise": b"RIFF\xff\xff\xff\x7fWEBPVP8 " + np.random.default_rng(4).bytes(500),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="%s"/></svg>' % LOCAL,
        "jpeg of noise": b"\xff\xd8\xff\xe0" + np.random.default_rng(5).bytes(3000),
    }


def test_hostile_files_are_refused_in_time_and_the_server_stays_up(server: Running, tmp_path: Path) -> None:
    for name, content in hostile(tmp_path).items():
        began = time.process_time()
        answer = server.http.post(
            "/v1/videos",
            data={"prompt": PROMPT},
            files={"input_reference": ("../../../etc/cron.d/x.png", content, "image/png")},
        )
        assert 400 <= answer.status_code < 500, f"{name}: {answer.status_code} {answer.text}"
        message = answer.json()["error"]["message"]
        assert "/" not in message.replace("multipart/form-data", ""), f"{name}: {message}"
        assert time.process_time() - began < 10
    assert server.http.get("/health").status_code == 200


def test_what_is_sent_along_as_a_data_url(server: Running) -> None:
    url = f"data:image/jpeg;base64,{base64.b64encode(picture('JPEG')).decode()}"
    video = server.submit(input_reference={"image_url": url})
    assert video["kind"] == "image"
    assert server.ended(video["id"])["status"] == "completed"
    for broken in ("data:image/png;base64,%%%", "data:text/html,<b>", "data:image/png;base64,"):
        answer = server.http.post("/v1/videos", json={"prompt": PROMPT, "input_reference": {"image_url": broken}})
        assert 400 <= answer.status_code < 500


def test_a_clip_is_gone_on_from_and_too_short_or_long_a_one_refused(server: Running, tmp_path: Path) -> None:
    def send(content: bytes, **fields: object) -> dict:
        data = {"prompt": PROMPT, **{name: str(value) for name, value in fields.items()}}
        return server.http.post("/v1/videos", data=data, files={"input_reference": ("clip.mp4", content, "video/mp4")}).json()

    moving = clip(tmp_path)
    video = server.ended(send(moving, num_frames=10)["id"])
    assert (video["status"], video["kind"], video["num_frames"]) == ("completed", "extend", 10)
    assert "6 frames already" in send(moving, num_frames=5)["error"]["message"]
    assert "goes on from 2 or more" in send(clip(tmp_path, "one.webm", 1))["error"]["message"]


def test_a_finished_video_is_referred_to_by_its_id(server: Running) -> None:
    first = server.ended(server.submit(fps=2)["id"])  # played slowly, it has no more frames
    longer = server.ended(server.submit(kind="extend", video={"id": first["id"]}, num_frames=6)["id"])
    assert (longer["status"], longer["num_frames"]) == ("completed", 6)
    missing = server.http.post("/v1/videos", json={"prompt": PROMPT, "kind": "extend", "video": {"id": "video_0"}})
    assert missing.status_code == 404


def test_formats_are_recognised_by_their_first_bytes(tmp_path: Path) -> None:
    for ending, kind in [("PNG", "image"), ("JPEG", "image"), ("WEBP", "image"), ("GIF", "image")]:
        assert kind_of(picture(ending))[0] == kind
    assert kind_of(clip(tmp_path))[0] == "video"
    assert kind_of(clip(tmp_path, "clip.webm"))[0] == "video"
    assert kind_of(b"BM" + bytes(60)) is None


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 8
    (tmp_path / "large.png").write_bytes(png_bomb(side))
    with pytest.raises((ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError)):
        decode(str(tmp_path / "large.png"), str(tmp_path / "out.apng"), Shape(height=16, width=16, fps=4.0, one_frame=True))
    assert not (tmp_path / "out.apng").exists()


def endless() -> None:
    while True:
        pass


def greedy() -> int:
    return len(bytearray(2**32))


def test_time_and_memory_have_limits() -> None:
    with pytest.raises(ValueError, match=r"takes .* (seconds|time)"):
        apart.run_apart(endless, seconds=1.0)
    with pytest.raises(ValueError, match="memory"):
        apart.run_apart(greedy, memory=2**28, seconds=30.0)
    assert apart.run_apart(json.loads, "[1]") == [1]
    with pytest.raises(ValueError, match="Expecting value"):
        apart.run_apart(json.loads, "")
