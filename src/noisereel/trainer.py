"""The only training loop: anything with a loss, in one honest generator."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noisereel import checkpoint, ema
from noisereel.blame import first_bad_module
from noisereel.data import writer
from noisereel.types import Batch, Trainable, generators

KEPT = 2  # checkpoints; the newest may be the one that a crash makes worthless
AHEAD = 2  # batches made while the network is busy


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What is trained, on which data, how far and how fast. Lengths are counted in clips seen, never in steps."""

    name: str
    target: Trainable
    data: Callable[[int], Batch]  # the batch of each draw: a pure function of its number
    clips: int
    held_out: Batch | Callable[[], Batch] | None = None
    prompts: tuple[str, ...] = ()  # what previews show
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    clip_norm: float = 1.0
    ema: int = 0  # half-life; 0 keeps no average
    accumulate: int = 1  # draws to an optimiser step
    validate_every: int = 10_000
    preview_every: int = 50_000

    def __post_init__(self) -> None:
        for name in ("clips", "learning_rate", "clip_norm", "accumulate", "validate_every", "preview_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of phase {self.name!r} is {getattr(self, name)}: give a positive number")
        if self.decay not in ("constant", "linear", "cosine"):
            raise ValueError(f"decay of phase {self.name!r} is {self.decay!r}: constant, linear or cosine would do")

    def rate(self, clips: int) -> float:
        """The share of the learning rate that a step ending at ``clips`` uses: a linear warm-up, then the decay to 0."""
        warm = min(1.0, clips / self.warmup) if self.warmup else 1.0
        done = min(1.0, max(0.0, (clips - self.warmup) / max(1, self.clips - self.warmup)))
        return warm * {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.decay]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One training step, as it goes to ``metrics.jsonl``."""

    step: int  # steps done, this one included
    clips: int  # clips seen, likewise
    loss: float
    parts: dict[str, float]
    learning_rate: float
    gradient_norm: float  # before clipping
    clips_per_second: float
    seconds_left: float
    held_out: dict[str, float] = field(default_factory=dict)  # measured with the averaged weights
    previews: tuple[Path, ...] = ()


class Trainer:
    """Trains one phase in one folder, and continues there when the folder holds a checkpoint.

    The randomness of step k is a pure function of the seed and k, so that on a CPU a run that was killed at any moment and
    continued is bit for bit the run that was not. Make a phase's trainer when the phase before it has finished: it copies
    the weights.

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
        checkpoint_seconds: float = 600.0,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {precision!r}: fp32 or bf16 would do")
        self.phase, self.folder, self.seed, self.precision = phase, Path(folder), seed, precision
        self.device = torch.device(device)
        self.checkpoint_seconds = checkpoint_seconds
        self.step = self.clips = 0
        self.parts = {name: part.to(self.device) for name, part in phase.target.parts().items()}
        self.optimizer = torch.optim.AdamW(
            phase.target.parameter_groups(),
            lr=phase.learning_rate,
            betas=phase.betas,
            weight_decay=phase.weight_decay,
            fused=True,
        )
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.moving = self._name_moving()
        self.ema = ema.Ema(list(self.moving.values()))
        self._history: list[dict[str, Any]] = [self._settings()]
        self._metrics_size = 0
        self._stopping = False
        newest = latest(self.folder)
        if newest:
            self._restore(newest)
        if compile:
            compile_blocks(self.parts.values(), self.device)

    @property
    def finished(self) -> bool:
        """Whether the phase has seen all its clips."""
        return self.clips >= self.phase.clips

    def stop(self) -> None:
        """Ask ``run`` to end with a checkpoint after the step it is at."""
        self._stopping = True

    def run(self, minutes: float | None = None) -> Iterator[Progress]:
        """Train to the end of the phase, or for so many minutes. Ctrl-C, SIGTERM or leaving the loop end it early.

        However it ends, it leaves a checkpoint; a second Ctrl-C does not wait for that.

        Raises:
            FloatingPointError: a loss or gradient is not finite; nothing was overwritten.
        """
        self._stopping = False
        self._open_metrics()
        self._set_modes()
        begun = saved = time.monotonic()
        first, saved_step = self.clips, self.step
        draws = ahead(self.phase.data, self.step * self.phase.accumulate)
        with closing(draws), _signals(self.stop):
            while not (self.finished or self._stopping or (minutes and time.monotonic() - begun > 60 * minutes)):
                progress = self._advance([next(draws) for _ in range(self.phase.accumulate)], begun, first)
                if time.monotonic() - saved > self.checkpoint_seconds:
                    self.save()
                    saved, saved_step = time.monotonic(), self.step
                try:
                    yield progress
                except GeneratorExit:
                    self._stopping = True
            if self.step > saved_step:
                self.save()

    def save(self) -> Path:
        """Write a checkpoint of everything that ``run`` needs to continue, and drop the oldest ones."""
        path = self.folder / "checkpoints" / f"{self.step:09d}"
        states = {name: checkpoint.split_state(part) for name, part in self.parts.items()}
        tensors = {f"weights/{part}/{key}": value for part, (state, _) in states.items() for key, value in state.items()}
        for (name, parameter), average in zip(self.moving.items(), self.ema.average, strict=True):
            tensors[f"ema/{name}"] = average
            tensors |= {f"adam/{slot}/{name}": value for slot, value in self.optimizer.state[parameter].items()}
        values = {
            "step": self.step,
            "clips": self.clips,
            "metrics_size": _synced_size(self.folder / "metrics.jsonl"),
            "history": self._history,
            "extra": {part: extra for part, (_, extra) in states.items() if extra},
        }
        checkpoint.save_state(path, tensors, values)
        for old in _checkpoints(self.folder)[:-KEPT]:
            shutil.rmtree(old)
        return path

    def export(self, folder: str | Path, index: dict[str, Any], *, dtype: torch.dtype | None = None) -> None:
        """Write the target's parts, averaged weights in place, as a model folder (see ``checkpoint.save``)."""
        with self.ema.applied():
            checkpoint.save(folder, self.parts, index, dtype=dtype)

    def _advance(self, batches: list[Batch], begun: float, first: int) -> Progress:
        """One optimiser step, and what is due after it. The session began at time ``begun`` with ``first`` clips."""
        phase, before = self.phase, self.clips
        size = sum(len(batch.video) for batch in batches)
        self.clips, rate = before + size, phase.rate(before + size)
        for group, full in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = full * rate
        loss, parts, norm = self._gradients(batches, before)
        self.optimizer.step()
        self.ema.update(ema.decay(phase.ema, before, size))
        self.step += 1
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
        self._log(progress)
        return progress

    def _gradients(self, batches: list[Batch], first: int) -> tuple[float, dict[str, float], float]:
        """The mean loss, its named parts and the norm of its gradient, which is clipped in place."""
        total, parts = self._backward(batches, first)
        norm = nn.utils.clip_grad_norm_(self.moving.values(), self.phase.clip_norm)
        loss, length = torch.stack([total, norm]).tolist()  # one wait for the device
        if math.isfinite(loss) and math.isfinite(length):
            return loss, parts, length
        where = first_bad_module(self.parts, lambda: self._backward(batches, first))
        samples = [index for batch in batches for index in batch.index] or "of the data's own numbering"
        kept = latest(self.folder)
        raise FloatingPointError(
            f"step {self.step + 1}: the loss is {loss}, the gradient's norm {length}, on samples {samples}; {where}; "
            + (f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet")
        )

    def _backward(self, batches: list[Batch], first: int) -> tuple[Tensor, dict[str, float]]:
        """Gradients of the mean loss over the batches, the first sample of which is number ``first`` of the run."""
        self.optimizer.zero_grad(set_to_none=True)
        total, parts = torch.zeros((), device=self.device), Counter[str]()
        for batch in batches:
            rng = generators(self.seed, range(first, first + len(batch.video)))
            # Dropout draws from the global generator; ~seed keeps it apart from the samples' own randomness.
            torch.manual_seed(generators(~self.seed, [first])[0].initial_seed())
            with self._autocast():
                loss = self.phase.target.loss(batch.to(self.device), rng)
            (loss.total / len(batches)).backward()
            total += loss.total.detach() / len(batches)
            parts.update({name: value / len(batches) for name, value in loss.parts.items()})
            first += len(batch.video)
        return total, dict(parts)

    def _due(self, every: int, before: int) -> bool:
        """Whether the last step passed a multiple of ``every`` clips, or the end."""
        return self.finished or self.clips // every > before // every

    def _validate(self) -> dict[str, float]:
        if self.phase.held_out is None:
            return {}
        batch = self._held_out
        with self._looking():
            return self.phase.target.validate(batch.to(self.device), self._rng_apart(len(batch.video)))

    @cached_property
    def _held_out(self) -> Batch:
        held_out = self.phase.held_out
        assert held_out is not None
        return held_out() if callable(held_out) else held_out

    def _preview(self, batch: Batch) -> tuple[Path, ...]:
        """Videos of the prompts side by side, as a gif and a contact sheet."""
        prompts = self.phase.prompts
        if not prompts:
            return ()
        with self._looking():
            tiled = writer.grid(self.phase.target.preview(prompts, self._rng_apart(len(prompts))).float().cpu())
        (self.folder / "previews").mkdir(exist_ok=True)
        paths = tuple(self.folder / "previews" / f"{self.clips:010d}{ending}" for ending in (".gif", ".png"))
        for path in paths:
            writer.write(tiled, path, fps=min(50.0, max(1.0, float(batch.fps.max()))))
        return paths

    def _rng_apart(self, count: int) -> list[torch.Generator]:
        """Randomness of samples with negative numbers: never that of training, and the same each time, to compare."""
        return generators(self.seed, range(-count, 0))

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Averaged weights, no dropout, no gradients."""
        for part in self.parts.values():
            part.eval()
        with torch.no_grad(), self._autocast(), self.ema.applied():
            yield
        self._set_modes()

    def _set_modes(self) -> None:
        """Gradients only for what the optimiser moves, dropout only in parts that hold some of it."""
        moving = {id(parameter) for parameter in self.moving.values()}
        for part in self.parts.values():
            part.train(any(id(parameter) in moving for parameter in part.parameters()))
            for parameter in part.parameters():
                parameter.requires_grad_(id(parameter) in moving)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def _name_moving(self) -> dict[str, nn.Parameter]:
        """What the optimiser moves, by its name in the parts."""
        moved = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        named = {id(p): (f"{part}.{name}", p) for part, root in self.parts.items() for name, p in root.named_parameters()}
        assert moved <= named.keys(), "the target trains parameters that none of its parts holds"
        return dict(named[key] for key in named if key in moved)

    def _settings(self) -> dict[str, Any]:
        """What the run was asked to do from this step on, as JSON."""
        hidden = ("target", "data", "held_out")
        phase = {f.name: getattr(self.phase, f.name) for f in fields(self.phase) if f.name not in hidden}
        return json.loads(json.dumps({"step": self.step, "seed": self.seed, "precision": self.precision, **phase}))

    def _restore(self, path: Path) -> None:
        try:
            tensors, values = checkpoint.load_state(path)
        except ValueError as error:
            raise ValueError(f"{error}; without {path} the run continues from the checkpoint before it") from error
        self._continue_settings(path, values["history"])
        states = {name: _under(f"weights/{name}/", tensors) for name in self.parts}
        for name, part in self.parts.items():
            checkpoint.check_fit(checkpoint.split_state(part)[0], states[name], path)
        checkpoint.check_fit(self.moving, _under("ema/", tensors), path)
        for name, part in self.parts.items():
            checkpoint.fill(part, states[name], values["extra"].get(name, {}))
        moments = {slot: _under(f"adam/{slot}/", tensors) for slot in ("step", "exp_avg", "exp_avg_sq")}
        for average, (name, parameter) in zip(self.ema.average, self.moving.items(), strict=True):
            average.copy_(tensors[f"ema/{name}"])
            for slot, saved in moments.items():
                if name in saved:  # a parameter that never had a gradient has no moments
                    like = torch.zeros((), device=self.device) if slot == "step" else torch.empty_like(parameter)
                    self.optimizer.state[parameter][slot] = like.detach().copy_(saved[name])
        self.step, self.clips, self._metrics_size = values["step"], values["clips"], values["metrics_size"]

    def _continue_settings(self, path: Path, history: list[dict[str, Any]]) -> None:
        """Record what changed since the checkpoint; refuse what would make it another run."""
        now, then = self._settings(), history[-1]
        for name in ("name", "seed", "accumulate"):
            if now[name] != then[name]:
                raise ValueError(
                    f"{path} was trained with {name} {then[name]!r}, not {now[name]!r}: ask for that, or use a new folder"
                )
        changed = any(now[name] != then.get(name) for name in now if name != "step")
        self._history = [*history, now] if changed else history

    def _open_metrics(self) -> None:
        """Cut the lines of steps that will be done again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "metrics.jsonl").open("ab") as file:
            file.truncate(self._metrics_size)

    def _log(self, progress: Progress) -> None:
        values = asdict(progress)
        del values["seconds_left"]
        values["previews"] = [str(path.relative_to(self.folder)) for path in progress.previews]
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint of a run's folder."""
    return next(reversed(_checkpoints(Path(folder))), None)


def ahead(data: Callable[[int], Batch], start: int) -> Generator[Batch]:
    """The batches from draw ``start`` on, without end, made by a thread while the caller works."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(data, start + i) for i in range(AHEAD))
        try:
            for draw in count(start + AHEAD):
                yield waiting.popleft().result()
                waiting.append(pool.submit(data, draw))
        finally:
            pool.shutdown(cancel_futures=True)


def compile_blocks(parts: Iterable[nn.Module], device: torch.device) -> None:
    """Compile the blocks of every part that has them, in place; names and weights stay as they are."""
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))):
        warnings.warn("training without torch.compile, which needs a C++ compiler on a CPU: install g++", stacklevel=2)
        return
    for part in parts:
        for block in getattr(part, "blocks", ()):
            block.compile()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("[0-9]*"))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _synced_size(path: Path) -> int:
    """The length of a file, all of it on the disk."""
    with path.open("ab") as file:
        os.fsync(file.fileno())
        return file.tell()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM calls ``stop``; the second does what it did before."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop()
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
