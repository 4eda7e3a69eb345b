"""``noisereel train``: a recipe's own keyword arguments, read from its signature, and where and how to run it."""

from __future__ import annotations

import inspect
from argparse import ArgumentError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from noisereel.cli.parsing import close_match

USAGE = """usage: noisereel train RECIPE --out FOLDER [options]

Train a recipe. A folder that holds a stopped run of the same call is continued, on a CPU bit for bit.

{recipes}

  noisereel train RECIPE --help    says what its options mean"""


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The run's options, with the recipe's arguments as a dictionary in ``arguments``; None after printing help.

    Raises:
        ValueError: what argparse would exit for.
    """
    options = recipe_options(arguments, "train", USAGE, add_options)
    if options is None:
        return None
    options.out = options.out and Path(options.out)
    return checked(options)


def recipe_options(
    arguments: Sequence[str], verb: str, usage: str, add_options: Callable[[Callable[..., Any]], None]
) -> Namespace | None:
    """What follows a verb that takes a recipe: its name, its own arguments, and the verb's options."""
    from noisereel.recipes.plan import RECIPES, recipe

    if not arguments or arguments[0].startswith("-"):
        if not {"-h", "--help"} & set(arguments):
            raise ValueError(
                f"name a recipe first, such as noisereel {verb} {next(iter(RECIPES))}; see noisereel {verb} --help"
            )
        shown = (parser_of(name, recipe(name), verb, add_options).format_usage() for name in RECIPES)
        print(usage.format(recipes="\n\n".join(shown)))
        return None
    name, *rest = arguments
    function = recipe(name)
    parser = parser_of(name, function, verb, add_options)
    if {"-h", "--help"} & set(rest):
        print(parser.format_help())
        return None
    try:
        given = vars(parser.parse_args(rest))
    except ArgumentError as error:
        raise ValueError(explained(str(error), list(parser._option_string_actions), name)) from error
    taken = {argument: given.pop(argument) for argument in inspect.signature(function).parameters}
    return Namespace(recipe=name, arguments=taken, **given)


def parser_of(name: str, function: Callable[..., Any], verb: str, add_options: Callable[[Callable[..., Any]], None]) -> Any:
    """A parser of a verb's options and of the recipe's keyword arguments; their help is the recipe's docstring."""
    from jsonargparse import ArgumentParser

    summary = (inspect.getdoc(function) or "").split("\n")[0]
    parser = ArgumentParser(prog=f"noisereel {verb} {name}", exit_on_error=False, description=summary, print_config=None)
    add_options(parser.add_argument)
    parser.add_function_arguments(function, as_group=True)
    return parser


def add_options(add: Callable[..., Any]) -> None:
    """Where and how to run."""
    add("--out", metavar="FOLDER", help="where the run lives: checkpoints, metrics.jsonl, previews, and the model")
    add("--config", action="config", metavar="FILE", help="a yaml file of options; the command line has the last word")
    add(
        "--start",
        metavar="MODEL",
        help="begin with a model's weights, which have the earlier phases behind them: train the last",
    )
    add("--lora", type=int, metavar="RANK", help="train an adapter on the network of --start, which stays as it is")
    add("--phase", metavar="NAME", help="train this phase alone, after those it builds on; without, the rest and the model")
    add("--minutes", type=float, help="stop after so long; the same command goes on")
    add("--resume", nargs="?", const="latest", choices=("latest",), help="refuse to begin: there must be a run to continue")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto is bf16 where the machine computes in it")
    add("--compile", action="store_true", help="compile the network's blocks; needs a C++ compiler on a CPU")
    add("--recompute", action="store_true", help="keep no activations of the blocks: less memory, a third more work")
    add("--shard", type=int, default=0, metavar="N", help="processes of torchrun that share one copy of the weights; 0: all")
    add("--checkpoint", type=float, default=10.0, metavar="MINUTES", help="between checkpoints")
    add("--device", metavar="NAME", help="cpu, cuda, ...; the best there is if not given")
    add("--workers", type=int, default=0, metavar="N", help="processes that make training clips ahead; 0 makes them in between")
    add("--overfit", type=int, metavar="N", help="train on N clips only, to see that everything can be learned")
    add("--dry-run", action="store_true", help="say what would be trained, how large it is and what a clip costs")
    add("--json", action="store_true", help="print one JSON object, for machines")


def explained(problem: str, legal: Sequence[str], recipe: str) -> str:
    """A parser's complaint in one line, with the option that was probably meant."""
    words = problem.split()
    if problem.startswith("unrecognized arguments:"):
        option = words[2].split("=")[0]
        return f"recipe {recipe} has no option {option}{close_match(option, legal) or '; see its --help'}"
    return " ".join(words).replace("Parser key ", "option ").replace("typing.", "")


def checked(options: Namespace) -> Namespace:
    """The options, if they make sense.

    Raises:
        ValueError: names the option and what it takes.
    """
    if options.out is None and not options.dry_run:
        raise ValueError(f"say where the run should live: --out runs/{options.recipe}")
    if options.lora is not None and not options.start:
        raise ValueError("--lora trains an adapter on a trained model: say which, --start MODEL")
    for name, least in (("lora", 1), ("minutes", 0), ("checkpoint", 0), ("workers", 0), ("shard", 0), ("overfit", 1)):
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise ValueError(f"--{name} takes {least} or more, not {value}")
    return options


def run(options: Namespace) -> dict[str, Any] | None:
    """Train, or say what would be trained."""
    if options.dry_run:
        from noisereel.cli.dry_run import estimate

        return estimate(options)
    from noisereel.cli.training import train

    try:
        return train(options)
    except FloatingPointError as error:  # a diverged run is told in a line: a traceback would not help
        raise ValueError(str(error)) from error


def told(result: dict[str, Any]) -> str:
    """What was done, or would be, one fact a line."""
    lines = [f"{name:24}{value}" for name, value in result.items() if name not in ("arguments", "phases")]
    for phase in result.get("phases", []):
        lines += ["", *(f"{name:24}{value}" for name, value in phase.items())]
    return "\n".join(lines)
