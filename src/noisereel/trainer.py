"""The only training loop: it trains anything that has a loss, as a generator of steps."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor

from noisereel import checkpoint
from noisereel.data import writer
from noisereel.data.mix import Mix, prefetch
from noisereel.distributed import Alone, Processes
from noisereel.training import ema
from noisereel.training.blame import first_bad_module
from noisereel.training.learner import Learner
from noisereel.training.metrics import Metrics, Progress
from noisereel.training.phase import Phase as Phase
from noisereel.training.surroundings import compile_blocks, recompute_blocks, stopping_on_signals
from noisereel.types import Batch, Share, generators

KEPT = 2  # checkpoints


class Trainer:
    """Trains one phase in one folder, and continues there when the folder holds a checkpoint.

    The randomness of step k is a pure function of the seed and k, so that on a CPU a run that was killed at any moment and
    continued is bit for bit the run that was not. Make a phase's trainer when the phase before it has finished: it copies
    the weights. ``workers`` processes make batches ahead; 0 makes them in the loop. ``recompute`` keeps no activations of the
    blocks for the backward pass. ``ranks`` are the processes that train together, see ``distributed``.

    Raises:
        ValueError: the folder's checkpoint belongs to another phase, seed or network.
    """

    def __init__(
        self,
        phase: Phase,
        folder: str | Path,
        *,
        seed: int = 0,
        precision: Literal["fp32", "bf16"] = "fp32",
        device: torch.device | str = "cpu",
        compile: bool = False,
        recompute: bool = False,
        workers: int = 0,
        ranks: Processes | None = None,
        checkpoint_seconds: float = 600.0,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {precision!r}: fp32 or bf16 would do")
        self.phase, self.folder, self.seed, self.precision = phase, Path(folder), seed, precision
        self.device, self.workers, self.checkpoint_seconds = torch.device(device), workers, checkpoint_seconds
        self.step = self.clips = 0
        newest = latest(self.folder)
        # What has seen its clips is only opened: for that no process needs another.
        self.ranks: Processes = Alone() if ranks is None or (newest and clips_of(newest) >= phase.clips) else ranks
        if phase.begin is not None and not newest:
            phase.begin()
        self.parts = {name: part.to(self.device) for name, part in phase.target.parts().items()}
        self.learner = Learner(
            self.parts,
            self.ranks.spread(self.parts, phase.parameter_groups()),
            whole=self.ranks.whole,
            learning_rate=phase.learning_rate,
            betas=phase.betas,
            weight_decay=phase.weight_decay,
        )
        self._metrics = Metrics(self.folder / "metrics.jsonl", silent=self.ranks.rank > 0)
        self._metrics_size = 0
        self._history = [self._settings()]
        self._stopping = False
        if newest:
            self._restore(newest)
        if recompute:
            recompute_blocks(self.parts.values())
        if compile:
            compile_blocks(self.parts.values(), self.device)

    @property
    def finished(self) -> bool:
        """Whether the phase has seen all its clips."""
        return self.clips >= self.phase.clips

    def stop(self) -> None:
        """Ask ``run`` to end with a checkpoint after the step it is at."""
        self._stopping = True

    def run(self, minutes: float = math.inf) -> Iterator[Progress]:
        """Train to the end of the phase, or for so many minutes. Ctrl-C, SIGTERM or leaving the loop end it early.

        However it ends, it leaves a checkpoint; a second Ctrl-C does not wait for that.

        Raises:
            FloatingPointError: a loss or gradient is not finite; nothing was overwritten.
        """
        self._stopping = False
        self._metrics.open_at(self._metrics_size)
        self.learner.train()
        begun = saved = time.monotonic()
        first, saved_step = self.clips, self.step
        draws = self._draws()
        with stopping_on_signals(self.stop):
            while not self.finished:
                now = time.monotonic()
                stop, due = self.ranks.any(self._stopping or now - begun > 60 * minutes, now - saved > self.checkpoint_seconds)
                if due and self.step > saved_step:
                    self.save()
                    saved, saved_step = time.monotonic(), self.step
                if stop:
                    break
                try:
                    yield self._advance([next(draws) for _ in range(self.phase.accumulate)], begun, first)
                except GeneratorExit:
                    self._stopping = True
            if self.step > saved_step:
                self.save()
            self.ranks.finish()

    def save(self) -> Path:
        """Write a checkpoint of all that continuing needs, and drop the oldest ones."""
        self._metrics_size = self._metrics.size()
        self.ranks.finish()
        path = self.folder / "checkpoints" / f"{self.step:09d}"
        half_made = path.parent.glob(".*")  # by a run that was killed
        for old in (*_checkpoints(self.folder)[: 1 - KEPT], *half_made) if self.ranks.rank == 0 else ():
            shutil.rmtree(old)
        values = {
            "step": self.step,
            "clips": self.clips,
            "metrics_size": self._metrics_size,
            "history": self._history,
            "extra": {name: extra for name, part in self.parts.items() if (extra := checkpoint.split_state(part)[1])},
        }
        self.ranks.save(path, self._weights() | self.learner.state(), values)
        return path

    def export(self, folder: str | Path, index: Mapping[str, Any], *, dtype: torch.dtype | None = None) -> None:
        """Write the target's parts with averaged weights as a model folder (see ``checkpoint.save``)."""
        with self.learner.ema.applied():
            checkpoint.save(folder, self.parts, index, dtype=dtype)

    def adopt_average(self) -> None:
        """Make the averaged weights the target's own: for what comes after this phase. The trainer's work is then over."""
        self.learner.ema.adopt()

    def _advance(self, batches: list[Batch], begun: float, first: int) -> Progress:
        """One optimiser step, and what is due after it. The session began at time ``begun`` with ``first`` clips."""
        phase, before = self.phase, self.clips
        size = self._shares * sum(len(batch.video) for batch in batches)
        loss, parts, norm = self._gradients(batches)
        self.step, self.clips = self.step + 1, before + size
        rate = phase.rate(self.clips)
        self.learner.move(rate, ema.decay(phase.ema, before, size))
        held_out = self._validate() if self._due(phase.validate_every, before) else {}
        previews = self._preview(batches[0]) if self._due(phase.preview_every, before) else ()
        speed = (self.clips - first) / (time.monotonic() - begun)
        progress = Progress(
            step=self.step,
            clips=self.clips,
            loss=loss,
            parts=parts,
            learning_rate=phase.learning_rate * rate,
            gradient_norm=norm,
            clips_per_second=speed,
            seconds_left=max(0, phase.clips - self.clips) / speed,
            held_out=held_out,
            previews=previews,
        )
        self._metrics.append(progress.line(self.folder))
        return progress

    def _gradients(self, batches: list[Batch]) -> tuple[float, dict[str, float], float]:
        """The mean loss, its named parts and the norm of its gradient, which is clipped in place."""
        total, parts = self._averaged(*self._backward(batches))
        norm = self.learner.clip(self.phase.clip_norm)
        loss, length = torch.stack([total, norm]).tolist()  # one wait for the device
        if not (math.isfinite(loss) and math.isfinite(length)):
            where = first_bad_module(self.parts, lambda: self._backward(batches))
            samples = ", ".join(str(index) for batch in batches for index in batch.index)
            kept = latest(self.folder)
            raise FloatingPointError(
                f"step {self.step + 1}: the loss is {loss} and its gradient's norm {length}, on samples {samples}; {where}; "
                + (f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet")
            )
        return loss, parts, length

    def _backward(self, batches: list[Batch]) -> tuple[Tensor, dict[str, float]]:
        """Gradients of the mean loss over the batches, with the randomness of this step."""
        self.learner.optimizer.zero_grad(set_to_none=True)
        total, parts = torch.zeros((), device=self.device), Counter[str]()
        first = self.clips
        for batch in batches:
            rng = self._rng(first, len(batch.video))
            # Dropout draws from the global generator; ~seed keeps it apart from the samples' own randomness.
            torch.manual_seed(generators(~self.seed, [first + rng.start])[0].initial_seed())
            with self._autocast():
                loss = self.phase.target.loss(batch.to(self.device), rng)
            (loss.total / len(batches)).backward()
            total += loss.total.detach() / len(batches)
            parts.update({name: value / len(batches) for name, value in loss.parts.items()})
            first += rng.total
        return total, dict(parts)

    def _averaged(self, total: Tensor, parts: dict[str, float]) -> tuple[Tensor, dict[str, float]]:
        """The loss and its named parts over all processes, and with them the gradients that still are each one's own."""
        self.ranks.level()
        if self.ranks.world == 1:
            return total, parts
        named = sorted(parts)
        loss, *values = self.ranks.mean(torch.stack([total, *(total.new_tensor(parts[name]) for name in named)])).unbind()
        return loss, {name: value.item() for name, value in zip(named, values, strict=True)}

    @property
    def _shares(self) -> int:
        """How many processes a batch is shared out among."""
        return self.ranks.world if self.phase.apart else 1

    def _rng(self, first: int, size: int) -> Share:
        """The randomness of this process's ``size`` samples of a batch whose first is sample ``first`` of the run."""
        start = self.ranks.rank * size if self._shares > 1 else 0
        own = generators(self.seed, range(first + start, first + start + size))
        return Share(own, head=generators(self.seed, [first])[0], start=start, total=self._shares * size)

    def _draws(self) -> Iterator[Batch]:
        start = self.step * self.phase.accumulate
        data = self.ranks.shared(self.phase.data) if self.phase.apart else self.phase.data
        if self.workers:
            mix = cast(Mix, data)  # any function of the draw that a process can be sent will do
            return prefetch(mix, start=start, stop=sys.maxsize, workers=self.workers)
        return map(data, count(start))

    def _due(self, every: int, before: int) -> bool:
        """Whether the last step passed a multiple of ``every`` clips, or the end."""
        return self.finished or self.clips // every > before // every

    def _validate(self) -> dict[str, float]:
        batch = self._held_out
        if batch is None:
            return {}
        with self.learner.averaged(), self._autocast():
            return self.phase.target.validate(batch, self._rng_apart(len(batch.video)))

    @cached_property
    def _held_out(self) -> Batch | None:
        held_out = self.phase.held_out
        batch = held_out() if callable(held_out) else held_out
        return batch and batch.to(self.device)

    def _preview(self, batch: Batch) -> tuple[Path, ...]:
        """Videos of the prompts side by side, as a gif and a contact sheet, at the speed of the batch's fastest clip."""
        prompts = self.phase.prompts
        if not prompts:
            return ()
        with self.learner.averaged(), self._autocast():
            videos = self.phase.target.preview(prompts, self._rng_apart(len(prompts)))
        if self.ranks.rank > 0:  # it was needed to sample, not to write
            return ()
        tiled = writer.grid(videos.float().cpu())
        fps = min(50.0, max(1.0, float(batch.fps.max())))  # what a gif can say
        (self.folder / "previews").mkdir(exist_ok=True)
        paths = tuple(self.folder / "previews" / f"{self.clips:010d}{ending}" for ending in (".gif", ".png"))
        return tuple(writer.write(tiled, path, fps=fps) for path in paths)

    def _rng_apart(self, size: int) -> list[Generator]:
        """Randomness of samples with negative numbers: never that of training, and the same each time, to compare."""
        return generators(self.seed, range(-size, 0))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def _settings(self) -> dict[str, Any]:
        """What the run was asked to do from this step on, as JSON gives it back."""
        asked = {"step": self.step, "seed": self.seed, "precision": self.precision, **self.phase.settings()}
        return json.loads(json.dumps(asked))

    def _weights(self) -> dict[str, Tensor]:
        states = {name: checkpoint.split_state(part)[0] for name, part in self.parts.items()}
        return {f"weights/{part}/{key}": value for part, state in states.items() for key, value in state.items()}

    def _restore(self, path: Path) -> None:
        try:
            tensors, values = self.ranks.load(path, self._weights() | self.learner.like())
        except ValueError as error:
            raise ValueError(f"{error}; or remove {path} to continue from the checkpoint before it") from error
        self.step, self.clips, self._metrics_size = values["step"], values["clips"], values["metrics_size"]
        self._history = self._continued(values["history"], path)
        states = {name: _under(f"weights/{name}/", tensors) for name in self.parts}
        for name, part in self.parts.items():
            checkpoint.check_fit(checkpoint.split_state(part)[0], states[name], path)
        checkpoint.check_fit(self.learner.moving, _under("ema/", tensors), path)
        for name, part in self.parts.items():
            checkpoint.fill(part, states[name], values["extra"].get(name, {}))
        self.learner.load_state(tensors)

    def _continued(self, history: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
        """The history with what changes from here on; what would make this another run is refused."""
        now, then = self._settings(), history[-1]
        for name in ("name", "seed", "accumulate"):
            if now[name] != then[name]:
                raise ValueError(f"{path} has {name} {then[name]!r}, not {now[name]!r}: ask for that, or use a new folder")
        changed = any(now[name] != then.get(name) for name in now if name != "step")
        return [*history, now] if changed else history


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint of a run's folder."""
    return next(reversed(_checkpoints(Path(folder))), None)


def clips_of(path: Path) -> int:
    """How many clips a run had seen when a checkpoint was made."""
    return checkpoint.read_state_values(path)["clips"]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("[0-9]*"))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
