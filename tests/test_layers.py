"""A module imports only from the rows above its own, never sideways; packages' ``__init__`` files are empty."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "noisereel"

ROWS = (
    {"types"},
    {"diffusion", "nets", "codecs", "text", "data", "worlds", "training", "checkpoint", "distributed", "adapters"},
    {"conditioning"},
    {"stage", "prior"},
    {"system", "trainer", "distill", "upscale"},
    {"pretrained", "evaluate"},
    {"recipes"},
    {"pipeline"},
    {"making"},
    {"serve"},
    {"cli"},
)
ALSO = {"worlds": {"data"}, "distributed": {"checkpoint"}}  # sideways, by exception
NEVER = {
    "conditioning": ROWS[1] - {"diffusion"},
    "trainer": {"stage", "prior"},  # it trains autoencoders, priors and stages alike
}
UNITS = set().union(*ROWS)


def allowed(unit: str) -> set[str]:
    row = next(number for number, units in enumerate(ROWS) if unit in units)
    return set().union(*ROWS[:row], {unit}, ALSO.get(unit, set())) - NEVER.get(unit, set())


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, inside functions too, or named in a string for importlib."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"noisereel(\.\w+)+", str(node.value)):
            yield node.lineno, str(node.value)


def violations(unit: str, source: str) -> list[str]:
    found = []
    for line, name in imported(source):
        if name.startswith("."):
            found.append(f"line {line}: relative import {name}")
        elif name.split(".")[0] == "noisereel" and name not in ("noisereel", "noisereel.__version__"):
            target = name.split(".")[1]
            if target not in allowed(unit):
                found.append(f"line {line}: {unit} must not import {target}")
    return found


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_from_rows_above(path: Path) -> None:
    unit = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert unit in UNITS, f"{path.name} has no row: add it to the table here and in docs/architecture.md"
    assert violations(unit, path.read_text()) == []


def test_package_inits_are_empty() -> None:
    inits = [path for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE]
    assert inits
    assert [str(path.relative_to(SOURCE)) for path in inits if path.read_text().strip()] == []


def test_the_documentation_shows_the_same_rows() -> None:
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text()
    shown = re.findall(r"^\| \d+ \| ([^|]+) \|", page, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in shown] == list(ROWS)


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("nets", "from noisereel.diffusion.schedules import Cosine"),
        ("nets", "def f():\n    from noisereel.stage import Stage"),
        ("nets", "if TYPE_CHECKING:\n    import noisereel.system"),
        ("data", "from noisereel import worlds"),
        ("data", "from ..types import Video"),
        ("types", "from noisereel.nets.layers import Norm"),
        ("conditioning", "from noisereel.nets import layers"),
        ("trainer", "from noisereel.stage import Stage"),
        ("pretrained", "import noisereel.recipes.plan as plan"),
        ("evaluate", "from noisereel.recipes.plan import recipe"),
        ("pipeline", "importlib.import_module('noisereel.cli')"),
        ("stage", "from noisereel import TextToVideo"),
    ],
)
def test_each_kind_of_trespass_is_seen(unit: str, source: str) -> None:
    assert len(violations(unit, source)) == 1


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("nets", "from noisereel.nets.layers import Norm\nfrom noisereel.types import Video"),
        ("worlds", "from noisereel.data.clips import Clip"),
        ("conditioning", "from noisereel.diffusion.schedules import Cosine"),
        ("trainer", "from noisereel.checkpoint import save"),
        ("recipes", "import noisereel.pretrained.wan as wan"),
        ("pipeline", "from noisereel import __version__, checkpoint"),
        ("cli", "from noisereel.recipes.plan import RECIPES"),
    ],
)
def test_what_the_table_allows_is_allowed(unit: str, source: str) -> None:
    assert violations(unit, source) == []
