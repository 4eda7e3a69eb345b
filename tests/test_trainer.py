"""One loop trains anything with a loss, and a run that was interrupted is the run that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from noisereel import checkpoint
from noisereel.data.clips import Clip
from noisereel.data.mix import Mix
from noisereel.trainer import Phase, Progress, Trainer, latest
from noisereel.types import Batch, Loss, Rng, Video, generators, rand, randn

BATCH = 4


class Denoiser(nn.Module):
    """Convolutions in channels-last memory, a buffer that training moves, dropout, a frozen layer and an unused one."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv3d(3, 8, 1), nn.BatchNorm3d(8), nn.Dropout(0.2)), nn.Tanh()])
        self.frozen = nn.Conv3d(8, 8, 1)
        self.out = nn.Conv3d(8, 3, 1)
        self.unused = nn.Linear(2, 2)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.out(self.frozen(x))


class Toy:
    """A denoiser to train, with a frozen part beside it that would be noticed if it were trained or left in train mode."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net, self.text = Denoiser(), nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3))

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        x = batch.video
        bias = self.text(torch.ones(len(x), 2))[..., None, None, None]
        total = (self.net(x + 0.3 * randn(rng, *x.shape[1:]) + 0.01 * bias) - x).square().mean()
        return Loss(total=total, parts={"twice": 2 * total.item()})

    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        return {"loss@0.3": float((self.net(batch.video + 0.3 * randn(rng, 3, 2, 4, 4)) - batch.video).square().mean())}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        return self.net(randn(rng, 3, 2, 4, 4)).clamp(-1, 1)

    def parts(self) -> dict[str, nn.Module]:
        return {"net": self.net, "text": self.text}

    def parameter_groups(self) -> list[dict[str, Any]]:
        moving = [parameter for name, parameter in self.net.named_parameters() if not name.startswith("frozen")]
        return [{"params": moving[:2], "lr": 3e-3}, {"params": moving[2:]}]


def clips(draw: int) -> Batch:
    index = range(BATCH * draw, BATCH * (draw + 1))
    video = rand(generators(5, index), 3, 2, 4, 4) * 2 - 1
    return Batch(video=video, captions=[None] * BATCH, fps=torch.full((BATCH,), 8.0), index=tuple(index))


def phase(target: Any = None, **changes: Any) -> Phase:
    values: dict[str, Any] = {
        "name": "toy",
        "target": target or Toy(),
        "data": clips,
        "clips": 160,
        "held_out": lambda: clips(1000),
        "learning_rate": 1e-2,
        "weight_decay": 0.01,
        "warmup": 40,
        "decay": "cosine",
        "ema": 80,
        "validate_every": 60,
    }
    return Phase(**values | changes)


def train(trainer: Trainer, steps: int | None = None) -> list[Progress]:
    seen = []
    for progress in trainer.run():
        seen.append(progress)
        if len(seen) == steps:
            break
    return seen


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log, without what depends on the clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        del line["clips_per_second"]
    return found


def same_tensors(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def assert_same_run(one: Path, two: Path) -> None:
    """Weights, averages, optimiser, counters and log, all of it exactly."""
    states = [checkpoint.load_state(newest) for newest in (latest(one), latest(two)) if newest]
    assert len(states) == 2
    assert same_tensors(states[0][0], states[1][0])
    for name in ("step", "clips", "extra"):
        assert states[0][1][name] == states[1][1][name]
    assert lines(one) == lines(two)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_continued_run_is_the_uninterrupted_one(tmp_path: Path, precision: Any, accumulate: int) -> None:
    train(Trainer(phase(accumulate=accumulate), tmp_path / "whole", seed=7, precision=precision))
    for steps in (3, 1, 9, None):
        trainer = Trainer(phase(accumulate=accumulate), tmp_path / "parts", seed=7, precision=precision)
        train(trainer, steps)
    assert trainer.finished
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert [line["clips"] for line in lines(tmp_path / "parts")] == list(range(4 * accumulate, 161, 4 * accumulate))


def test_a_run_killed_at_random_moments_is_the_uninterrupted_one(tmp_path: Path) -> None:
    train(Trainer(killable(), tmp_path / "whole", seed=7))
    chance, log, kills = random.Random(0), tmp_path / "killed/metrics.jsonl", 0
    for fewest in (10, 60):
        child = subprocess.Popen([sys.executable, __file__, str(tmp_path / "killed")])
        while child.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < fewest):
            time.sleep(0.002)
        time.sleep(chance.random() / 20)
        child.kill()
        kills += child.wait() == -signal.SIGKILL
    assert kills == 2
    train(Trainer(killable(), tmp_path / "killed", seed=7))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert [line["step"] for line in lines(tmp_path / "killed")] == list(range(1, 201))
    assert len(list((tmp_path / "killed/checkpoints").iterdir())) <= 2


def killable() -> Phase:
    return phase(clips=200 * BATCH)


def test_lines_beyond_the_checkpoint_are_cut(tmp_path: Path) -> None:
    train(Trainer(phase(), tmp_path / "run"), 5)
    with (tmp_path / "run/metrics.jsonl").open("a") as log:
        log.write('{"step": 6, "clips": 24, "clips_per_second": 1.0}\n{"step": 7, "cl')
    train(Trainer(phase(), tmp_path / "run"))
    train(Trainer(phase(), tmp_path / "whole"))
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_twenty_seeded_steps_repeat_exactly(tmp_path: Path) -> None:
    def losses(folder: str, seed: int) -> list[float]:
        torch.manual_seed(random.randrange(2**31))  # what the caller did to the global generator must not matter
        return [progress.loss for progress in train(Trainer(phase(), tmp_path / folder, seed=seed), 20)]

    first = losses("one", 1)
    assert first == losses("two", 1)
    assert first != losses("three", 2)


def test_a_phase_may_move_less_than_its_target(tmp_path: Path) -> None:
    target = Toy()
    before = {key: value.clone() for key, value in target.net.state_dict().items()}
    changed = phase(target, moving=[target.net.out.weight], clips=40)
    train(Trainer(changed, tmp_path), 5)
    assert train(Trainer(changed, tmp_path))[-1].clips == 40  # and goes on
    after = target.net.state_dict()
    moved = {name for name, _ in target.net.named_parameters() if not torch.equal(before[name], after[name])}
    assert moved == {"out.weight"}
    with pytest.raises(ValueError, match="phase 'toy' moves no parameters"):
        phase(target, moving=[])


def test_only_what_the_groups_name_is_trained(tmp_path: Path) -> None:
    target = Toy()
    before = {key: value.clone() for part in target.parts().values() for key, value in part.state_dict().items()}
    trainer = Trainer(phase(target), tmp_path)
    train(trainer)
    after = {key: value for part in target.parts().values() for key, value in part.state_dict().items()}
    still = {key for key in after if torch.equal(before[key], after[key])}
    frozen = {"frozen.weight", "frozen.bias", "unused.weight", "unused.bias"}
    assert still == frozen | set(target.text.state_dict())  # the text part's norm did not even count its batches
    assert not target.net.frozen.weight.requires_grad
    assert target.net.frozen.weight.grad is None


def test_the_rate_warms_up_and_decays_in_clips() -> None:
    plan = phase(clips=1000, warmup=200, decay="cosine")
    assert [plan.rate(clips) for clips in (2, 100, 200, 600, 1000, 2000)] == pytest.approx([0.01, 0.5, 1, 0.5, 0, 0])
    plan = phase(clips=1000, warmup=200, decay="linear")
    assert [plan.rate(clips) for clips in (100, 200, 400, 1000)] == pytest.approx([0.5, 1, 0.75, 0])
    plan = phase(clips=1000, warmup=0, decay="constant")
    assert [plan.rate(clips) for clips in (1, 1000, 5000)] == [1, 1, 1]


def test_each_group_follows_the_schedule_at_its_own_rate(tmp_path: Path) -> None:
    trainer = Trainer(phase(), tmp_path)
    for progress in train(trainer, 12):
        assert progress.learning_rate == 1e-2 * trainer.phase.rate(progress.clips)
    rate = trainer.phase.rate(48)
    assert [group["lr"] for group in trainer.learner.optimizer.param_groups] == [3e-3 * rate, 1e-2 * rate]


def test_accumulated_draws_are_one_large_batch(tmp_path: Path) -> None:
    def large(draw: int) -> Batch:
        one, two = clips(2 * draw), clips(2 * draw + 1)
        return Batch(video=torch.cat([one.video, two.video]), captions=[None] * 8, fps=torch.cat([one.fps, two.fps]))

    def final(folder: str, **changes: Any) -> tuple[list[float], Tensor]:
        target = Autoencoder()
        losses = [progress.loss for progress in train(Trainer(phase(target, **changes), tmp_path / folder))]
        return losses, target.net[0].weight

    losses, weight = final("many", accumulate=2)
    expected_losses, expected = final("one", data=large)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    torch.testing.assert_close(weight, expected, atol=1e-4, rtol=1e-3)


class Autoencoder:
    """Not a stage: no noise, no captions, no previews."""

    def __init__(self, *layers: nn.Module) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv3d(3, 4, 1), *layers, nn.Conv3d(4, 3, 1))

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        return Loss(total=(self.net(batch.video) - batch.video).square().mean())

    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        return {"mse": self.loss(batch, rng).total.item()}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        raise AssertionError("no prompts, no preview")

    def parts(self) -> dict[str, nn.Module]:
        return {"vae": self.net}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": self.net.parameters()}]


def test_an_autoencoder_learns_by_the_same_loop(tmp_path: Path) -> None:
    seen = train(Trainer(phase(Autoencoder(), clips=2000, validate_every=500), tmp_path))
    measured = [progress.held_out["mse"] for progress in seen if progress.held_out]
    assert len(measured) == 4
    assert measured[-1] < 0.05 * seen[0].loss


def test_held_out_measures_and_exports_use_the_averaged_weights(tmp_path: Path) -> None:
    target = Autoencoder()
    trainer = Trainer(phase(target), tmp_path / "run")
    *_, last = train(trainer)
    weights = {name: value.clone() for name, value in target.net.state_dict().items()}
    trainer.export(tmp_path / "model", {"recipe": "toy"})
    assert same_tensors(weights, target.net.state_dict())
    checkpoint.load(tmp_path / "model", target.parts())
    assert not same_tensors(weights, target.net.state_dict())
    assert target.validate(clips(1000), []) == last.held_out


def test_the_average_has_the_half_life_of_the_phase(tmp_path: Path) -> None:
    target = Autoencoder()
    trainer, average = Trainer(phase(target, ema=4, clips=400), tmp_path), torch.zeros(4, 3, 1, 1, 1, dtype=torch.float64)
    for progress in trainer.run():
        half_life = min(4.0, 0.05 * (progress.clips - BATCH))
        keep = 0.5 ** (BATCH / half_life) if half_life else 0.0
        average = keep * average + (1 - keep) * target.net[0].weight.detach()
    torch.testing.assert_close(trainer.learner.ema.average[0].double(), average, rtol=1e-5, atol=1e-6)


def test_measures_use_the_same_noise_each_time_and_never_that_of_training(tmp_path: Path) -> None:
    target, drawn = Autoencoder(), set()
    target.validate = lambda batch, rng: {"drawn": rand(rng, 1)[0].item()}
    target.loss = lambda batch, rng: (drawn.update(rand(rng, 1).flatten().tolist()), Autoencoder.loss(target, batch, rng))[1]
    measured = {progress.held_out["drawn"] for progress in train(Trainer(phase(target), tmp_path)) if progress.held_out}
    assert len(measured) == 1
    assert len(drawn) == 160
    assert not measured & drawn


def test_measures_are_due_in_clips_and_at_the_end(tmp_path: Path) -> None:
    seen = train(Trainer(phase(clips=158, validate_every=60, preview_every=100, prompts=("a", "b")), tmp_path))
    assert [progress.clips for progress in seen if progress.held_out] == [60, 120, 160]
    previews = [progress.previews for progress in seen if progress.previews]
    assert [[path.name for path in paths] for paths in previews] == [
        ["0000000100.gif", "0000000100.png"],
        ["0000000160.gif", "0000000160.png"],
    ]
    with Image.open(previews[-1][0]) as animation:
        assert animation.n_frames == 2
    assert lines(tmp_path)[-1]["previews"] == ["previews/0000000160.gif", "previews/0000000160.png"]


class Cracks(nn.Module):
    """Breaks on one clip only: forwards, or backwards where the slope of a root is infinite."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not (x == BROKEN).any():
            return x
        return x + (self.scale - 1).abs().sqrt() if self.backward else x / (self.scale - self.scale)


BROKEN = 1234.0


class Opening(nn.Module):
    """Lets the mark of the broken clip through unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] * 0 + x[:, :1], x], dim=1)


def broken_at_ten(draw: int) -> Batch:
    batch = clips(draw)
    if draw == 10:
        batch.video[2, 0, 0, 0, 0] = BROKEN
    return batch


@pytest.mark.parametrize(
    ("backward", "blamed"),
    [(False, "first module with a bad output is net.1.0"), (True, "first module with a bad gradient is net.1.0")],
)
def test_a_number_that_is_not_finite_names_module_and_batch(tmp_path: Path, backward: bool, blamed: str) -> None:
    def target() -> Autoencoder:
        auto = Autoencoder()
        auto.net = nn.Sequential(Opening(), nn.Sequential(Cracks(backward)), nn.Conv3d(4, 3, 1))
        auto.net[1][0].scale.requires_grad_()
        auto.parts = lambda: {"net": auto.net}
        auto.parameter_groups = lambda: [{"params": auto.net.parameters(), "lr": 0.0}]
        return auto

    train(Trainer(phase(target(), data=broken_at_ten, weight_decay=0.0), tmp_path), 6)
    kept = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    with pytest.raises(FloatingPointError) as caught:
        train(Trainer(phase(target(), data=broken_at_ten, weight_decay=0.0), tmp_path))
    message = str(caught.value)
    assert "step 11" in message
    assert "on samples 40, 41, 42, 43" in message
    assert blamed in message
    assert str(latest(tmp_path)) in message
    assert "\n" not in message
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()} == kept
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 11))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    def interrupted(draw: int) -> Batch:
        if draw == 6:
            os.kill(os.getpid(), number)
        return clips(draw)

    before = signal.getsignal(number)
    trainer = Trainer(phase(data=interrupted), tmp_path / "run", seed=7)
    assert [progress.step for progress in train(trainer)] == list(range(1, 8))
    assert not trainer.finished
    assert signal.getsignal(number) is before
    train(Trainer(phase(), tmp_path / "run", seed=7))
    train(Trainer(phase(), tmp_path / "whole", seed=7))
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_minutes_end_a_run_without_bending_the_schedule(tmp_path: Path) -> None:
    def slow(draw: int) -> Batch:
        time.sleep(0.01)
        return clips(draw)

    trainer = Trainer(phase(data=slow), tmp_path / "run", seed=7)
    some = list(trainer.run(minutes=0.1 / 60))
    assert 0 < len(some) < 40
    assert not trainer.finished
    train(Trainer(phase(), tmp_path / "run", seed=7))
    train(Trainer(phase(), tmp_path / "whole", seed=7))
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/.000000003.new").mkdir(parents=True)
    train(Trainer(phase(), tmp_path, checkpoint_seconds=0.0), 6)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["000000005", "000000006"]


def test_a_longer_phase_may_be_asked_for_and_is_recorded(tmp_path: Path) -> None:
    train(Trainer(phase(), tmp_path))
    trainer = Trainer(phase(clips=240, decay="linear"), tmp_path)
    assert not trainer.finished
    assert train(trainer)[-1].clips == 240
    newest = latest(tmp_path)
    assert newest
    history = checkpoint.load_state(newest)[1]["history"]
    assert [(entry["step"], entry["clips"], entry["decay"]) for entry in history] == [(0, 160, "cosine"), (40, 240, "linear")]


@pytest.mark.parametrize(
    ("changes", "seed", "message"),
    [
        ({}, 2, "has seed 1, not 2"),
        ({"name": "other"}, 1, "has name 'toy', not 'other'"),
        ({"accumulate": 2}, 1, "has accumulate 1, not 2"),
        ({"target": Autoencoder(nn.Conv3d(4, 4, 1))}, 1, "lacks 2.bias"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], seed: int, message: str) -> None:
    train(Trainer(phase(Autoencoder()), tmp_path, seed=1), 2)
    with pytest.raises(ValueError, match=message):
        Trainer(phase(**{"target": Autoencoder()} | changes), tmp_path, seed=seed)


def test_a_damaged_checkpoint_says_what_would_do(tmp_path: Path) -> None:
    train(Trainer(phase(), tmp_path), 2)
    newest = latest(tmp_path)
    assert newest
    os.truncate(newest / "state.safetensors", 100)
    with pytest.raises(ValueError, match=r"not a whole safetensors file .* remove .*000000002 to continue"):
        Trainer(phase(), tmp_path)


@pytest.mark.parametrize("changes", [{"clips": 0}, {"learning_rate": -1.0}, {"validate_every": 0}])
def test_a_phase_refuses_what_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} of phase 'toy' is .*: give a positive number"):
        phase(**changes)


class Colours:
    """A source of clips, each of one colour."""

    def __getitem__(self, index: int) -> Clip:
        return Clip(video=torch.full((3, 2, 4, 4), index % 7 / 7), caption=None, fps=8.0)


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    mix = Mix(video=Colours(), batch=BATCH)
    train(Trainer(phase(data=mix), tmp_path / "loop", seed=7))
    train(Trainer(phase(data=mix), tmp_path / "apart", seed=7, workers=1), 5)
    train(Trainer(phase(data=mix), tmp_path / "apart", seed=7, workers=1))
    assert_same_run(tmp_path / "loop", tmp_path / "apart")


def test_the_next_phase_starts_from_the_average(tmp_path: Path) -> None:
    target = Autoencoder()
    trainer = Trainer(phase(target), tmp_path)
    *_, last = train(trainer)
    trainer.adopt_average()
    assert target.validate(clips(1000), []) == last.held_out


def test_without_a_compiler_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match="without torch.compile, which needs a C\\+\\+ compiler"):
        trainer = Trainer(phase(), tmp_path, compile=True)
    assert len(train(trainer, 2)) == 2


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for _ in Trainer(killable(), sys.argv[1], seed=7, checkpoint_seconds=0.02).run():
        pass


def test_a_phase_begins_once_and_before_the_average_is_made(tmp_path: Path) -> None:
    target, begun = Toy(), []

    def begin() -> None:
        begun.append(True)
        with torch.no_grad():
            target.net.out.bias.fill_(7.0)

    asked = phase(target, begin=begin, ema=0)
    trainer = Trainer(asked, tmp_path)
    assert torch.equal(trainer.learner.ema.average[-1 - 2], target.net.out.bias)
    next(iter(trainer.run()))
    Trainer(asked, tmp_path)
    assert begun == [True]
