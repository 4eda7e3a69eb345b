"""A real browser before a real server: Debian's Chromium, driven by playwright."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import serving

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


# Closed when a file's tests are over: while playwright is there an event loop runs, and no other can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright, of noisereel[dev]")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def site(browser: Any, tiny_folder: Path, upscaler: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with two models and an upscaler, for tests that get along with each other's videos."""
    options = ["--model", f"other={tiny_folder}", "--model", f"larger={upscaler}", "--per-key", 50]
    with serving(tiny_folder, tmp_path_factory.mktemp("site"), *options) as running:
        yield running


@pytest.fixture
def visit(browser: Any, site: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page as somebody new; what the browser complains of fails the test."""
    contexts, complaints = [], []

    def opened(address: str = "", fragment: str = "", *, ready: bool = True, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(120000)  # a busy machine is slow, not wrong
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.goto(f"{address or site.address}/{fragment}")
        if ready:
            page.locator("label.chip").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def keep() -> Callable[[Any, str], None]:
    """Keeps a screenshot, to be looked at after the tests."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
