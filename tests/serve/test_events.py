"""Progress and previews as they happen, and the files of what came out in every format."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from serving import PROMPT, Running

from noisereel.cli.app import main
from noisereel.data.reader import probe, read_clip
from noisereel.data.writer import read_metadata


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_states_progress_and_previews_of_one_job(server: Running) -> None:
    video = server.submit(num_inference_steps=40)
    with server.http.stream("GET", f"/v1/videos/{video['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = list(events(answer))
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "state"
    assert told[-1][0] == "state"
    assert told[-1][1]["status"] == "completed"
    progress = [data["progress"] for kind, data in told if kind == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 99
    url = next(data["image"] for kind, data in told if kind == "preview")
    with Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,")))) as image:
        assert image.size == (16, 16)


def test_a_job_that_is_over_has_one_event(server: Running) -> None:
    video = server.ended(server.submit()["id"])
    with server.http.stream("GET", f"/v1/videos/{video['id']}/events") as answer:
        assert [kind for kind, _ in events(answer)] == ["state"]


def test_all_jobs_in_one_stream(server: Running) -> None:
    with server.http.stream("GET", "/v1/events") as answer:
        stream = events(answer)
        ids = {server.submit(seed=seed)["id"] for seed in (1, 2)}
        done = set()
        for kind, data in stream:
            if kind == "state" and data["status"] == "completed":
                done.add(data["id"])
            if ids <= done:
                break
        assert ids <= done


@pytest.mark.parametrize("format", ["mp4", "webm", "gif", "webp", "apng", "png"])
def test_every_format_carries_the_recipe_and_the_same_frames(server: Running, format: str, tmp_path: Path) -> None:
    video = server.ended(server.submit(seed=11, scale=2)["id"])
    answer = server.http.get(f"/v1/videos/{video['id']}/content", params={"format": format})
    path = tmp_path / f"video.{format}"
    path.write_bytes(answer.content)
    note = read_metadata(path)
    assert {name: note[name] for name in ("prompt", "seed", "model", "steps", "scale")} == {
        "prompt": PROMPT, "seed": 11, "model": "tiny", "steps": 3, "scale": 2,
    }  # fmt: skip
    if format != "png":
        assert (probe(path).frames, probe(path).height) == (4, 32)


def test_what_the_server_made_is_repeated_by_the_command_line(
    server: Running, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("first.png")
    with open("first.png", "rb") as file:
        answer = server.http.post("/v1/videos", data={"prompt": PROMPT, "seed": "5"}, files={"input_reference": file})
    for number, video in enumerate(
        [server.submit(seed=12, negative_prompt="a star", num_frames=7, guidance_scale=3.0), answer.json()]
    ):
        server.ended(video["id"])
        path = Path(f"{number}.apng")
        path.write_bytes(server.http.get(f"/v1/videos/{video['id']}/content", params={"format": "apng"}).content)
        image = ["--image", "first.png"] if video["kind"] == "image" else []
        assert main(["generate", "--like", str(path), "--model", str(tiny_folder), *image]) == 0
        assert torch.equal(read_clip(path), read_clip(f"{number}-again.apng"))


def test_formats_that_do_not_go_together(server: Running) -> None:
    video = server.ended(server.submit()["id"])
    address = f"/v1/videos/{video['id']}/content"
    for query in ({"format": "exe"}, {"variant": "original"}, {"variant": "thumbnail", "format": "mp4"}):
        assert server.http.get(address, params=query).status_code == 400
    frames = server.http.get(address, params={"variant": "spritesheet", "format": "json"}).json()["frames"]
    assert len(frames) == 4
    partial = server.http.get(address, headers={"Range": "bytes=0-9"})  # players ask for parts
    assert (partial.status_code, len(partial.content)) == (206, 10)
