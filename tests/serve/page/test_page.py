"""The page as people use it: what they type is made before their eyes, is there after a reload, and can be taken along."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from serving import serving

import noisereel.serve

pytest.importorskip("fastapi", reason="needs noisereel[serve]")

PROMPT = "a red circle moves to the left"
FORMATS = {
    "MP4": (b"ftyp", 4),
    "WebM": (b"\x1a\x45\xdf\xa3", 0),
    "GIF": (b"GIF89a", 0),
    "WebP": (b"WEBP", 8),
    "APNG": (b"acTL", None),
    "Sprite sheet": (b"\x89PNG", 0),
}

# At one moment: an estimate is shown, the bar has moved, and both the line below it and the tab say how far it is.
FORMING = """() => {
    const panel = document.querySelector(".panel[data-status=in_progress]");
    return panel?.querySelector(".frame img")?.src.startsWith("data:image/webp;base64,")
        && panel.querySelector("progress").value > 0
        && panel.querySelector(".state").textContent.includes(" %") && document.title.includes(" %");
}"""


def ask(page: Any, prompt: str = PROMPT, **settings: object) -> None:
    """Fill in the form and send it."""
    page.get_by_label("What should the video show?").fill(prompt)
    if settings and not page.locator("#more").get_attribute("open"):
        page.locator("#more").evaluate("more => more.open = true")
    for name, value in settings.items():
        page.locator(f"#{name}").fill(str(value))
    page.locator("#generate").click()


def finished(page: Any, panel: int = 0) -> Any:
    """The video of a panel, once it can be played."""
    video = page.locator(".panel").nth(panel).locator("video")
    video.wait_for()
    page.wait_for_function("video => video.readyState >= 2", arg=video.element_handle())
    return video


def newest(site: Any) -> dict[str, Any]:
    return site.http.get("/v1/videos", params={"limit": 1}).json()["data"][0]


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = Path(noisereel.serve.__path__[0]) / "page"
    texts = {path.name: path.read_text() for path in page.iterdir()}
    for name, text in texts.items():
        named = set(re.findall(r'(?:from "\./|(?:href|src)="static/)([\w.]+)', text))
        assert named <= texts.keys(), name
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], name
        assert len(text.splitlines()) < 300, name


def test_a_sentence_becomes_a_video_that_is_there_after_a_reload(visit: Callable, site: Any, keep: Callable) -> None:
    page = visit()
    keep(page, "begin")
    page.get_by_label("What should the video show?").fill("two small stars fall")
    page.keyboard.press("Enter")
    video = finished(page)
    page.wait_for_function("video => video.currentTime > 0.1", arg=video.element_handle())
    keep(page, "finished")
    made = newest(site)
    assert made["prompt"] == "two small stars fall"
    page.reload()
    page.locator(".card img").first.wait_for()
    assert page.locator(".card .prompt").first.inner_text() == made["prompt"]
    assert f"seed {made['seed']}" in page.locator(".card .meta").first.inner_text()
    finished(page)  # the stage of this tab is as it was


def test_it_is_seen_while_it_forms(visit: Callable, site: Any, keep: Callable) -> None:
    page = visit()
    ask(page, num_inference_steps=500)
    page.wait_for_function(FORMING)
    keep(page, "forming")
    finished(page)
    page.locator(".step").first.click()
    assert page.locator(".panel .frame img").get_attribute("src").startswith("data:image/webp")
    page.locator(".step").first.click()
    assert page.locator(".panel .frame video").is_visible()
    assert page.title() == "Noisereel"


def test_cancelled_at_once(visit: Callable, site: Any) -> None:
    page = visit()
    ask(page, num_inference_steps=1000, num_frames=40)  # minutes of work: on a busy machine the page may be late
    page.locator(".panel progress[value]").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".panel .state", has_text="Cancelled").wait_for()
    made = newest(site)
    assert (made["status"], made["error"]["code"]) == ("failed", "cancelled")


def test_every_format_is_downloaded(visit: Callable) -> None:
    page = visit()
    ask(page)
    finished(page)
    for name, (mark, place) in FORMATS.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download as {name}").click()
        content = Path(download.value.path()).read_bytes()
        assert mark in content if place is None else content[place : place + len(mark)] == mark, name
        assert download.value.suggested_filename.startswith("a-red-circle-moves-to-the-left.")


def test_two_models_side_by_side_in_step(visit: Callable, site: Any, keep: Callable) -> None:
    page = visit()
    page.get_by_role("button", name="Compare several").click()
    ask(page)
    videos = [finished(page, panel) for panel in (0, 1)]
    ours = site.http.get("/v1/videos", params={"limit": 2}).json()["data"]
    assert {video["model"] for video in ours} == {"tiny", "other"}
    assert ours[0]["seed"] == ours[1]["seed"]
    page.wait_for_function("() => document.querySelector('.panel video').currentTime > 0.1")
    times = page.locator(".panel video").evaluate_all("videos => videos.map(video => video.currentTime)")
    assert abs(times[0] - times[1]) < 1 / ours[0]["fps"]
    keep(page, "compare")
    page.locator("#stage input[type=range]").fill("2")
    for video in videos:
        assert video.evaluate("video => video.paused")
        assert int(video.evaluate("video => video.currentTime") * ours[0]["fps"]) == 2


def test_a_picture_that_is_dropped_is_the_first_frame(visit: Callable, site: Any, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 120)).save(stream, "PNG")
    page = visit()
    dropped = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "pink.png", { type: "image/png" }));
            return transfer;
        }""",
        list(stream.getvalue()),
    )
    page.dispatch_event("#composer", "dragover", {"dataTransfer": dropped})
    assert "dropping" in page.locator("#composer").get_attribute("class")
    page.dispatch_event("#composer", "drop", {"dataTransfer": dropped})
    page.get_by_text("pink.png").wait_for()
    ask(page)
    finished(page)
    made = newest(site)
    assert made["kind"] == "image"
    sheet = site.http.get(f"/v1/videos/{made['id']}/content", params={"variant": "spritesheet"}).content
    assert Image.open(io.BytesIO(sheet)).convert("RGB").getpixel((8, 8)) == pytest.approx((200, 30, 120), abs=3)
    page.get_by_role("button", name="Remove").click()
    assert page.get_by_text("pink.png").count() == 0


def test_what_is_no_picture_is_said_beside_it(visit: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    page = visit()
    page.locator("#picture-file").set_input_files(tmp_path / "notes.txt")
    assert "not a picture" in page.locator("#input_reference-problem").inner_text()
    (tmp_path / "broken.png").write_bytes(b"no picture either")
    page.locator("#picture-file").set_input_files(tmp_path / "broken.png")
    ask(page)
    page.locator("#input_reference-problem", has_text="PNG").wait_for()


def test_a_finished_video_is_made_longer(visit: Callable, site: Any) -> None:
    page = visit()
    ask(page)
    finished(page)
    before = newest(site)
    page.get_by_role("button", name="Make it longer").click()
    page.wait_for_function("id => JSON.parse(sessionStorage.getItem('noisereel-stage'))[0] !== id", arg=before["id"])
    finished(page)
    after = newest(site)
    assert after["kind"] == "extend"
    assert after["num_frames"] > before["num_frames"]


def test_a_finished_video_is_enlarged_and_compared_with_itself(visit: Callable, site: Any, keep: Callable) -> None:
    page = visit()
    assert page.get_by_role("radio", name="larger").count() == 0  # it makes no videos
    ask(page)
    finished(page)
    small = newest(site)
    page.get_by_role("button", name="Enlarge 2×").click()
    page.wait_for_function("id => JSON.parse(sessionStorage.getItem('noisereel-stage'))[0] !== id", arg=small["id"])
    video = finished(page)
    large = newest(site)
    assert (large["kind"], large["model"], large["prompt"]) == ("upscale", "larger", small["prompt"])
    assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [32, 32]
    assert page.get_by_role("button", name="Another take").count() == 0
    page.locator(".panel").get_by_role("button", name="Details").click()
    page.get_by_role("dialog").get_by_role("button", name="Side by side").click()
    finished(page, 1)
    keep(page, "enlarged")


def test_settings_travel_in_a_link(visit: Callable, keep: Callable) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    settings = {"size": "16x16", "num_frames": "3", "num_inference_steps": "7", "guidance_scale": "1.5", "seed": "11"}
    page.get_by_label("What should the video show?").fill("a red star & a 50% blue one?")
    page.locator("summary").click()
    for name, value in {**settings, "negative_prompt": "two"}.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_role("radio", name="other").check()
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    there = visit(fragment=link[link.index("#") :])
    assert there.get_by_label("What should the video show?").input_value() == "a red star & a 50% blue one?"
    assert {name: there.locator(f"#{name}").input_value() for name in settings} == settings
    assert there.locator("#negative_prompt").input_value() == "two"
    assert there.get_by_role("radio", name="other").is_checked()
    keep(there, "settings")


def test_mistakes_are_said_where_they_are(visit: Callable) -> None:
    page = visit()
    page.locator("#generate").click()
    assert "example" in page.locator("#prompt-problem").inner_text()
    assert page.evaluate("document.activeElement.id") == "prompt"
    ask(page, size="17x17")
    page.locator("#size-problem", has_text="multiple of").wait_for()
    assert page.locator("#size").get_attribute("aria-invalid") == "true"
    page.locator("#size").fill("16 x 16")
    assert page.locator("#size-problem").inner_text() == ""
    page.locator("#num_frames").fill("9999")
    page.locator("#generate").click()
    page.locator("#num_frames-problem", has_text="too many").wait_for()


def test_words_that_the_model_never_saw_are_named(visit: Callable) -> None:
    page = visit()
    page.get_by_label("What should the video show?").fill("a red zebra moves")
    page.locator("#prompt-words", has_text="“zebra”").wait_for()
    assert "red" not in page.locator("#prompt-words").inner_text()
    page.get_by_label("What should the video show?").fill("a red circle moves")
    page.wait_for_function("() => document.getElementById('prompt-words').textContent === ''")


def test_the_viewer_knows_everything_and_deletes(visit: Callable, site: Any, keep: Callable) -> None:
    page = visit()
    ask(page, seed=1234)
    finished(page)
    made = newest(site)
    page.locator(".card-open").first.click()
    viewer = page.get_by_role("dialog")
    viewer.locator("video").wait_for()
    facts = viewer.locator("dl").inner_text()
    assert all(str(made[name]) in facts for name in ("model", "seed", "size", "num_inference_steps"))
    keep(page, "viewer")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    card = page.locator(".card").first
    card.hover()
    card.get_by_role("button", name="Delete").click()
    assert site.http.get(f"/v1/videos/{made['id']}").status_code == 200  # once is not enough
    card.get_by_role("button", name="Really delete?").click()
    page.wait_for_function("() => !document.querySelector('.panel')")  # the stage shows it no longer either
    assert site.http.get(f"/v1/videos/{made['id']}").status_code == 404


def test_a_card_plays_while_it_is_pointed_at(visit: Callable) -> None:
    page = visit()
    ask(page)
    finished(page)
    page.mouse.move(0, 0)
    assert page.locator(".card video").count() == 0
    page.locator(".card-open").first.hover()
    page.wait_for_function("() => document.querySelector('.card video')?.currentTime > 0")
    page.mouse.move(0, 0)
    page.locator(".card video").first.wait_for(state="detached")


def test_a_key_is_asked_for_and_a_lost_server_is_waited_for(
    visit: Callable, tiny_folder: Path, tmp_path: Path, keep: Callable
) -> None:
    key = "correct-horse-battery"
    (tmp_path / "keys").write_text(f"somebody {key}\n")
    options = ["--api-key-file", tmp_path / "keys"]
    with serving(tiny_folder, tmp_path / "data", *options) as running:
        page = visit(running.address, ready=False)
        for typed in ("a-wrong-key-of-some-length", key):
            page.get_by_label("Key", exact=True).fill(typed)
            page.keyboard.press("Enter")
            if typed != key:
                page.get_by_text("That key was not accepted.").wait_for()
                keep(page, "key")
        page.locator("label.chip").first.wait_for()
        ask(page)
        finished(page)  # its address is of bytes that were fetched with the key
        assert json.loads(page.evaluate("JSON.stringify(Object.keys(localStorage))")) == []
        running.kill()
        page.locator("#connection", has_text="The server does not answer.").wait_for()
        keep(page, "gone")
        ask(page)
        page.locator("#form-problem", has_text="does not answer").wait_for()
        port = running.address.rpartition(":")[2]
    with serving(tiny_folder, tmp_path / "data", *options, "--port", port):
        page.locator("#connection:empty").wait_for(state="attached")
        ask(page)
        finished(page)
        assert page.locator(".card").count() == 2
