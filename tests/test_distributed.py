"""Several processes train as one would: the same losses, averages and checkpoints, whatever their number."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisereel.codecs.autoencoder import Autoencoder
from noisereel.codecs.causal_vae import CausalVAE
from noisereel.codecs.pixels import Pixels
from noisereel.data.clips import Clip
from noisereel.data.mix import Mix
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.schedules import Cosine
from noisereel.diffusion.times import stratified
from noisereel.distributed import Alone, Processes, Ranks, joined
from noisereel.nets.dit import DiT
from noisereel.nets.unet import UNet
from noisereel.recipes.plan import initialised
from noisereel.stage import Stage
from noisereel.text.small import SmallTextEncoder
from noisereel.trainer import Phase, Progress, Trainer, latest
from noisereel.types import generators, rand

BATCH = 4
CPU = torch.device("cpu")


class Scenes:
    """Clips of noise with a word each."""

    def __getitem__(self, index: int) -> Clip:
        video = rand(generators(3, [index]), 3, 2, 8, 8)[0] * 2 - 1
        return Clip(video=video, caption=("red", "green", "blue")[index % 3], fps=8.0)


class Stills(Scenes):
    def __getitem__(self, index: int) -> Clip:
        return replace(super().__getitem__(index), video=super().__getitem__(index).video[:, :1])


def stage(net: str) -> Stage:
    with initialised(0):
        text = SmallTextEncoder(vocabulary_size=300, dim=8, depth=1, heads=2, max_length=8)
        text.learn_words(["red", "green", "blue"])
        made: nn.Module = (
            DiT(channels=3, width=16, depth=2, heads=2, patch=(1, 4, 4), text_dim=8, pooled_dim=8)
            if net == "dit"
            else UNet(channels=3, width=8, multipliers=(1, 2), depth=1, attention=(False, True), pooled_dim=8, norm_groups=4)
        )
        for parameter in made.parameters():
            if not parameter.any():  # born silent: it would hide every difference
                nn.init.normal_(parameter, std=0.05)
    diffusion = Diffusion(schedule=Cosine(), predicts="v", draw=stratified)
    return Stage(net=made, diffusion=diffusion, codec=Pixels(), text=text, shape=(2, 8, 8), fps=8.0, steps=1)


def phase(kind: str, **changes: Any) -> Phase:
    mix = Mix(video=Scenes(), batch=BATCH)
    if kind == "vae":
        with initialised(0):
            vae = CausalVAE(widths=(8, 8), halve=("hw",), latent_channels=4, blocks=1, attention=False)
        target: Any = Autoencoder(vae=vae, shown=mix(0).video)
    else:
        target = stage(kind)
        if kind == "unet":
            mix = Mix(video=Scenes(), images=Stills(), images_per_clip=1, batch=BATCH)
    values: dict[str, Any] = dict(
        name="some", target=target, data=mix, clips=24, held_out=Mix(video=Scenes(), batch=2, seed=9)(0),
        learning_rate=1e-2, warmup=8, ema=20, validate_every=12, clip_norm=0.1,
    )  # fmt: skip
    return Phase(**values | changes)


def train(folder: Path, ranks: Processes, asked: Phase, steps: int = 10**6, **options: Any) -> list[Progress]:
    seen = []
    for progress in Trainer(asked, folder, seed=7, ranks=ranks, **options).run():
        seen.append(progress)
        if len(seen) == steps:
            break
    return seen


def together(world: int, work: Callable[[Processes], None], *, within: int = 0) -> None:
    """Run ``work`` in so many processes; they are forked, which spares them the imports."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def one(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        with joined(CPU, within=within) as ranks:
            work(ranks)

    processes = [multiprocessing.get_context("fork").Process(target=one, args=(rank,)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Tensor]:
    """The newest checkpoint, as one process reads it."""
    newest = latest(folder)
    assert newest
    return Alone().load(newest, {})[0]


def assert_same_training(one: Path, two: Path) -> None:
    """Losses and held-out measures of every step, and all of the state, but for the order of sums."""
    first, second = log(one), log(two)
    assert [line["clips"] for line in first] == [line["clips"] for line in second]
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=1e-4)
        assert b["held_out"] == pytest.approx(a["held_out"], rel=1e-4)
        assert b["parts"] == pytest.approx(a["parts"], rel=1e-4)
    mine, theirs = state(one), state(two)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if "exp_avg_sq" not in name:
            torch.testing.assert_close(
                theirs[name], mine[name], rtol=2e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize(
    ("kind", "world", "within", "changes"),
    [
        ("dit", 2, 0, {}),
        ("dit", 4, 2, {"accumulate": 2}),
        ("unet", 2, 0, {"accumulate": 2}),
        ("unet", 4, 0, {}),
        ("vae", 2, 0, {}),
        ("dit", 2, 0, {"apart": False}),
    ],
)
def test_losses_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, kind: str, world: int, within: int, changes: dict[str, Any]
) -> None:
    train(tmp_path / "one", Alone(), phase(kind, **changes))
    together(world, lambda ranks: train(tmp_path / "many", ranks, phase(kind, **changes)) and None, within=within)
    assert_same_training(tmp_path / "one", tmp_path / "many")


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    train(tmp_path / "one", Alone(), phase("dit"))
    together(2, lambda ranks: train(tmp_path / "many", ranks, phase("dit"), 2) and None)
    train(tmp_path / "many", Alone(), phase("dit"), 2)
    together(4, lambda ranks: train(tmp_path / "many", ranks, phase("dit")) and None)
    assert_same_training(tmp_path / "one", tmp_path / "many")
    assert len(log(tmp_path / "many")) == 6


def test_each_process_holds_its_shard_of_weights_average_and_optimiser(tmp_path: Path) -> None:
    def work(ranks: Processes) -> None:
        trainer = Trainer(phase("dit"), tmp_path, ranks=ranks)
        for _ in trainer.run():
            break
        whole, held = 0, 0
        for parameter, average in zip(trainer.learner.moving.values(), trainer.learner.ema.average, strict=True):
            moments = trainer.learner.optimizer.state[parameter]["exp_avg"]
            sizes = {tensor.to_local().numel() for tensor in (parameter, average, moments)}
            assert len(sizes) == 1
            whole, held = whole + parameter.numel(), held + sizes.pop()
        assert held < 0.6 * whole

    together(2, work)


def test_a_checkpoint_written_in_the_background_is_of_its_own_step(tmp_path: Path) -> None:
    def work(ranks: Processes) -> None:
        assert isinstance(ranks, Ranks)
        background = Ranks(CPU, asynchronous=True)
        train(tmp_path / "back", background, phase("dit"), 3, checkpoint_seconds=0.0)
        train(tmp_path / "front", ranks, phase("dit"), 3, checkpoint_seconds=0.0)

    together(2, work)
    for step in (2, 3):
        one, two = (Alone().load(tmp_path / where / f"checkpoints/{step:09d}", {})[0] for where in ("back", "front"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_damaged_checkpoint_of_shards_is_told(tmp_path: Path) -> None:
    together(2, lambda ranks: train(tmp_path, ranks, phase("dit"), 1) and None)
    newest = latest(tmp_path)
    assert newest
    shards = sorted(newest.glob("*.safetensors"))
    assert len(shards) == 2
    assert not [path for path in newest.rglob("*") if path.suffix not in (".safetensors", ".json")], "nothing is pickled"
    os.truncate(shards[0], 100)
    with pytest.raises(ValueError, match=r"not whole .* remove .*000000001 to continue"):
        Trainer(phase("dit"), tmp_path, seed=7)
    shards[0].unlink()
    with pytest.raises(ValueError, match="has 1 files of tensors, not 2"):
        Trainer(phase("dit"), tmp_path, seed=7)


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    def work(ranks: Processes) -> None:
        with pytest.raises(ValueError, match="cannot be shared by 2 processes"):
            train(tmp_path, ranks, phase("dit", data=lambda draw: Mix(video=Scenes(), batch=BATCH)(draw)))
        with pytest.raises(ValueError, match="batch 3 cannot be shared by 2 ranks"):
            train(tmp_path, ranks, phase("dit", data=Mix(video=Scenes(), batch=3)))
        with pytest.raises(ValueError, match="2 processes cannot share weights in groups of 3"):
            Ranks(CPU, within=3)

    together(2, work)


LONG: dict[str, Any] = dict(clips=120, validate_every=120)


def test_a_process_that_is_killed_stops_the_others_and_a_restart_goes_on(tmp_path: Path) -> None:
    train(tmp_path / "one", Alone(), phase("dit", **LONG))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    folder = tmp_path / "many"
    with subprocess.Popen([*torchrun, __file__, str(folder)], stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and (not (folder / "metrics.jsonl").exists() or len(log(folder)) < 8):
            time.sleep(0.01)
        os.kill(int((folder / "pid-1-0").read_text()), signal.SIGKILL)
        killed = time.monotonic()
        said = child.communicate(timeout=300)[1]
    assert child.returncode == 0, said
    assert "process 0 of 2 stops, for another is gone" in said
    assert (folder / "stopped-0").stat().st_mtime - time.time() + time.monotonic() < killed + 60
    assert (folder / "pid-1-1").exists(), "started again"
    assert [line["step"] for line in log(folder)] == list(range(1, 31)), "each step stands in the log once"
    assert_same_training(tmp_path / "one", folder)


if __name__ == "__main__":
    here, which = Path(sys.argv[1]), os.environ["RANK"]
    here.mkdir(exist_ok=True)
    (here / f"pid-{which}-{os.environ['TORCHELASTIC_RESTART_COUNT']}").write_text(str(os.getpid()))
    try:
        with joined(CPU) as several:
            train(here, several, phase("dit", **LONG), checkpoint_seconds=0.02)
    except ConnectionError as error:
        (here / f"stopped-{which}").touch()
        sys.exit(str(error))
