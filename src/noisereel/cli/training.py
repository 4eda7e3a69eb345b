"""A training run in its folder: opened or continued, trained phase by phase, exported as a model."""

from __future__ import annotations

import json
import math
import os
import time
from argparse import Namespace
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from noisereel import adapters, checkpoint, distributed
from noisereel.cli.card import model_card
from noisereel.cli.progress import progress
from noisereel.data.mix import InTurn, Mix, limited
from noisereel.distributed import Alone, Processes
from noisereel.making.device import computes_in_bf16, pick
from noisereel.pipeline import TextToVideo, locate
from noisereel.recipes.plan import Plan, rebuild
from noisereel.stage import Stage
from noisereel.trainer import Phase, Trainer

CALL = "run.json"  # what the run was asked to do: its recipe call
HALF = ".part"  # of what is being written, by this process or another that trains another phase
MAY_CHANGE = ("clips",)  # arguments that say how far a run goes, not what it is


def train(options: Namespace) -> dict[str, Any] | None:
    """Run or continue the phases, and export what they made; None where another process says so.

    Raises:
        ValueError: the folder holds another run, or the recipe cannot be called so.
        ConnectionError: another of the processes that train together is gone.
        KeyboardInterrupt: stopped by Ctrl-C, after everything was saved.
    """
    call = {"recipe": options.recipe, "arguments": options.arguments}
    asked = {**call, "overfit": options.overfit, "start": options.start, "lora": options.lora}
    check_folder(options.out, asked, resume=options.resume is not None)
    device = distributed.own(pick(options.device))
    deadline = time.monotonic() + 60 * (math.inf if options.minutes is None else options.minutes)
    with distributed.joined(device, within=options.shard) as ranks:
        made = planned(options)
        if ranks.rank == 0:
            write_call(options.out, asked)  # not sooner: a call that was refused leaves nothing behind
        plan, trainer = trained(options, made, device, ranks, deadline)
    if ranks.rank > 0:
        return None
    if ranks.world > 1:  # what was in shards is opened as a whole, from its checkpoint
        plan, trainer = trained(options, planned(options), device, Alone(), deadline=0.0)
    # The others may be trained at this moment, by other processes: who asks for no phase joins them.
    if options.phase and not options.start:
        return {"out": str(options.out), "phase": options.phase, "finished": trainer.finished, **learned(trainer)}
    if options.lora:
        return {"out": str(options.out), **saved_adapter(options.out, plan), "finished": trainer.finished, **learned(trainer)}
    about = {**learned(trainer), "precision": trainer.precision, "device": str(device), "torch": torch.__version__}
    model = options.out / "model"
    TextToVideo(system=plan.system, call=call, card=model_card(call, about), about=about).save_pretrained(model)
    if not trainer.finished and time.monotonic() < deadline:
        raise KeyboardInterrupt(f"stopped after {trainer.clips} clips; the same command goes on from there")
    return {"out": str(options.out), "model": str(model), "finished": trainer.finished, **about}


def planned(options: Namespace) -> tuple[Plan, list[Phase]]:
    """The recipe's plan, and those of its phases that are asked for."""
    plan = rebuild({"recipe": options.recipe, "arguments": options.arguments})
    phases = [overfitted(phase, options.overfit) if options.overfit else phase for phase in plan.phases()]
    if options.phase:
        phases = built_on(phases, options.phase)
    if options.start:
        phases = phases[-1:]
        checkpoint.load(locate(options.start), plan.system.parts())  # now, for making the phases learned words
    if options.lora:
        phases = [adapted(phase, options.lora, options.arguments.get("seed", 0)) for phase in phases]
    return plan, phases


def trained(
    options: Namespace, made: tuple[Plan, list[Phase]], device: torch.device, ranks: Processes, deadline: float
) -> tuple[Plan, Trainer]:
    """The plan with what its phases learned until all are finished or time is up, and the trainer of the last begun."""
    plan, phases = made
    precision: Literal["fp32", "bf16"] = options.precision
    if options.precision == "auto":
        precision = "bf16" if computes_in_bf16(device) else "fp32"
    for number, phase in enumerate(phases):
        trainer = Trainer(
            phase,
            options.out / phase.name,
            seed=options.arguments.get("seed", 0),
            precision=precision,
            device=device,
            compile=options.compile,
            recompute=options.recompute,
            workers=options.workers,
            checkpoint_seconds=60 * options.checkpoint,
            ranks=ranks,
        )
        opened = trainer.finished
        if time.monotonic() < deadline:
            follow(trainer, deadline, f"{phase.name} ({number + 1} of {len(phases)})", quiet=ranks.rank > 0)
        trainer.adopt_average()
        if not trainer.finished:
            break
        if ranks.world > 1 and not opened and phase is not phases[-1]:
            # Its parts stay in shards: what builds on them is planned anew, and finds it in the checkpoint.
            return trained(options, planned(options), device, ranks, deadline)
    return plan, trainer


def adapted(phase: Phase, rank: int, seed: int) -> Phase:
    """The phase in which an adapter alone learns, on the network of its stage.

    Raises:
        ValueError: what it trains is no stage.
    """
    if not isinstance(phase.target, Stage) or not isinstance(phase.target.net, nn.Module):
        raise ValueError(f"phase {phase.name} trains no network with blocks: --lora cannot adapt it")
    return replace(phase, moving=adapters.add(phase.target.net, rank, seed=seed))


def saved_adapter(folder: Path, plan: Plan) -> dict[str, str]:
    """Where the adapter was written."""
    nets = {name: part for name, part in plan.system.parts().items() if hasattr(part, "peft_config")}
    return {"lora": str(adapters.save(folder / "lora" / adapters.FILE, nets))}


def built_on(phases: list[Phase], name: str) -> list[Phase]:
    """The phase of that name, and before it those that move what it holds, or that it may take over from.

    Raises:
        ValueError: there is none of that name.
    """
    names = [phase.name for phase in phases]
    if name not in names:
        raise ValueError(f"there is no phase {name!r}; the phases are {', '.join(names)}")
    *before, chosen = phases[: names.index(name) + 1]
    if chosen.begin is not None:
        return [*before, chosen]
    needed, held = [chosen], held_by(chosen)
    for phase in reversed(before):
        if held & {id(parameter) for group in phase.parameter_groups() for parameter in group["params"]}:
            needed, held = [phase, *needed], held | held_by(phase)
    return needed


def held_by(phase: Phase) -> set[int]:
    """The parameters of what a phase trains, those that it leaves alone too."""
    return {id(parameter) for part in phase.target.parts().values() for parameter in part.parameters()}


def check_folder(folder: Path, call: Mapping[str, Any], *, resume: bool) -> None:
    """Refuse a folder in which the run can neither begin nor continue.

    Raises:
        ValueError: it holds another run or other things, or nothing where a run should be continued.
    """
    record = folder / CALL
    if record.exists():
        refuse_another(folder, checkpoint.read_json(record), call)
    elif resume:
        raise ValueError(f"there is no run to continue in {folder}; without --resume one begins there")
    elif folder.exists() and (not folder.is_dir() or any(entry.suffix != HALF for entry in folder.iterdir())):
        raise ValueError(f"{folder} holds something that is not a run: choose another --out")


def write_call(folder: Path, call: Mapping[str, Any]) -> None:
    """Make the run's folder and say in it what the run was asked to do."""
    folder.mkdir(parents=True, exist_ok=True)
    half = (folder / CALL).with_suffix(f".{os.getpid()}{HALF}")
    try:
        checkpoint.write_json(half, call)
        half.replace(folder / CALL)
    finally:
        half.unlink(missing_ok=True)


def refuse_another(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a run as something that it is not."""
    before, asked = ({**call, **call.get("arguments", {})} for call in (then, now))
    del asked["arguments"]
    for name in asked:
        if name not in MAY_CHANGE and asked[name] != before.get(name):
            difference = f"{name} {before.get(name)!r}, not {asked[name]!r}"
            raise ValueError(f"{folder} holds a run with {difference}: ask for that, or choose another --out")


def follow(trainer: Trainer, deadline: float, what: str, *, quiet: bool = False) -> None:
    """Train to the end, the deadline or Ctrl-C, with progress."""
    if quiet:  # of several processes one speaks
        deque(trainer.run(max(0.0, deadline - time.monotonic()) / 60), maxlen=0)
        return
    with progress(what, seconds=60.0) as report:
        for step in trainer.run(max(0.0, deadline - time.monotonic()) / 60):
            report(step.clips / trainer.phase.clips, f"loss {step.loss:.4f}, {step.clips_per_second:.1f} clips/s")


def overfitted(phase: Phase, clips: int) -> Phase:
    """The phase on its first few clips, over and over.

    Raises:
        ValueError: its data is of a kind that cannot be cut short.
    """

    def short(mix: Mix) -> Mix:
        video, images = (source and limited(source, clips) for source in (mix.video, mix.images))
        return replace(mix, video=video, images=images)

    data = phase.data
    if isinstance(data, InTurn):
        return replace(phase, data=replace(data, mixes=[short(mix) for mix in data.mixes]))
    if not isinstance(data, Mix):
        raise ValueError(f"phase {phase.name} has data of its own making: --overfit cannot cut it short")
    return replace(phase, data=short(data))


def learned(trainer: Trainer) -> dict[str, Any]:
    """What a model should say about its training: how far it went, and the last numbers in its log."""
    log = trainer.folder / "metrics.jsonl"
    steps = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    held_out: dict[str, float] = next((step["held_out"] for step in reversed(steps) if step["held_out"]), {})
    numbers = {name: round(steps[-1][name], 5) for name in ("loss", "clips_per_second")} if steps else {}
    return {
        "clips": trainer.clips,
        "steps": trainer.step,
        **numbers,
        **{name: round(value, 5) for name, value in held_out.items()},
    }
