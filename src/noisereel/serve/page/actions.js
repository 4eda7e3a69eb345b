/** What can be done with a finished video, wherever it is shown. */

import * as api from "./api.js";
import { button, make } from "./dom.js";
import * as jobs from "./jobs.js";
import { fileName } from "./words.js";

const DOWNLOADS = [
  ["MP4", "mp4", { variant: "video", format: "mp4" }],
  ["WebM", "webm", { variant: "video", format: "webm" }],
  ["GIF", "gif", { variant: "video", format: "gif" }],
  ["WebP", "webp", { variant: "video", format: "webp" }],
  ["APNG", "apng", { variant: "video", format: "apng" }],
  ["Sprite sheet", "png", { variant: "spritesheet", format: "png" }],
];
const SURE = 4000; // milliseconds in which a second press deletes

/** A row of formats; what goes wrong is said below it. */
export function downloads(video) {
  const problem = make("p", { className: "problem", role: "alert" });
  const buttons = DOWNLOADS.map(([name, ending, query]) =>
    attempt(name, async () => save(await api.content(video.id, query), fileName(video.prompt, ending)), problem,
      { "aria-label": `Download as ${name}` }));
  return make("div", { className: "downloads" },
    make("span", { className: "row-label", "aria-hidden": "true" }, "Download"),
    make("div", { className: "row", role: "group", "aria-label": "Download" }, buttons), problem);
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000); // the browser reads it after the click
}

/** A button for what takes a moment and may be refused, which is said in `problem`. */
export function attempt(text, act, problem, properties = {}) {
  return button(text, async (event) => {
    const pressed = event.currentTarget;
    if (pressed.getAttribute("aria-busy")) return;
    pressed.setAttribute("aria-busy", "true");
    problem.textContent = "";
    try {
      await act();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      pressed.removeAttribute("aria-busy");
    }
  }, "quiet small", properties);
}

/** A button that has a finished video made larger, where a model of the server does that. */
export function enlarging(video, does, problem) {
  const factor = does.factor();
  return factor > 1 && attempt(`Enlarge ${factor}×`, () => does.enlarge(video), problem);
}

/** A button that deletes when it is pressed twice. */
export function deletion(video, problem) {
  let timer = 0;
  const calm = () => { timer = 0; pressed.textContent = "Delete"; pressed.classList.remove("sure"); };
  const pressed = button("Delete", async () => {
    if (!timer) {
      pressed.textContent = "Really delete?";
      pressed.classList.add("sure");
      timer = setTimeout(calm, SURE);
      return;
    }
    clearTimeout(timer);
    calm();
    try {
      await jobs.remove(video.id);
    } catch (error) {
      problem.textContent = error.message;
    }
  }, "quiet small danger", { "aria-label": `Delete: ${video.prompt}` });
  pressed.removeAttribute("aria-label"); // its own words change, and are what is read
  return pressed;
}

/** A button that stops a video that is waited for. */
export function cancelling(video, problem) {
  return button("Cancel", async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      await jobs.cancel(video.id);
    } catch (error) {
      problem.textContent = error.message;
      pressed.disabled = false;
    }
  }, "quiet small");
}
