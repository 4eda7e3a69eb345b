"""The page on a phone, by keyboard alone, read out, in the dark, and without motion."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs noisereel[serve]")

PROMPT = "a red circle moves to the left"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
SMALL = """() => [...document.querySelectorAll("button, input, textarea, summary, label.chip")]
    .filter(one => one.checkVisibility() && !one.matches(".chip input, .visually-hidden"))
    .map(one => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
    .filter(([, box]) => box.width < 44 || box.height < 44).map(([what]) => what)"""


def make_one(page: Any) -> None:
    page.get_by_label("What should the video show?").fill(PROMPT)
    page.keyboard.press("Enter")
    page.locator(".panel video").wait_for()
    page.locator(".card img").first.wait_for()


def test_on_a_phone_everything_fits_and_can_be_touched(visit: Callable, keep: Callable) -> None:
    page = visit(**PHONE)
    make_one(page)
    page.locator("summary").click()
    page.get_by_label("What should the video show?").fill("unbroken" * 30)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate(SMALL) == []
    keep(page, "phone")
    page.locator(".card-open").first.tap()
    page.get_by_role("dialog").locator("video").wait_for()
    keep(page, "phone-viewer")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("(d => d.scrollWidth <= d.clientWidth)(document.querySelector('dialog[open]'))")


def test_by_keyboard_alone(visit: Callable) -> None:
    page = visit()

    def focused() -> str:
        return page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")

    def tab_to(wanted: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if wanted in focused().split():
                break
        assert wanted in focused().split()
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert page.evaluate("document.activeElement.matches('.chip input')") or width == "3px", wanted

    tab_to("skip")
    page.keyboard.press("Enter")
    assert focused() == "prompt"
    tab_to("example")
    page.keyboard.press("Enter")
    assert page.get_by_label("What should the video show?").input_value() != ""
    assert focused() == "prompt"
    page.keyboard.press("Control+a")
    page.keyboard.type(PROMPT)
    tab_to("generate")
    page.keyboard.press("Control+Enter")
    page.locator(".panel video").wait_for()
    assert PROMPT in page.locator("#live").inner_text()
    tab_to("card-open")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.locator("video").wait_for()
    page.locator("dialog input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert dialog.locator("video").evaluate("video => video.paused")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert focused() == "card-open"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_that_a_checker_of_accessibility_finds(visit: Callable, keep: Callable, scheme: str) -> None:
    checker = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    axe = checker.Axe()
    page = visit(color_scheme=scheme, reduced_motion="reduce")
    make_one(page)
    page.locator("summary").click()
    page.get_by_role("button", name="Compare several").click()
    page.locator("#size").fill("1")
    page.locator("#generate").click()
    page.locator("#size-problem:not(:empty)").wait_for()
    assert violations(axe, page) == []
    keep(page, scheme)
    page.locator(".card-open").first.click()
    page.get_by_role("dialog").locator("video").wait_for()
    assert violations(axe, page) == []


def violations(axe: Any, page: Any) -> list[tuple[str, list[str]]]:
    """Rules of WCAG 2.2 AA and good practice that are broken, and by what."""
    found = axe.run(page).response["violations"]
    return [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]


def test_without_motion_nothing_moves_by_itself(visit: Callable) -> None:
    page = visit(reduced_motion="reduce")
    look = "document.querySelector('#stage canvas').toDataURL()"
    before = page.evaluate(look)
    page.wait_for_timeout(400)
    assert page.evaluate(look) == before
    make_one(page)
    page.wait_for_timeout(300)
    assert page.locator(".panel video").evaluate("video => video.paused && video.currentTime === 0")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('.panel video').currentTime > 0")


def test_pixels_are_enlarged_whole(visit: Callable) -> None:
    page = visit()
    make_one(page)
    frame = page.locator(".panel .frame").bounding_box()
    assert frame["width"] % 16 == 0
    assert frame["height"] == frame["width"] > 300
    assert page.locator(".panel video").evaluate("video => getComputedStyle(video).imageRendering") == "pixelated"
