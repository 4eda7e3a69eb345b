"""``noisereel distill``: a trained model learns to sample in few steps, none of them guided."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisereel.cli.parsing import Parser


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("distill", "Teach a trained model to sample in few steps, and without a second pass for guidance.")
    add = parser.add_argument
    add("model", metavar="MODEL", help="a shipped model, a folder, or a name on the hub; one that a recipe made")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the run lives; its model is in FOLDER/model")
    add("--steps", type=int, default=8, metavar="N", help="sampling steps to come down to, 8 if not given")
    add("--stages", metavar="NAMES", help="which to distil, with commas between; all of the model's if not given")
    add("--phase", metavar="STAGE", help="distil this stage alone, beside others; without, the rest and the model")
    add("--guidance", type=float, metavar="SCALE", help="of the teacher; its own if not given")
    add("--data", metavar="DATA", help="what to train on; what the model was trained on if not given")
    add("--clips", type=int, metavar="N", help="a round; a tenth of what the stage was trained on if not given")
    add("--rate", type=float, metavar="RATE", help="learning rate; half of the one the stage was trained at if not given")
    add("--minutes", type=float, help="stop after so long; the same command goes on")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto is bf16 where the machine computes in it")
    add("--device", metavar="NAME", help="cpu, cuda, ...; the best there is if not given")
    add("--workers", type=int, default=0, metavar="N", help="processes that make training clips ahead")
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Distil stage by stage and round by round, and export what they made.

    Raises:
        ValueError: a model that cannot be distilled, or a folder that holds another run.
        KeyboardInterrupt: stopped by Ctrl-C, after everything was saved.
    """
    for name, least in (("steps", 1), ("clips", 1), ("minutes", 0), ("workers", 0)):
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise ValueError(f"--{name} takes {least} or more, not {value}")
    from noisereel.cli.training import check_folder, write_call
    from noisereel.pipeline import TextToVideo

    names = ("model", "steps", "stages", "guidance", "data", "rate", "clips")
    asked = {"arguments": {"verb": "distill", **{name: getattr(options, name) for name in names}}}
    check_folder(options.out, asked, resume=False)
    call, system, phases = teacher(options)
    chosen = wanted(options, list(system.stages))
    write_call(options.out, asked)
    deadline = time.monotonic() + 60 * (math.inf if options.minutes is None else options.minutes)
    stages, counts = dict(system.stages), {}
    about: dict[str, Any] = {}
    for name in [options.phase] if options.phase else chosen:
        student, about = lessons(name, stages[name], lesson(name, stages[name], phases), options, deadline)
        if student is None:
            if time.monotonic() < deadline:
                raise KeyboardInterrupt(f"stopped while distilling {name}; the same command goes on from there")
            return {"out": str(options.out), "stage": name, "finished": False, **about}
        stages[name], counts[name] = student, options.steps
    if options.phase:
        return {"out": str(options.out), "stage": options.phase, "finished": True, **about}
    from noisereel.cli.card import model_card
    from noisereel.system import System

    about = {"distilled from": str(options.model), **about}
    pipe = TextToVideo(
        system=System(stages=stages), call=call, distilled=counts, card=model_card(call, {**about, **counts}), about=about
    )
    pipe.save_pretrained(options.out / "model")
    return {"out": str(options.out), "model": str(options.out / "model"), "finished": True, **about}


def told(result: dict[str, Any]) -> str:
    """One fact a line."""
    return "\n".join(f"{name:24}{value}" for name, value in result.items())


def teacher(options: Namespace) -> tuple[dict[str, Any], Any, list[Any]]:
    """The call that made the model, the model itself, and the phases that trained it.

    Raises:
        ValueError: somebody else's model, or one that was distilled before.
    """
    from noisereel import checkpoint
    from noisereel.making.device import pick
    from noisereel.pipeline import locate
    from noisereel.recipes.plan import complete, rebuild

    folder = locate(options.model)
    index = checkpoint.read_index(folder)
    if "recipe" not in index:
        raise ValueError(f"{options.model} was made by no recipe, which would say what it learns from: distil one of ours")
    if "distilled" in index:
        raise ValueError(f"{options.model} was distilled before: distil the model that it was made from")
    call = complete({"recipe": index["recipe"], "arguments": index.get("arguments", {})})
    changed = {name: getattr(options, name) for name in ("guidance", "data") if getattr(options, name) is not None}
    call = complete({**call, "arguments": call["arguments"] | changed})
    plan = rebuild(call, folder)
    phases = plan.phases()
    checkpoint.load(folder, plan.system.parts())  # now, for making the phases learned words
    for part in plan.system.parts().values():
        part.to(pick(options.device)).eval()
    return call, plan.system, phases


def wanted(options: Namespace, names: list[str]) -> list[str]:
    """The stages to distil.

    Raises:
        ValueError: one that the model has not, or a phase that is none of them.
    """
    chosen = [name.strip() for name in options.stages.split(",")] if options.stages else names
    for name in [*chosen, *([options.phase] if options.phase else [])]:
        if name not in names:
            raise ValueError(f"this model has no stage {name!r}; its stages are {', '.join(names)}")
    if options.phase and options.phase not in chosen:
        raise ValueError(f"--phase {options.phase} is not one of --stages {options.stages}")
    return chosen


def lesson(name: str, stage: Any, phases: Sequence[Any]) -> Any:
    """The last phase that trained a stage: its students learn from the same clips.

    Raises:
        ValueError: there is none.
    """
    found = [phase for phase in phases if getattr(phase.target, "net", None) is stage.net]
    if not found:
        raise ValueError(f"no phase of the recipe trains stage {name} by itself: name others with --stages")
    return found[-1]


def lessons(name: str, stage: Any, phase: Any, options: Namespace, deadline: float) -> tuple[Any, dict[str, Any]]:
    """The stage after all of its rounds, and what the log says of the last; None where time was up, or Ctrl-C came."""
    from dataclasses import replace

    from noisereel.cli.training import follow, learned
    from noisereel.distill import distilled, rounds
    from noisereel.making.device import computes_in_bf16, pick
    from noisereel.trainer import Trainer

    device = pick(options.device)
    precision = {"auto": "bf16" if computes_in_bf16(device) else "fp32"}.get(options.precision, options.precision)
    clips = options.clips or max(1, phase.clips // 10)
    student, about = distilled(stage, options.steps), {}
    for distillation in rounds(stage, options.steps):
        student = distillation.student
        one = replace(
            phase,
            name=f"{name}_{student.steps}",
            target=distillation,
            moving=None,
            begin=None,
            clips=clips,
            learning_rate=options.rate or phase.learning_rate / 2,
            warmup=min(phase.warmup, clips // 10),
            decay="linear",  # to 0 in every round (Salimans and Ho 2022, section 3)
            ema=clips // 20,
            validate_every=-(-clips // 4),
            preview_every=clips,
        )
        trainer = Trainer(one, options.out / one.name, precision=precision, device=device, workers=options.workers)
        follow(trainer, deadline, f"{name}: {distillation.teacher.steps} steps to {student.steps}")
        trainer.adopt_average()
        about = learned(trainer)
        if not trainer.finished:
            return None, about
    return student, about
