"""The command line as a user meets it: files that play, one JSON object, seeds that mean something, runs that continue."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from noisereel import __version__
from noisereel.cli import latents, training
from noisereel.cli.app import VERBS, main
from noisereel.cli.progress import Lines
from noisereel.codecs.pixels import Pixels
from noisereel.data.reader import probe, read_clip
from noisereel.data.writer import read_metadata
from noisereel.evaluate import following
from noisereel.evaluate.following import Following, Sampled
from noisereel.making import memory
from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.worlds.oracle import Rate
from noisereel.worlds.shapes import render, scene

PROMPT = "a red circle moves to the left"


@pytest.fixture
def go(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Runs a command in an empty folder, with the tiny model, and returns its JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> dict[str, Any]:
        model = ["--model", tiny_folder] if arguments[0] == "generate" and "--model" not in arguments else []
        assert main([*map(str, arguments), *map(str, model), "--json"]) == code
        out, _ = capsys.readouterr()
        return json.loads(out)

    return run


def pixels(path: Path | str) -> np.ndarray:
    return read_clip(path).movedim(0, -1).numpy()


# Before anything is loaded


def test_help_and_version_need_no_torch_and_no_time() -> None:
    code = """
import sys, time
start = time.perf_counter()
import noisereel
imported = time.perf_counter() - start
from noisereel.cli.app import main
main(["--help"]); main(["--version"]); main(["generate", "--help"])
print(imported, time.perf_counter() - start, "torch" in sys.modules, "jsonargparse" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    *_, last = out.splitlines()
    imported, took, torch, jsonargparse = last.split()
    assert float(imported) < 0.1
    assert float(took) < 1
    assert (torch, jsonargparse) == ("False", "False")
    assert all(verb in out for verb in VERBS)
    assert f"noisereel {__version__}" in out
    assert "--guidance" in out


def test_no_verb_at_all_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "generate" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: noisereel {verb}")
    assert "--json" in out
    assert err == ""


# Generate


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp", "apng", "png"])
def test_the_ending_says_the_format_and_the_file_says_how_it_was_made(go: Callable, ending: str) -> None:
    made = go("generate", PROMPT, "-o", f"out.{ending}", "--seed", 5, "--scale", 4)
    facts = probe(made["path"])
    if ending == "png":
        assert facts.frames == 1
        assert facts.width > 4 * 64
    else:
        assert (facts.frames, facts.height, facts.width) == (4, 64, 64)
        assert facts.fps == pytest.approx(4)
    shown = go("show", made["path"])
    assert shown["made_with"]["prompt"] == PROMPT
    assert shown["made_with"]["seed"] == 5
    assert shown["made_with"]["noisereel"] == __version__


def test_json_says_where_which_seed_and_how_long(go: Callable, tiny_folder: Path) -> None:
    made = go("generate", PROMPT)
    assert made["path"] == "out.mp4"
    assert made["model"] == str(tiny_folder)
    assert made["steps"] == 3
    assert set(made["seconds"]) == {"load", "sample", "write"}
    assert made["unknown_words"] == []
    again = go("generate", PROMPT, "--seed", made["seed"], "-o", "again.apng")
    assert again["videos"][0]["guidance"] == 2.0
    assert min(probe("out.mp4").height, probe("out.mp4").width) == 256, "small videos are enlarged until they can be watched"


def test_for_people_it_says_the_same_in_words(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.gif"
    assert main(["generate", "a red dog", "--model", str(tiny_folder), "-o", str(out), "--seed", "3"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"{out}  seed 3"
    assert "sample" in said.out
    assert "'dog'" in said.err
    assert "'red'" not in said.err


def test_each_video_of_a_call_can_be_made_alone(go: Callable) -> None:
    together = go("generate", PROMPT, "a blue square", "--count", 2, "--seed", 10, "-o", "v.apng", "--scale", 1)
    assert [(video["path"], video["seed"]) for video in together["videos"]] == [
        ("v-1.apng", 10), ("v-2.apng", 11), ("v-3.apng", 12), ("v-4.apng", 13)
    ]  # fmt: skip
    assert [video["prompt"] for video in together["videos"]] == [PROMPT] * 2 + ["a blue square"] * 2
    go("generate", "a blue square", "--seed", 12, "-o", "alone.apng", "--scale", 1)
    np.testing.assert_allclose(pixels("v-3.apng"), pixels("alone.apng"), atol=2.01 / 255)
    assert not np.allclose(pixels("v-3.apng"), pixels("v-4.apng"), atol=0.1)


def test_the_same_command_writes_the_same_bytes(go: Callable) -> None:
    for name in ("a.webp", "b.webp"):
        go("generate", PROMPT, "--seed", 1, "-o", name)
    assert Path("a.webp").read_bytes() == Path("b.webp").read_bytes()
    go("generate", PROMPT, "--seed", 2, "-o", "c.webp")
    assert Path("a.webp").read_bytes() != Path("c.webp").read_bytes()


def test_python_and_the_command_line_make_the_same_video(go: Callable, tiny: TextToVideo) -> None:
    import torch

    go(
        "generate",
        PROMPT,
        "--seed",
        6,
        "-o",
        "a.apng",
        "--scale",
        1,
        "--steps",
        2,
        "--guidance",
        3,
        "--negative",
        "a blue square",
    )
    frames = tiny(
        PROMPT,
        generator=torch.Generator().manual_seed(6),
        num_inference_steps=2,
        guidance_scale=3.0,
        negative_prompt="a blue square",
        output_type="np",
    ).frames[0]
    np.testing.assert_allclose(pixels("a.apng") / 2 + 0.5, frames, atol=1 / 255)


def test_one_frame_is_an_image(go: Callable) -> None:
    made = go("generate", PROMPT, "--frames", 1, "--scale", 2, "--height", 16, "--width", 24)
    assert made["path"] == "out.png"
    with Image.open("out.png") as image:
        assert image.size == (48, 32)


def test_a_sprite_sheet_has_equal_cells_and_says_where_they_are(go: Callable) -> None:
    made = go("generate", PROMPT, "--sheet", "--seed", 4, "-o", "hero.png")
    go("generate", PROMPT, "--seed", 4, "-o", "hero.apng", "--scale", 1)
    sheet = pixels(made["path"])[0]
    cells = json.loads(Path("hero.json").read_text())["frames"]
    frames = [cell["frame"] for cell in cells]
    assert len(frames) == 4
    cut = np.stack([sheet[f["y"] : f["y"] + f["h"], f["x"] : f["x"] + f["w"]] for f in frames])
    assert np.array_equal(cut, pixels("hero.apng"))


def test_extend_goes_on_from_the_last_frames(go: Callable) -> None:
    go("generate", PROMPT, "--seed", 3, "-o", "short.apng", "--scale", 1)
    made = go("generate", PROMPT, "--seed", 3, "-o", "long.apng", "--scale", 1, "--extend", 9)
    long = pixels(made["path"])
    assert len(long) == 9
    assert np.array_equal(long[:4], pixels("short.apng"))
    assert not np.allclose(long[4:8], long[:4], atol=0.1)


def test_between_keeps_the_given_frames_and_fills_the_rest(go: Callable) -> None:
    go("generate", PROMPT, "--seed", 3, "-o", "given.apng", "--scale", 1)
    made = go("generate", PROMPT, "--between", "given.apng", "-o", "smooth.apng", "--scale", 1)
    smooth = pixels(made["path"])
    assert len(smooth) == 7
    assert np.array_equal(smooth[::2], pixels("given.apng"))
    assert not np.array_equal(smooth[1::2], smooth[:-1:2])
    assert probe(made["path"]).fps == pytest.approx(8), "twice the frames in the same time"


def test_a_gif_that_would_be_too_fast_is_refused_before_sampling(
    go: Callable, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go("generate", PROMPT, "--fps", 40, "-o", "given.apng", "--scale", 1)
    monkeypatch.delattr(System, "between")
    assert main(["generate", PROMPT, "--between", "given.apng", "-o", "out.gif", "--model", str(tiny_folder)]) == 2
    assert "at most 50 frames a second, not 80" in capsys.readouterr().err


def test_between_two_images(go: Callable) -> None:
    for number in (1, 2):
        go("generate", PROMPT, "--frames", 1, "--seed", number, "-o", f"{number}.png", "--scale", 1)
    made = go("generate", PROMPT, "--between", "1.png", "--between", "2.png", "-o", "both.apng", "--scale", 1)
    both = pixels(made["path"])
    assert len(both) == 4
    assert np.array_equal(both[[0, 3]], np.concatenate([pixels("1.png"), pixels("2.png")]))


def test_an_image_is_where_the_video_begins(go: Callable) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (255, 128, 0)
    wide[5:15, 25:35] = (0, 0, 255)
    Image.fromarray(wide).save("first.png")
    made = go("generate", PROMPT, "--image", "first.png", "-o", "on.apng", "--scale", 1, "--seed", 2)
    begun = pixels(made["path"])
    assert len(begun) == 4
    np.testing.assert_allclose(begun[0], read_clip("first.png", height=16, width=16)[:, 0].movedim(0, -1), atol=2.01 / 255)
    assert begun[0, 0, 0, 0] > 0.9, "cropped at its centre"
    assert not np.allclose(begun[1], begun[0], atol=0.1)
    assert read_metadata("on.apng")["image"] == "first.png"
    longer = go("generate", PROMPT, "--image", "first.png", "-o", "longer.apng", "--scale", 1, "--seed", 2, "--extend", 6)
    assert np.array_equal(pixels(longer["path"])[:4], begun)


def test_an_image_begins_each_of_several_videos(go: Callable) -> None:
    Image.new("RGB", (16, 16), (200, 30, 30)).save("first.png")
    made = go("generate", PROMPT, "--count", 2, "--image", "first.png", "-o", "on.apng", "--scale", 1)
    first, second = (pixels(video["path"]) for video in made["videos"])
    np.testing.assert_allclose(first[0], second[0], atol=2.01 / 255)
    assert not np.allclose(first[1], second[1], atol=0.1)


@pytest.fixture(scope="session")
def squeezed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned nothing, whose autoencoder holds four frames in a latent one and the first alone."""
    call = {"recipe": "sora", "arguments": {"size": "tiny", "steps": 2}}
    system = rebuild(call).system
    system.first.text.learn_words([PROMPT])
    folder = tmp_path_factory.mktemp("models") / "squeezed"
    TextToVideo(system=system, call=call).save_pretrained(folder)
    return folder


def test_a_model_that_compresses_time_goes_on_from_whole_latent_frames(go: Callable, squeezed: Path) -> None:
    Image.new("RGB", (16, 16), (200, 30, 30)).save("first.png")
    asked = ("generate", PROMPT, "--model", squeezed, "--seed", 1, "--scale", 1, "--image", "first.png")
    short = pixels(go(*asked, "-o", "short.apng")["path"])
    long = pixels(go(*asked, "-o", "long.apng", "--extend", 20)["path"])
    assert (len(short), len(long)) == (9, 20)
    assert np.array_equal(long[:9], short)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frames", 4], "frames 4 will not do: this model takes 1 and a multiple of 4, such as 1 or 5"),
        (["--extend", 8], "such as 5 or 9"),
        (["--between", "clip.gif"], "cannot fill in between single ones"),
    ],
)
def test_lengths_it_cannot_make_are_refused_with_those_it_can(
    go: Callable, squeezed: Path, capsys: pytest.CaptureFixture[str], options: list[object], words: str
) -> None:
    go("generate", PROMPT, "-o", "clip.gif", "--scale", 1)
    assert main(["generate", PROMPT, "--model", str(squeezed), "-o", "out.gif", *map(str, options)]) == 2
    assert words in capsys.readouterr().err
    assert os.listdir() == ["clip.gif"]


# Transparency


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Makes decoding give a red circle on white, whatever was sampled; returns it in [-1, 1]."""
    truth = next(found for i in count() if (found := scene(i, "full", "train")).colour == "red" and found.ground == "white")
    video = render(truth, 4, 16, 16, 4.0)
    monkeypatch.setattr(Stage, "decode", lambda stage, latent: video.expand(len(latent), *video.shape))
    return video


def rgba(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)])


@pytest.mark.parametrize("ending", ["apng", "webp", "gif", "png"])
def test_a_plain_ground_becomes_transparent(go: Callable, scenes: Tensor, ending: str) -> None:
    shown = rgba(go("generate", PROMPT, "--transparent", "-o", f"hero.{ending}", "--scale", 1)["path"])
    assert shown.shape[1:] == ((16, 4 * 16 + 3 * 2, 4) if ending == "png" else (16, 16, 4))
    solid = int((scenes[1] < 0).sum())  # red takes the green from white
    assert (shown[..., 3] > 127).sum() == pytest.approx(solid, rel=0.15)
    assert shown[0, 0, 0, 3] == 0
    assert (shown[shown[..., 3] == 255][:, 1] < 80).mean() > 0.95, "red, without white"


def test_a_transparent_sprite_sheet(go: Callable, scenes: Tensor) -> None:
    made = go("generate", PROMPT, "--transparent", "--sheet", "-o", "hero.png")
    (sheet,) = rgba(made["path"])
    assert sheet.shape == (16, 64, 4)
    assert json.loads(Path("hero.json").read_text())["meta"]["format"] == "RGBA8888"


def test_transparent_without_a_name_is_apng(go: Callable, scenes: Tensor) -> None:
    assert go("generate", PROMPT, "--transparent")["path"] == "out.apng"


# What is sampled is not lost


def break_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels decode no more."""

    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr(Pixels, "decode", fail)


def test_what_cannot_be_decoded_is_kept_and_decoded_later(
    go: Callable, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["generate", PROMPT, "--count", 2, "--seed", 8, "-o", "v.apng", "--scale", 2, "--fps", 5]
    wanted = [video["path"] for video in go(*asked)["videos"]]
    before = [(Path(path).read_bytes(), read_metadata(path)) for path in wanted]
    for path in wanted:
        Path(path).unlink()
    with pytest.MonkeyPatch.context() as patch:
        break_codec(patch)
        assert main([*map(str, asked), "--model", str(tiny_folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not enough memory" in said
    assert "its latents are kept: noisereel decode v-1.latents.safetensors" in said
    kept = ["v-1.latents.safetensors", "v-2.latents.safetensors"]
    assert sorted(os.listdir()) == kept
    assert [video["path"] for video in go("decode", *kept)["videos"]] == wanted
    assert [(Path(path).read_bytes(), read_metadata(path)) for path in wanted] == before
    assert go("decode", kept[1], "-o", "other.gif")["path"] == "other.gif"
    assert probe("other.gif").height == 32


def test_a_full_disk_is_told_beside_what_failed(go: Callable, tiny_folder: Path, monkeypatch: Any, capsys: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    break_codec(monkeypatch)
    monkeypatch.setattr(latents, "save_file", full)
    assert main(["generate", PROMPT, "--model", str(tiny_folder), "-o", "out.gif"]) == 2
    said = capsys.readouterr().err
    assert "not enough memory" in said
    assert "could not be kept: could not write out.latents.safetensors: No space left" in said
    assert os.listdir() == []


def test_latents_that_are_not_numbers_are_not_worth_keeping(
    go: Callable, tiny_folder: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = Stage.sample
    monkeypatch.setattr(Stage, "sample", lambda *a, **k: (replace(step, x=step.x * torch.nan) for step in sample(*a, **k)))
    assert main(["generate", PROMPT, "--model", str(tiny_folder), "-o", "out.gif"]) == 2
    assert "not finite" in capsys.readouterr().err
    assert os.listdir() == []


def test_more_than_fits_at_once_is_sampled_in_turn(go: Callable, monkeypatch: Any) -> None:
    together = go("generate", PROMPT, "--count", 3, "--seed", 1, "-o", "a.apng", "--scale", 1)
    monkeypatch.setattr(memory, "samples_at_once", lambda *_, **__: 1)
    apart = go("generate", PROMPT, "--count", 3, "--seed", 1, "-o", "b.apng", "--scale", 1)
    for one, other in zip(together["videos"], apart["videos"], strict=True):
        np.testing.assert_allclose(pixels(one["path"]), pixels(other["path"]), atol=2.01 / 255)


# Show, env, evaluate


def test_show_a_model(go: Callable, tiny_folder: Path, tiny: TextToVideo) -> None:
    shown = go("show", tiny_folder)
    assert shown["summary"] == "A model that has learned nothing, for tests."
    assert shown["recipe"] == "vdm"
    assert shown["arguments"]["size"] == "tiny"
    assert shown["makes"] == {"frames": 4, "height": 16, "width": 16, "fps": 4.0}
    assert shown["parameters"]["total"] == sum(p.numel() for part in tiny.system.parts().values() for p in part.parameters())
    assert "circle" in shown["words"]


def test_env_names_what_a_bug_report_needs(go: Callable) -> None:
    facts = go("env")
    assert facts["noisereel"] == __version__
    assert facts["packages"]["torch"].startswith("2.")
    assert facts["cores"] >= 1
    assert facts["devices"]


def test_evaluate_passes_on_what_was_asked_and_shows_a_table(
    go: Callable, tiny_folder: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}
    rates = {name: Rate(rate=rate, low=0.25, high=1.0) for name, rate in (("colour", 0.75), ("all", 0.5))}

    def judged(system: System, **options: Any) -> Iterator[Sampled]:
        asked.update(options, steps=system.first.steps)
        controls = dict.fromkeys(("ceiling", "shuffled", "frozen"), rates)
        facts = {"count": 4, "seed": 1, "wording": "seen", "shape": (4, 16, 16), "seconds_per_clip": 0.1}
        yield Sampled(done=2, total=4)
        yield Sampled(done=4, total=4, following=Following(model=rates, **controls, **facts))

    monkeypatch.setattr(following, "following", judged)
    report = go("evaluate", tiny_folder, "--count", 4, "--batch", 2, "--steps", 1, "--seed", 1)
    assert asked == {"part": "small", "count": 4, "batch": 2, "seed": 1, "wording": "seen", "steps": 1}
    assert report["model"]["all"]["rate"] == 0.5
    assert report["guidance"] == 2.0
    assert main(["evaluate", str(tiny_folder), "--part", "full"]) == 0
    assert re.search(r"^colour +0\.750 +\(0\.250-1\.000\)", capsys.readouterr().out, re.MULTILINE)
    assert asked["part"] == "full"


# Train


TRAIN = (
    "train",
    "vdm",
    "--size",
    "tiny",
    "--out",
    "run",
    "--steps",
    "1",
    "--batch",
    "4",
    "--images",
    "0",
    "--precision",
    "fp32",
)


@pytest.mark.usefixtures("few_words")
def test_a_run_stops_continues_and_ends_in_a_model(go: Callable) -> None:
    stopped = go(*TRAIN, "--clips", 8, "--minutes", 0)
    assert not stopped["finished"]
    assert stopped["clips"] == 0
    trained = go(*TRAIN, "--clips", 8, "--resume")
    assert trained["finished"]
    assert (trained["clips"], trained["steps"]) == (8, 2)
    model = go("show", "run/model")
    assert model["arguments"]["size"] == "tiny"
    assert model["about"]["clips"] == 8
    assert "red" in model["words"]
    assert go("generate", PROMPT, "--model", "run/model", "-o", "out.gif")["path"] == "out.gif"
    assert main([*TRAIN, "--clips", "8", "--images", "2"]) == 2, "another run does not go into the same folder"
    assert go(*TRAIN, "--clips", 12)["clips"] == 12, "but the same run may go further"


@pytest.mark.usefixtures("few_words")
def test_ctrl_c_saves_says_so_and_exits_130(go: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    @contextmanager
    def interrupting(what: str, **_: Any) -> Iterator[Callable]:
        yield lambda *_: os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training, "progress", interrupting)
    assert main([*TRAIN, "--clips", "40"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "noisereel: stopped after 4 clips; the same command goes on from there\n"
    assert Path("run/model/model_index.json").exists()
    assert TextToVideo.from_pretrained("run/model").about["clips"] == 4


@pytest.mark.usefixtures("few_words")
def test_a_config_file_and_the_command_line_has_the_last_word(go: Callable, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("size: tiny\nclips: 77\nbatch: 7\n")
    *_, phase = go("train", "vdm", "--config", "run.yaml", "--batch", 5, "--dry-run")["phases"]
    assert (phase["clips"], phase["batch"]) == (77, 5)


@pytest.mark.usefixtures("few_words")
def test_a_dry_run_counts_without_training(go: Callable, tiny: TextToVideo) -> None:
    (alone,) = go("train", "vdm", "--size", "tiny", "--images", 0, "--dry-run")["phases"]
    *_, joint = go("train", "vdm", "--size", "tiny", "--images", 4, "--dry-run")["phases"]
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in tiny.system.parts().items()}
    assert {name: alone[f"parameters {name}"] for name in parts} == parts
    assert alone["parameters trained"] == sum(parts.values())
    assert joint["shape"][1] == 2 * alone["shape"][1], "four frames, and four images behind them"
    assert 1.8 < joint["gigaflops per clip"] / alone["gigaflops per clip"] < 2.2
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("few_words")
def test_a_dry_run_of_what_is_told_of_clips_draws_nothing(go: Callable) -> None:
    phases = {phase["phase"]: phase for phase in go("train", "make_a_video", "--size", "tiny", "--dry-run")["phases"]}
    assert phases["videos"]["gigaflops per clip"] > 3 * phases["images"]["gigaflops per clip"] > 0
    assert phases["images"]["parameters trained"] < phases["videos"]["parameters trained"]


def test_a_dry_run_needs_no_latents_and_counts_an_autoencoder(go: Callable) -> None:
    phases = go("train", "sora", "--size", "tiny", "--dry-run")["phases"]
    assert [(phase["phase"], phase["shape"]) for phase in phases] == [
        ("autoencoder", [3, 5, 16, 16]), ("images", [3, 1, 16, 16]), ("joint", [3, 9, 16, 16])
    ]  # fmt: skip
    assert all(phase["gigaflops per clip"] > 0 for phase in phases)
    assert phases[0]["parameters trained"] == phases[1]["parameters vae"]
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("few_words")
def test_kinds_that_take_turns_are_overfitted_too(go: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOISEREEL_CACHE", str(tmp_path / "cache"))
    run = ("train", "sora", "--size", "tiny", "--out", "run", "--pixels", 16, "--stills", 32, "--clips", 8, "--overfit", 1)
    assert go(*run)["finished"]


@pytest.mark.usefixtures("few_words")
def test_overfitting_trains_on_few_clips(go: Callable) -> None:
    assert go(*TRAIN, "--clips", 8, "--overfit", 1)["clips"] == 8
    assert main([*TRAIN, "--clips", "8"]) == 2, "a run on one clip is not continued on all"


@pytest.mark.usefixtures("few_words")
def test_a_run_begins_with_a_models_weights_and_words(go: Callable, tiny_folder: Path, tiny: TextToVideo) -> None:
    trained = go(*TRAIN, "--clips", 8, "--rate", 1e-9, "--start", tiny_folder)
    assert {path.name for path in Path(trained["out"]).iterdir() if path.is_dir()} == {"joint", "model"}
    begun = TextToVideo.from_pretrained(trained["model"])
    assert begun.known_words() == tiny.known_words()
    for mine, theirs in zip(begun.system.first.net.parameters(), tiny.system.first.net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    assert main([*TRAIN, "--clips", "8", "--rate", "1e-9"]) == 2, "a run that began with a model goes on as that"


# Progress and ends


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = Lines("sampling", seconds=15.0)
    for done in range(11):
        report(done / 10, "loss 1")
        now[0] += 4
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 40%, about 24 s left loss 1",
        "sampling: 80%, about 8 s left loss 1",
    ]


def test_an_interruption_is_one_line_and_130(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("noisereel.cli.env.run", interrupted)
    assert main(["env"]) == 130
    assert capsys.readouterr().err == "noisereel: interrupted\n"


def test_a_bug_is_not_dressed_up_as_the_users_mistake(monkeypatch: Any) -> None:
    def broken(options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("noisereel.cli.env.run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["env"])


def test_metadata_is_enough_to_make_the_video_again(go: Callable) -> None:
    made = go("generate", PROMPT, "-o", "a.webp", "--steps", 2, "--guidance", 4, "--scale", 1)
    note = read_metadata(made["path"])
    go("generate", note["prompt"], "--seed", note["seed"], "--steps", note["steps"], "--guidance", note["guidance"],
       "--model", note["model"], "-o", "b.webp", "--scale", 1)  # fmt: skip
    assert np.array_equal(pixels("a.webp"), pixels("b.webp"))


# Again


def test_like_repeats_a_file_to_the_pixel_and_changes_what_else_is_given(go: Callable) -> None:
    first = go("generate", PROMPT, "--seed", 5, "--steps", 4, "--guidance", 1.5, "--negative", "a star", "-o", "one.apng")
    again = go("generate", "--like", "one.apng", "--model", first["model"])
    assert again["path"] == "one-again.apng"
    np.testing.assert_array_equal(pixels("one.apng"), pixels("one-again.apng"))
    assert read_metadata(Path("one-again.apng")) == read_metadata(Path("one.apng"))
    other = go("generate", "--like", "one.apng", "--seed", 6, "-o", "two.apng", "--model", first["model"])
    assert (other["seed"], other["steps"]) == (6, 4)
    assert (pixels("one.apng") != pixels("two.apng")).any()


def test_like_repeats_longer_videos_and_sheets(go: Callable) -> None:
    go("generate", PROMPT, "--seed", 5, "--extend", 7, "-o", "long.apng")
    go("generate", "--like", "long.apng")
    np.testing.assert_array_equal(pixels("long.apng"), pixels("long-again.apng"))
    go("generate", PROMPT, "--seed", 5, "--sheet", "-o", "sheet.png")
    go("generate", "--like", "sheet.png")
    assert Path("sheet.png").read_bytes() == Path("sheet-again.png").read_bytes()


def test_like_a_file_that_does_not_say_how_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    assert main(["generate", "--like", str(tmp_path / "photo.png")]) == 2
    assert "does not say how it was made" in capsys.readouterr().err
    assert main(["generate", "--like", str(tmp_path / "none.png")]) == 2


def test_a_clip_is_gone_on_from(go: Callable) -> None:
    go("generate", PROMPT, "--seed", 5, "-o", "clip.apng", "--scale", 1)
    longer = go("generate", PROMPT, "--clip", "clip.apng", "--extend", 6, "-o", "longer.apng", "--scale", 1)
    assert probe(longer["path"]).frames == 6
    np.testing.assert_array_equal(
        pixels("longer.apng")[:4], read_clip("clip.apng", height=16, width=16).movedim(0, -1).numpy()[:4]
    )
    assert main(["generate", PROMPT, "--clip", "clip.apng"]) == 2
