"""Clips made larger: what the server makes is what ``noisereel upscale`` makes, and what cannot be made is said at once."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from serving import PROMPT, Running, serving

from noisereel.cli.app import main
from noisereel.data.reader import probe, read_clip, stream_clip
from noisereel.data.writer import read_metadata, write

FRAMES, HEIGHT, WIDTH = 11, 20, 12  # more than one window of the upscaler's, and no size it was made for


@pytest.fixture(scope="module")
def both(tiny_folder: Path, upscaler: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a model that makes videos and one that makes them larger."""
    with serving(tiny_folder, tmp_path_factory.mktemp("both"), "--model", f"larger={upscaler}") as running:
        while len(running.http.get("/health").json()["models"]) < 2:
            pass
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of which some are alike, at a rate whose frames do not last whole milliseconds."""
    video = torch.rand(3, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    video[:, 4:7] = video[:, 3:4]
    return write(video, tmp_path_factory.mktemp("clips") / "clip.mp4", fps=30)


def sent(running: Running, path: Path, **fields: object) -> dict:
    data = {"kind": "upscale", **{name: str(value) for name, value in fields.items()}}
    with path.open("rb") as file:
        return running.http.post("/v1/videos", data=data, files={"input_reference": file}).json()


def fetched(running: Running, id: str, path: Path, format: str = "apng") -> Path:
    path.write_bytes(running.http.get(f"/v1/videos/{id}/content", params={"format": format}).content)
    return path


def test_the_frames_are_those_of_the_command_line(both: Running, upscaler: Path, clip: Path, tmp_path: Path) -> None:
    video = both.ended(sent(both, clip, seed=3, prompt="a title", space=2)["id"])
    assert video["status"] == "completed", video["error"]
    assert (video["kind"], video["model"], video["num_frames"]) == ("upscale", "larger", FRAMES)
    assert (video["size"], video["prompt"], video["fps"]) == (f"{WIDTH * 2}x{HEIGHT * 2}", "a title", 30)
    made = tmp_path / "made.mp4"
    assert main(["upscale", str(clip), "-o", str(made), "--model", str(upscaler), "--seed", "3", "--space", "2"]) == 0
    film = fetched(both, video["id"], tmp_path / "film.mp4", "mp4")
    assert probe(film).fps == probe(made).fps
    # Not to the bit: two processes have been seen to differ in the last bits, which coding makes a few levels of.
    frames, expected = (torch.stack(list(stream_clip(path))) for path in (film, made))
    assert (frames - expected).abs().mean() < 0.1 * (frames - expected.roll(1, dims=0)).abs().mean()
    note = read_metadata(film)
    assert {name: note[name] for name in ("seed", "space", "steps", "prompt")} == {
        "seed": 3, "space": 2, "steps": 2, "prompt": "a title",
    }  # fmt: skip
    assert note["upscaled"].startswith("sha256:")


def test_more_frames_in_the_same_time(both: Running, clip: Path) -> None:
    video = both.ended(sent(both, clip, time=2)["id"])
    assert (video["status"], video["num_frames"], video["fps"]) == ("completed", 2 * FRAMES, 60)
    assert video["size"] == f"{WIDTH}x{HEIGHT}"


def test_what_was_made_here_is_enlarged_frame_by_frame(both: Running, upscaler: Path, tmp_path: Path) -> None:
    small = both.ended(both.submit(seed=2, fps=7.3)["id"])
    larger = both.http.post("/v1/videos", json={"kind": "upscale", "input_reference": {"id": small["id"]}, "seed": 1}).json()
    larger = both.ended(larger["id"])
    assert (larger["status"], larger["prompt"], larger["fps"], larger["num_frames"]) == ("completed", PROMPT, 7.3, 4)
    sheet = both.http.get(f"/v1/videos/{small['id']}/content", params={"variant": "spritesheet"}).content
    pixels = torch.frombuffer(bytearray(Image.open(io.BytesIO(sheet)).convert("RGB").tobytes()), dtype=torch.uint8)
    frames = pixels.reshape(16, 4, 16, 3).permute(3, 1, 0, 2).float() / 127.5 - 1
    own = write(frames, tmp_path / "own.apng", fps=10)
    made = tmp_path / "made.apng"
    assert main(["upscale", str(own), "-o", str(made), "--model", str(upscaler), "--space", "2", "--seed", "1"]) == 0
    assert torch.equal(read_clip(fetched(both, larger["id"], tmp_path / "larger.apng"), fps=7.3), read_clip(made))


def test_a_picture_is_enlarged_as_a_video_of_one_frame(both: Running, tmp_path: Path) -> None:
    Image.new("RGB", (9, 7), (10, 200, 30)).save(tmp_path / "small.png")
    video = both.ended(sent(both, tmp_path / "small.png", space=2)["id"])
    assert (video["status"], video["size"], video["num_frames"]) == ("completed", "18x14", 1)


def test_what_cannot_be_enlarged_is_said_at_once(both: Running, server: Running, clip: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1500, 800)).save(tmp_path / "large.png")
    one = Image.new("RGB", (8, 8))
    one.save(tmp_path / "one.png")
    for path, fields, said in [
        (clip, {"space": 5}, "cannot enlarge by time 1, space 5; it can by time 1, space 2"),
        (clip, {"model": "tiny"}, "The model tiny cannot do upscale; it can do generate"),
        (clip, {"num_frames": 3}, "leave num_frames out"),
        (tmp_path / "large.png", {}, "1500x800 pixels, too many"),
        (tmp_path / "one.png", {"space": 2, "time": 2}, "leave time out"),
    ]:
        assert said in sent(both, path, **fields)["error"]["message"]
    assert "No model of this server enlarges" in sent(server, clip)["error"]["message"]
    assert "send it as input_reference" in both.http.post("/v1/videos", json={"kind": "upscale"}).json()["error"]["message"]
    answer = both.http.post("/v1/videos", json={"prompt": PROMPT, "space": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "space")
    answer = both.http.post("/v1/videos", json={"prompt": PROMPT, "model": "larger"})
    assert "cannot do generate; it can do upscale" in answer.json()["error"]["message"]


def test_it_is_cancelled_within_a_step(both: Running, clip: Path) -> None:
    video = sent(both, clip, num_inference_steps=1000)
    while (state := both.http.get(f"/v1/videos/{video['id']}").json())["progress"] < 1:
        assert state["status"] != "completed"
    both.http.post(f"/v1/videos/{video['id']}/cancel")
    assert both.ended(both.submit()["id"])["status"] == "completed"  # not after three thousand steps
