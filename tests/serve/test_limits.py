"""What the server refuses: each with one sentence in the shape of OpenAI's errors, before work is spent on it."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from serving import PROMPT, Running

from noisereel.cli.app import main
from noisereel.pipeline import TextToVideo
from noisereel.serve.asking import VideoRequest, settings_of
from noisereel.serve.config import Config
from noisereel.serve.errors import Refused
from noisereel.serve.facts import facts_of
from noisereel.serve.keys import Keys

KEY, OTHER_KEY = "a key of enough letters".replace(" ", "-"), "another-key-of-letters"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({}, "prompt", "missing"),
        ({"prompt": "  "}, "prompt", "at least 1"),
        ({"prompt": "x" * 5000}, "prompt", "at most 4000"),
        ({"prompt": "\ud800"}, "prompt", "unicode"),
        ({"prompt": "é" * 100}, "prompt", "(100 characters) and the model reads"),
        ({"prompt": PROMPT, "negative_prompt": "é" * 100}, "negative_prompt", "The negative_prompt has"),
        ({"prompt": PROMPT, "size": "big"}, "size", "pattern"),
        ({"prompt": PROMPT, "size": "17x16"}, "size", "multiple of"),
        ({"prompt": PROMPT, "size": "4096x4096"}, "size", "this model makes 16x16"),
        ({"prompt": PROMPT, "num_frames": 100_000}, "num_frames", "at most"),
        ({"prompt": PROMPT, "seconds": "4", "num_frames": 4}, "num_frames", "one of them"),
        ({"prompt": PROMPT, "fps": 1e-150}, "fps", "greater than"),
        ({"prompt": PROMPT, "seed": -1}, "seed", "greater than"),
        ({"prompt": PROMPT, "seed": 2**62}, "seed", "less than"),
        ({"prompt": PROMPT, "num_inference_steps": 10**6}, "num_inference_steps", "1000 at most"),
        ({"prompt": PROMPT, "guidance_scale": float("nan")}, "guidance_scale", "guidance_scale: "),
        ({"prompt": PROMPT, "kind": "image"}, "input_reference", "send it as input_reference"),
        ({"prompt": PROMPT, "kind": "paint"}, "kind", "'generate'"),
        (
            {"prompt": PROMPT, "input_reference": {"image_url": "http://192.0.2.1/"}},
            "input_reference",
            "nothing is fetched",
        ),
        ({"prompt": PROMPT, "input_reference": {"file_id": "file-1"}}, "input_reference", "data URL"),
    ],
)
def test_one_sentence_for_each_mistake(server: Running, fields: dict, param: str, said: str) -> None:
    answer = server.http.post("/v1/videos", content=json.dumps(fields), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert said in error["message"]
    assert "\n" not in error["message"]


def test_a_distilled_model_takes_its_own_steps_alone(tiny: TextToVideo, tmp_path: Path) -> None:
    facts = replace(facts_of("tiny", tiny), fixed=True)
    config = Config(data=tmp_path)
    own = settings_of(VideoRequest(prompt=PROMPT, num_inference_steps=facts.steps), facts, config, "generate")
    assert (own["steps"], own["guidance"]) == (facts.steps, facts.guidance)
    for fields in ({"num_inference_steps": facts.steps + 1}, {"guidance_scale": 7.0}):
        with pytest.raises(Refused, match="it takes no other") as caught:
            settings_of(VideoRequest(prompt=PROMPT, **fields), facts, config, "generate")
        assert caught.value.param in fields


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'"text"', b"\xff", b'{"prompt": 1e999999}'])
def test_bodies_that_are_no_object(server: Running, body: bytes) -> None:
    answer = server.http.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_other_kinds_of_body_and_broken_forms(server: Running) -> None:
    assert server.http.post("/v1/videos", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; boundary="):
        answer = server.http.post("/v1/videos", content=b"--x\r\nnonsense", headers={"Content-Type": kind})
        assert answer.status_code == 400, answer.text


def test_a_body_that_is_too_large_whether_it_says_so_or_not(start: Callable) -> None:
    with start("--upload", 0.1) as running:
        large = b"0" * 200_000
        for body in (large, iter([large[:100_000], large[100_000:]])):
            answer = running.http.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"


def test_a_full_queue_and_a_quota_say_when_to_come_back(tiny_folder: Path, tmp_path: Path) -> None:
    from serving import serving

    keys = tmp_path / "keys"
    keys.write_text(f"# who may\nann {KEY}\nbob {OTHER_KEY}\n")
    options = ("--queue", 2, "--per-key", 2, "--api-key-file", keys)
    with serving(tiny_folder, tmp_path / "data", *options) as running:
        ann, bob = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER_KEY))
        long = {"prompt": PROMPT, "num_inference_steps": 1000}
        assert running.http.post("/v1/videos", json=long).status_code == 401
        assert running.http.post("/v1/videos", json=long, headers={"Authorization": "Bearer wrong"}).status_code == 401
        videos = [running.http.post("/v1/videos", json=long, headers=ann).json() for _ in range(2)]
        full = running.http.post("/v1/videos", json=long, headers=ann)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "quota_exceeded")
        assert int(full.headers["retry-after"]) >= 1
        answers = [running.http.post("/v1/videos", json=long, headers=bob) for _ in range(2)]
        assert answers[-1].status_code in (200, 429)
        # Nobody sees, cancels or deletes what is somebody else's.
        address = f"/v1/videos/{videos[0]['id']}"
        assert running.http.get(address, headers=bob).status_code == 404
        assert running.http.delete(address, headers=bob).status_code == 404
        assert videos[0]["id"] not in running.http.get("/v1/videos", headers=bob).text
        assert running.http.delete(address, headers=ann).status_code == 200
        assert running.http.get("/metrics").status_code == 401
        assert running.http.get("/health").status_code == 200


def test_headers_that_keep_browsers_safe_are_on_every_answer(server: Running) -> None:
    for path in ("/health", "/v1/videos", "/nothing"):
        headers = server.http.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_pages_of_other_sites_and_names_that_were_made_to_point_here(server: Running) -> None:
    body = {"prompt": PROMPT}
    assert server.http.post("/v1/videos", json=body, headers={"Origin": "https://example.com"}).status_code == 403
    assert server.http.post("/v1/videos", json=body, headers={"Host": "example.com"}).status_code == 421
    assert server.http.post("/v1/videos", json=body, headers={"Origin": server.address}).status_code == 200


def test_nothing_that_was_asked_for_comes_back(server: Running) -> None:
    for path in ("/v1/videos/<script>", "/<script>", "/v1/videos/..%2f..%2fetc%2fpasswd/content", "/static/..%2f..%2fapp.py"):
        answer = server.http.get(path)
        assert answer.status_code in (404, 405)
        assert "script" not in answer.text
        assert "passwd" not in answer.text


def test_keys_are_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for text, problem in [("", "holds no key"), ("ann short", "16 characters"), (f"a {KEY}\na {OTHER_KEY}", "called a")]:
        file.write_text(text)
        with pytest.raises(ValueError, match=problem):
            Keys.read(file)
    file.write_text(f"ann {KEY}\n{OTHER_KEY}\n")
    keys = Keys.read(file)
    assert keys.owner(f"Bearer {KEY}") == "ann"
    assert keys.owner(f"bearer {OTHER_KEY}") == "key-2"
    for wrong in (None, "", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", "Bearer \udcff"):
        with pytest.raises(Refused):
            keys.owner(wrong)


def test_a_model_that_cannot_be_opened_ends_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", "nothing-here", "--port", "0", "--data", str(tmp_path)]) == 2
    _, err = capsys.readouterr()
    assert "no model at 'nothing-here'" in err.strip().splitlines()[-1]


def test_check_tries_everything_and_says_what_is_wrong(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["serve", "--check", "--port", "0", "--data", str(tmp_path / "data")]
    assert main([*place, "--model", f"tiny={tiny_folder}"]) == 0
    out, _ = capsys.readouterr()
    assert "4 frames of 16x16" in out
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--check", "--port", str(port), "--data", str(tmp_path), "--model", "nothing-here"]) == 2
    _, err = capsys.readouterr()
    assert f"port {port}" in err
    assert "no model at 'nothing-here'" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--api-key-file"),
        (["--host", "192.0.2.1"], "--api-key-file"),
        (["--port", "99999"], "--port takes"),
        (["--queue", "0"], "--queue takes"),
        (["--api-key-file", "nothing"], "no file of keys"),
        (["--model", "a=x", "--model", "a=y"], "two models are called 'a'"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments]) == 2
    _, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
