/** One video from noise to its end: what it will look like so far, how far it is, and then the video. */

import * as api from "./api.js";
import { cancelling } from "./actions.js";
import { button, calm, make } from "./dom.js";
import { MOST, keepFitted, noise, size, still } from "./pixels.js";
import { active, cancelled, ready, state } from "./words.js";

export class Panel {
  /** `open(video)` tells all of it; `player` plays the video with those of the panels beside it. */
  constructor(video, { player, open, named }) {
    this.video = video;
    this.player = player;
    this.own = size(video);
    this.problem = make("p", { className: "problem", role: "alert" });
    this.line = make("p", { className: "state" });
    this.bar = make("progress", { max: 100, "aria-label": `Progress${named ? ` of ${video.model}` : ""}` });
    this.cancel = cancelling(video, this.problem);
    this.open = button("Details", () => open(this.video), "quiet small");
    this.strip = make("div", { className: "strip", role: "group", "aria-label": "How it formed, step by step" });
    this.picture = make("div", { className: "frame" });
    this.screen = make("div", { className: "screen" }, this.picture);
    this.element = make("article", { className: "panel" },
      named && make("h3", {}, video.model), this.screen, this.bar,
      make("div", { className: "under" }, this.line, this.cancel, this.open), this.problem, this.strip);
    this.stopFitting = keepFitted(this.picture, this.own, MOST);
    this.waitInNoise();
    video.previews.forEach((preview) => this.addStep(preview));
    this.draw();
  }

  waitInNoise() {
    const canvas = make("canvas", { width: Math.min(this.own.width, 128), height: Math.min(this.own.height, 128) });
    this.stopNoise = noise(canvas);
    this.show(canvas);
  }

  show(element) {
    this.picture.replaceChildren(element);
  }

  /** The video object has changed. */
  draw() {
    const { video } = this;
    this.line.textContent = state(video);
    this.line.classList.toggle("bad", video.status === "failed" && !cancelled(video));
    this.bar.hidden = !active(video);
    if (video.status === "queued") this.bar.removeAttribute("value");
    else this.bar.value = video.progress ?? 0;
    this.cancel.hidden = !active(video);
    this.open.hidden = !ready(video);
    this.element.dataset.status = video.status;
    if (!active(video)) this.end();
  }

  /** A moving picture of what it will be, as believed when so much was done; a still of it goes into the strip. */
  addStep({ progress, image }) {
    this.stopNoise();
    const label = `At ${progress} %`;
    const pressed = button("", () => this.revisit(pressed, image, label), "step", { "aria-label": label, title: label });
    pressed.append(still(image));
    this.strip.append(pressed);
    this.strip.scrollLeft = this.strip.scrollWidth;
    if (!this.ended) this.show(this.estimate(image, label));
  }

  estimate(image, label) {
    return calm() ? still(image, label) : make("img", { src: image, alt: label });
  }

  /** Look again at what it was; pressed once more, the video is back. */
  revisit(pressed, image, label) {
    if (!this.movie) return;
    const back = pressed.getAttribute("aria-pressed") === "true";
    for (const one of this.strip.children) one.setAttribute("aria-pressed", String(one === pressed && !back));
    this.show(back ? this.movie : this.estimate(image, label));
    if (back) this.player.restart();
  }

  async end() {
    if (this.ended) return;
    this.ended = true;
    this.stopNoise();
    if (!ready(this.video)) {
      this.picture.classList.add("stopped");
      return;
    }
    try {
      this.movie = this.player.add(await api.address(this.video.id, { variant: "video", format: "mp4" }));
      this.movie.setAttribute("aria-label", this.video.prompt);
      this.show(this.movie);
    } catch (error) {
      this.problem.textContent = error.message;
    }
  }

  close() {
    this.stopNoise();
    this.stopFitting();
  }
}
