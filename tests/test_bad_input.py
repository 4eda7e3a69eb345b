"""What users get wrong: one clear line, exit code 2, no traceback, and nothing half-written."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from noisereel.cli.app import main

PROMPT = "a red circle moves to the left"
Refuse = Callable[..., str]


@pytest.fixture
def refused(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs a command that must fail as a user's mistake does, and returns what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        model = ["--model", tiny_folder] if arguments[:1] == ("generate",) and "--model" not in arguments else []
        assert main([*map(str, arguments), *map(str, model)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("noisereel: ")
        assert len(err) < 400
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], "prompt is empty"),
        (["  \n "], "prompt is empty"),
        ([PROMPT, ""], "prompt is empty"),
        (["red circle " * 910], "characters) and the model reads"),
        ([PROMPT, "--negative", "x" * 10_000], "the model reads"),
        (["a", "red", "circle"], 'in quotes, "a red circle"'),
        ([PROMPT, "-o", "out.avi"], ".mp4, .webm, .gif, .webp, .apng, .png"),
        ([PROMPT, "-o", "out"], "end the name in"),
        ([PROMPT, "--sheet", "-o", "out.mp4"], "sprite sheet"),
        ([PROMPT, "-o", "."], "is a folder"),
        ([PROMPT, "-o", "nowhere/out.mp4"], "no folder nowhere"),
        ([PROMPT, "-o", "/proc/out.mp4"], "cannot write in /proc"),
        (
            [PROMPT, "--transparent", "-o", "out.mp4"],
            "transparent video to 'out.mp4': end the name in .gif, .webp, .apng, .png",
        ),
        (
            [PROMPT, "--transparent", "--sheet", "-o", "out.webp"],
            "transparent sprite sheet to 'out.webp': end the name in .png",
        ),
        ([PROMPT, "--height", 2**24], f"4 frames of {2**24}x16 need"),
        ([PROMPT, "--height", 2**20, "--width", 2**20], "GB are free"),
        ([PROMPT, "--height", 20_000, "--scale", 1, "-o", "out.webp"], "at most 16383 pixels to a side, not 20000"),
        ([PROMPT, "--scale", 100_000], "16384 pixels to a side"),
        ([PROMPT, "--scale", 10_000, "-o", "out.apng"], "--scale "),
        ([PROMPT, "--extend", 10**9], "frames would fit"),
        ([PROMPT, "--image", "nothing.png"], "no file nothing.png"),
        ([PROMPT, "--image", "a.png", "--frames", 1], "leaves none to make"),
        ([PROMPT, "--image", "a.png", "--between", "b.png"], "give one of them"),
        ([PROMPT, "--height", 0], "height 0 will not do: this model takes a multiple of"),
        ([PROMPT, "--width", 17], "width 17 will not do: this model takes a multiple of"),
        ([PROMPT, "--height", -16], "height -16"),
        ([PROMPT, "--frames", 0], "--frames takes 1 or more"),
        ([PROMPT, "--frames", 5], "makes 4 frames at once, not 5; --extend 5"),
        ([PROMPT, "--frames", 2, "--extend", 9], "give one of them"),
        ([PROMPT, "--extend", 0], "--extend takes 1 or more"),
        ([PROMPT, "--steps", 0], "at least 1 step"),
        ([PROMPT, "--steps", "many"], "--steps: invalid int value: 'many'"),
        ([PROMPT, "--guidance", "nan"], "finite"),
        ([PROMPT, "--count", 0], "--count takes 1 or more"),
        ([PROMPT, "--scale", 0], "--scale takes 1 or more"),
        ([PROMPT, "--fps", 0], "--fps takes a number above 0"),
        ([PROMPT, "--fps", "nan"], "--fps takes a number above 0"),
        ([PROMPT, "--fps", 60, "-o", "out.gif"], "at most 50"),
        ([PROMPT, "--seed", -1], "--seed takes 0 or more"),
        ([PROMPT, "--seed", 2**80], "--seed takes less than"),
        ([PROMPT, "--device", "abacus"], "no device 'abacus'"),
        ([PROMPT, "--between", "nothing.mp4"], "no file nothing.mp4"),
        ([PROMPT, "--guidence", 3], "did you mean --guidance?"),
        ([PROMPT, "--zzz"], "noisereel generate --help"),
        ([], "what should the video show?"),
        ([PROMPT, "--model", "nothing-here"], "no model at 'nothing-here'"),
    ],
)
def test_generate(refused: Refuse, arguments: list[object], words: str) -> None:
    assert words in refused("generate", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generat", PROMPT], "did you mean generate?"),
        (["frobnicate"], "the verbs are generate, upscale, decode, train"),
        (["--verson"], "did you mean --version?"),
        (["show"], "required"),
        (["show", "nothing"], "no model at 'nothing'"),
        (["env", "extra"], "'extra'"),
        (["evaluate", "nothing"], "no model at 'nothing'"),
        (["evaluate", "--count", 1], "--count takes 2 or more"),
        (["decode"], "required: FILE"),
        (["decode", "nothing"], "there is no file nothing"),
        (["decode", "a", "b", "-o", "c.mp4"], "--output names one file, for 2 videos"),
        (["train"], "name a recipe first"),
        (["train", "--out", "x"], "name a recipe first"),
        (["train", "vmd", "--out", "x"], "no recipe 'vmd'"),
        (["train", "vdm"], "--out runs/vdm"),
        (["train", "vdm", "--out", "x", "--sise", "tiny"], "did you mean --size?"),
        (["train", "vdm", "--out", "x", "--size", "huge"], "'tiny', 'small', 'base', 'paper'"),
        (["train", "vdm", "--out", "x", "--clips", "many"], "many"),
        (["train", "vdm", "--out", "x", "--config", "nothing.yaml"], "nothing.yaml"),
        (["train", "vdm", "--size", "tiny", "--out", "x", "--resume"], "no run to continue in x"),
        (["train", "vdm", "--size", "tiny", "--data", "nothing", "--out", "x"], "nothing"),
        (["train", "vdm", "--out", "x", "--overfit", 0], "--overfit takes 1 or more"),
    ],
)
def test_other_verbs(refused: Refuse, arguments: list[object], words: str) -> None:
    assert words in refused(*arguments)


def test_a_folder_of_other_things_is_not_trained_into(refused: Refuse, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("dear to someone")
    assert "not a run" in refused("train", "vdm", "--size", "tiny", "--out", "thesis")


def test_between_needs_two_frames(refused: Refuse, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    assert "single frame" in refused("generate", PROMPT, "--between", "one.png")
    (tmp_path / "text.mp4").write_text("not a video")
    assert "cannot read text.mp4" in refused("generate", PROMPT, "--between", "text.mp4")
    assert "cannot read text.mp4" in refused("show", "text.mp4")


def test_only_what_was_kept_is_decoded(refused: Refuse, tmp_path: Path) -> None:
    (tmp_path / "text.latents.safetensors").write_text("not latents")
    save_file({"latents": torch.zeros(1)}, tmp_path / "strange.safetensors")
    for name in ("text.latents.safetensors", "strange.safetensors"):
        assert "holds no latents that noisereel generate kept" in refused("decode", name)


def test_a_ground_that_is_not_plain_stays_and_is_told(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny model has learned nothing, so its ground is noise; the video is written all the same."""
    out = tmp_path / "hero.apng"
    assert main(["generate", PROMPT, "--model", str(tiny_folder), "--transparent", "--count", "2", "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "hero-1.apng is written opaque: the ground is not plain" in said
    assert "(and 1 more)" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hero-1.apng", "hero-2.apng"]


# Broken checkpoints


@pytest.fixture
def broken(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "broken"))


def weights(folder: Path) -> Path:
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def test_missing_weights(refused: Refuse, broken: Path) -> None:
    weights(broken).unlink()
    assert "is missing" in refused("generate", PROMPT, "--model", broken)


def test_truncated_weights(refused: Refuse, broken: Path) -> None:
    whole = weights(broken).read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        weights(broken).write_bytes(whole[:length])
        assert "not a whole safetensors file" in refused("generate", PROMPT, "--model", broken)


def test_weights_that_are_a_pickle(refused: Refuse, broken: Path) -> None:
    weights(broken).unlink()
    (broken / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    assert "pickle" in refused("generate", PROMPT, "--model", broken)


def test_weights_that_are_not_numbers(refused: Refuse, broken: Path) -> None:
    tensors = load_file(weights(broken))
    name = sorted(tensors)[3]
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, weights(broken))
    said = refused("generate", PROMPT, "--model", broken)
    assert "not finite" in said
    assert name in said


def test_weights_of_another_network(refused: Refuse, broken: Path) -> None:
    tensors = load_file(weights(broken))
    del tensors[sorted(tensors)[0]]
    save_file(tensors, weights(broken))
    assert "lacks" in refused("generate", PROMPT, "--model", broken)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{", "not whole JSON"),
        ("{}", "names no recipe"),
        ('{"recipe": "nothing"}', "no recipe 'nothing'"),
        ('{"recipe": "vdm", "arguments": {"sise": "tiny"}}', "takes no sise"),
    ],
)
def test_a_damaged_index(refused: Refuse, broken: Path, index: str, words: str) -> None:
    (broken / "model_index.json").write_text(index)
    assert words in refused("generate", PROMPT, "--model", broken)


def test_a_damaged_vocabulary(refused: Refuse, broken: Path) -> None:
    (extra,) = broken.rglob("extra_state.json")
    extra.write_text(json.dumps({"_extra_state": {"tokenizer": "gone"}}))
    assert "vocabulary" in refused("generate", PROMPT, "--model", broken)


def test_a_folder_that_is_no_checkpoint(refused: Refuse, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "model_index.json" in refused("generate", PROMPT, "--model", tmp_path / "empty")


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KB, where the tests may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("ending", ["mp4", "gif", "png"])
def test_a_full_disk(refused: Refuse, small_disk: Path, ending: str) -> None:
    said = refused(
        "generate", PROMPT, "-o", small_disk / f"out.{ending}", "--height", 128, "--width", 128, "--scale", 1, "--steps", 1
    )
    assert "No space left" in said
    assert list(small_disk.iterdir()) == []


@pytest.mark.usefixtures("few_words")
def test_a_run_that_fills_the_disk(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_disk / "run"
    tiny = ["--size", "tiny", "--images", "0", "--clips", "4", "--batch", "4", "--steps", "1", "--precision", "fp32"]
    assert main(["train", "vdm", "--out", str(run), *tiny]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "No space left" in err
    left = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file() and path.parent.name != "previews"}
    assert left <= {"run.json", "joint/metrics.jsonl"}, "no half of a checkpoint, and nothing temporary"
    assert json.loads((run / "run.json").read_text())["recipe"] == "vdm"
