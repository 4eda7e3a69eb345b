"""``noisereel prepare``: from videos to scenes and latents, each made once whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noisereel.cli.app import main
from noisereel.data.clips import origin_of
from noisereel.data.layouts.detect import listed
from noisereel.data.writer import write
from noisereel.making.prepare import Encoder, _latents
from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild
from noisereel.worlds.pools import Pools

for package in ("scenedetect", "imagehash"):
    pytest.importorskip(package, reason="needs noisereel[prepare]")
SHAPE, FPS = (9, 16, 16), 8.0  # of the tiny Sora


def moving(seed: int, frames: int = 16) -> torch.Tensor:
    """A pattern of its own on a ground of its own, drifting."""
    rng = torch.Generator().manual_seed(seed)
    ground, pattern = torch.rand(3, 1, 1, 1, generator=rng), torch.rand(1, 3, 8, 8, generator=rng)
    smooth = F.interpolate(pattern, size=(32, 32), mode="bicubic")[0, :, None]
    return torch.cat([(ground + 0.4 * smooth - 0.7).roll(frame, -1) for frame in range(frames)], dim=1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Sora that has learned nothing: an encoder is all that is needed."""
    call = {"recipe": "sora", "arguments": {"size": "tiny"}}
    system = rebuild(call).system
    system.first.text.learn_words(["a pattern drifts"])
    folder = tmp_path_factory.mktemp("models") / "sora"
    TextToVideo(system=system, call=call, about={}).save_pretrained(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two scenes in one file, one in another, a copy of it in another size, a still, a file that is none, and captions."""
    monkeypatch.setenv("NOISEREEL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "videos"
    folder.mkdir()
    write(torch.cat([moving(0), moving(1)], dim=1), folder / "a.mp4", fps=FPS)
    write(moving(2), folder / "b.mp4", fps=FPS)
    write(F.interpolate(moving(2), size=(64, 64), mode="nearest"), folder / "c.mp4", fps=FPS)
    write(moving(3)[:, :1].expand(-1, 16, -1, -1), folder / "d.mp4", fps=FPS)
    (folder / "e.mp4").write_bytes(b"no video" * 100)
    (folder / "a.txt").write_text("two patterns")
    return folder


@pytest.fixture
def prepared(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The command on that place, and what it says in JSON."""

    def run(model: Path | str, *more: str) -> dict[str, Any]:
        _latents.cache_clear()  # as in a new process
        capsys.readouterr()
        assert main(command(place, model, "--json", *more)) == 0
        return json.loads(capsys.readouterr().out)

    return run


def command(place: Path, model: Path | str, *more: str) -> list[str]:
    return ["prepare", str(place), "--out", str(place.parent / "out"), "--model", str(model), "--workers", "1", *more]


def test_scenes_are_chosen_and_all_else_has_a_reason(
    place: Path, model: Path, prepared: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = place.parent / "out"
    facts = prepared(model, "--moments", "2")
    assert {name: facts[name] for name in ("files", "damaged", "scenes", "used", "not_used")} == {
        "files": 5, "damaged": 1, "scenes": 5, "used": 3, "not_used": 3,
    }  # fmt: skip
    reasons = {one["name"]: one["reason"] for one in facts["unused"]}
    assert reasons["c.mp4"] == "it looks like b.mp4"
    assert reasons["d.mp4"].startswith("too still: motion ")
    assert "e.mp4" in reasons
    listing = listed(out)
    assert [(item.name, item.caption) for item in listing.items] == [
        ("a.mp4 [0.00-2.00 s]", "two patterns"),
        ("a.mp4 [2.00-4.00 s]", "two patterns"),
        ("b.mp4", None),
    ]
    # Every clip that training may ask for is there, and is what the model's encoder makes of those pixels.
    pools = Pools.open(str(out), shape=SHAPE, fps=FPS)
    assert facts["latents"] == 12  # 3 scenes at 2 moments, videos and single frames
    codec = TextToVideo.from_pretrained(model).system.first.codec
    latents = Encoder(model=str(model), folder=out).latents()
    for kind, source in (("video", pools.video), ("images", pools.images)):
        assert latents[kind].missing() == []
        assert source.distinct() == 6
        for row in range(6):
            with torch.no_grad():
                expected = codec.encode(source[row].video[None])[0]
            torch.testing.assert_close(latents[kind][row].video, expected, atol=2e-3, rtol=2e-3)
            assert latents[kind][row].caption == source[row].caption
    assert main(command(place, model, "--moments", "2", "--dry-run")) == 0
    told = capsys.readouterr()
    assert "latents of 12 clips, 12 of them there" in told.err
    assert "  c.mp4: it looks like b.mp4" in told.out


def test_training_on_a_prepared_folder_encodes_nothing(
    place: Path, model: Path, prepared: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, few_words: None
) -> None:
    prepared(model)
    out = place.parent / "out"

    def encoded(*_: Any) -> None:
        raise AssertionError("a clip was encoded again")

    plan = rebuild({"recipe": "sora", "arguments": {"size": "tiny", "data": str(out), "vae": str(model)}})
    images, joint = plan.phases()
    joint.data.mixes[0](0)  # of the prepared size; others are encoded when they are met
    monkeypatch.setattr("noisereel.data.latents.Latents._encoded", encoded)
    for step in range(3):
        assert images.data(step).encoded
    batch = joint.data.mixes[0](0)
    assert batch.encoded
    assert set(batch.captions) <= {"two patterns", None}


def test_what_changed_is_told_and_prepared_again(place: Path, prepared: Callable[..., dict[str, Any]]) -> None:
    prepared("none")
    out = place.parent / "out"
    write(moving(7), place / "b.mp4", fps=FPS)
    (place / "a.mp4").rename(place / "z.mp4")
    told = {one.name: one.reason for one in listed(out).skipped}
    assert told["b.mp4"] == "its file has changed since: run noisereel prepare again"
    assert "not in" in told["a.mp4 [0.00-2.00 s]"]
    assert prepared("none")["used"] == 4
    assert not listed(out).skipped


def test_a_place_and_its_folder_may_move_together(prepared: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    prepared("none")
    before = [origin_of(Pools.open(str(tmp_path / "out"), shape=SHAPE, fps=FPS).video, row) for row in range(6)]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("videos", "out"):
        (tmp_path / name).rename(moved / name)
    pools = Pools.open(str(moved / "out"), shape=SHAPE, fps=FPS)
    assert [origin_of(pools.video, row) for row in range(6)] == before, "latents that are kept are found again"


def test_killed_at_any_moment_it_goes_on_and_makes_the_same(
    place: Path, model: Path, prepared: Callable[..., dict[str, Any]]
) -> None:
    for number in range(10, 22):
        write(moving(number), place / f"{number}.mp4", fps=FPS)
    out, cache = place.parent / "out", place.parent / "cache"
    code = [sys.executable, "-c", "import sys; from noisereel.cli.app import main; main(sys.argv[1:])"]

    def there() -> int:
        lists = [*cache.glob("latents/*/*.list"), *out.glob("looks.jsonl")]
        return sum(path.read_text().count("\n") for path in lists)

    rng, until = np.random.default_rng(0), time.monotonic() + 60
    for _ in range(2):
        process = subprocess.Popen([*code, *command(place, model)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = there() + int(rng.integers(1, 25))
        while there() < goal and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    facts = prepared(model)
    assert facts["used"] == 15
    keys = [line.split()[0] for path in cache.glob("latents/*/*.list") for line in path.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == facts["latents"], "nothing was lost, nothing was made twice"
    looked = [json.loads(line)["name"] for line in (out / "looks.jsonl").read_text().splitlines()]
    assert sorted(looked) == sorted(set(looked))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["videos"], "the following arguments are required: --out"),
        (["nowhere", "--out", "out", "--model", "none"], "there is no folder or file nowhere"),
        (["videos", "--out", "videos", "--model", "none"], "--out videos is the place itself"),
        (["videos", "--out", "cache", "--model", "none"], "cache holds something that noisereel prepare did not write"),
        (
            ["videos", "--out", "out", "--model", "none", "--motion", "fast"],
            "--motion takes LOW:HIGH, such as 0.1:0.9 or 2:, not",
        ),
        (
            ["videos", "--out", "out", "--model", "none", "--seconds", "9:1"],
            "seconds from 9 to 1: give the smaller number first",
        ),
        (["videos", "--out", "out", "--model", "none", "--seconds", "100:"], "videos gives no scene to train on: a.mp4"),
        (["videos", "--out", "out", "--model", "none", "--moments", "0"], "0 moments of each scene: ask for 1 or more"),
        (["videos", "--out", "out", "--model", "nobody"], "no model at 'nobody'"),
        (["videos", "--out", "out", "--model", "vdm"], "model 'vdm' works on pixels, which need no latents: --model none"),
        (["videos", "--out", "out", "--model", "none", "--ray", "auto"], "--ray goes with --engine ray"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], says: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.parent)
    Path("cache").mkdir(exist_ok=True)
    (Path("cache") / "something").touch()
    assert main(["prepare", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_full_disk_is_told_before_the_work(
    place: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("noisereel.making.prepare._free", lambda _: 100)
    assert main(command(place, model)) == 2
    assert "MB left: make room, set NOISEREEL_CACHE to a larger disk" in capsys.readouterr().err.splitlines()[-1]


def test_the_cache_says_what_it_holds_and_forgets_what_is_damaged(
    place: Path, model: Path, prepared: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(model)
    records, _ = (place.parent / "cache" / "latents").glob("*/*.records")
    content = bytearray(records.read_bytes())
    content[100] ^= 1
    records.write_bytes(content)
    assert main(["data", "cache", "--verify"]) == 0
    assert "24 clips" in (told := capsys.readouterr().out)
    assert "1 damaged, now forgotten" in told
    assert prepared(model)["latents_there"] == 23
    assert main(["data", "cache", "--verify", "--json"]) == 0
    (said,) = [value for name, value in json.loads(capsys.readouterr().out).items() if name.startswith("CausalVAE")]
    assert said.startswith("24 clips")
    assert said.endswith("all whole")
