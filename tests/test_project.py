"""The project as a stranger meets it: what README says exists, the wheel carries the model, importing is cheap."""

import ast
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import noisereel
from noisereel.recipes.plan import RECIPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = {page.name: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}
DEFAULT = ROOT / "weights" / "default" / "model_index.json"
needs_weights = pytest.mark.skipif(not DEFAULT.exists(), reason="the default model is not in this checkout")


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def code_blocks(language: str, *pages: str) -> list[str]:
    return [block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)]


def shell_commands(*pages: str) -> list[list[str]]:
    lines = "".join(code_blocks("sh", *pages)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def tree() -> set[str]:
    """The paths that README's tree names: one to a line, folders end in a slash and hold what is indented below them."""
    (block,) = re.findall(r"```text\n(src/noisereel/.*?)```", README, re.DOTALL)
    folders: list[str] = []
    paths = set()
    for line in block.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        paths.add("".join(folders))
    return paths


def test_importing_the_package_does_not_import_torch() -> None:
    assert run(sys.executable, "-c", "import sys, noisereel; print('torch' in sys.modules)").strip() == "False"


def test_public_names_are_there_when_asked_for() -> None:
    for name in noisereel.__all__:
        assert getattr(noisereel, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = noisereel.nothing_like_this


def test_one_version_everywhere() -> None:
    assert metadata.version("noisereel") == noisereel.__version__
    assert re.search(rf"^version: {re.escape(noisereel.__version__)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert f"## [{noisereel.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_targets_that_are_written_of_exist() -> None:
    used = {words[1] for words in shell_commands(README, *DOCS.values()) if words[0] == "make"}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= used <= targets


def test_commands_that_are_written_of_are_known_to_the_command_line() -> None:
    used: dict[str, set[str]] = {}
    for words in shell_commands(README, *DOCS.values()):
        if words[0] == "noisereel":
            used.setdefault(words[1], set()).update(word.split("=")[0] for word in words[2:] if re.match("--?[a-z]", word))
    assert "generate" in used
    for verb, options in used.items():
        help_text = run(sys.executable, "-c", "from noisereel.cli.app import main; main()", verb, "--help")
        known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_text))
        assert options <= known, verb


def test_readme_python_parses_and_uses_public_names() -> None:
    blocks = code_blocks("python", README)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "noisereel":
                assert {alias.name for alias in node.names} <= set(noisereel.__all__)


@needs_weights
def test_readme_python_runs(tmp_path: Path) -> None:
    for number, block in enumerate(code_blocks("python", README)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(sys.executable, "-c", block, cwd=folder)
        assert any(folder.iterdir()), "the example writes its video"


def test_readme_tree_is_the_tree() -> None:
    named = tree()
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py"}
    assert sorted(modules - named) == []


def test_readme_names_every_recipe_and_only_files_that_exist() -> None:
    for recipe in RECIPES:
        assert f"`{recipe}`" in README
    pages = [ROOT / "README.md", *(ROOT / "docs" / name for name in DOCS)]
    links = {page: re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()) for page in pages}
    assert [f"{page.name}: {to}" for page, found in links.items() for to in found if not (page.parent / to).exists()] == []
    assert set(DOCS) - {"README.md"} <= set(links[ROOT / "docs" / "README.md"])


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    kinds = {".py", ".md", ".toml", ".txt", ".cff", ".json", ".jsonl", ".yml", ""}
    skipped = {".git", ".venv", ".hypothesis", ".schemathesis", "__pycache__", "build", "dist", "runs"}
    machine = re.compile(r"/(?:home|root|Users|work|opt)/\w|file:/{3}|[A-Z]:\\{1,2}Users")
    found = []
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in skipped and not name.endswith("_cache")]
        for path in (Path(folder, file) for file in files if Path(file).suffix in kinds and file != ".git"):
            text = path.read_text(errors="ignore")
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in machine.finditer(text)]
    assert found == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("noisereel-*.whl")
    return built


def test_the_wheel_is_complete(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "noisereel/py.typed" in names
    assert {name for name in names if name.endswith(".py")} == {
        path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")
    }
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]
    page = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "noisereel" / "serve" / "page").iterdir()}
    assert "noisereel/serve/page/index.html" in page <= names
    weights = {path.relative_to(ROOT).as_posix() for path in (ROOT / "weights").rglob("*") if path.is_file()}
    assert {f"noisereel/{path}" for path in weights} <= names


@needs_weights
def test_an_installed_wheel_generates_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # The dependencies come from the environment of the tests, whose own .pth files (an editable install) are not followed.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    origin = run(python, "-c", "import noisereel; print(noisereel.__file__)", cwd=elsewhere)
    assert origin.startswith(str(environment))
    run(environment / "bin" / "noisereel", "generate", "a red circle", "--steps", "2", "-o", "clip.gif", cwd=elsewhere)
    assert (elsewhere / "clip.gif").read_bytes().startswith(b"GIF89a")
