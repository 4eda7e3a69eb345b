/** One video enlarged, with all that is known of it and all that can be done with it. */

import * as api from "./api.js";
import { attempt, deletion, downloads, enlarging } from "./actions.js";
import { button, byId, make } from "./dom.js";
import * as jobs from "./jobs.js";
import { can } from "./models.js";
import { MOST, keepFitted, size } from "./pixels.js";
import { Player } from "./player.js";
import { link, ofVideo } from "./settings.js";
import { ready, state, when } from "./words.js";

export class Viewer {
  /** `does` has what the buttons do: extend, enlarge, reuse, compare; `modelOf(video)` finds what made it. */
  constructor(does, modelOf) {
    this.does = does;
    this.modelOf = modelOf;
    this.dialog = byId("viewer");
    this.dialog.addEventListener("close", () => this.player?.close());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => this.player?.key(event));
    jobs.watch((video, what) => what === "gone" && video === this.video && this.dialog.close());
  }

  async open(video) {
    this.video = video;
    this.player = new Player(video.fps ?? 16);
    const picture = make("div", { className: "frame" });
    const problem = make("p", { className: "problem", role: "alert" });
    this.dialog.replaceChildren(
      make("div", { className: "viewer-screen" }, make("div", { className: "screen" }, picture), this.player.controls),
      make("div", { className: "viewer-side" },
        make("h2", { id: "viewer-title", className: "caption" }, video.prompt),
        facts(video), ready(video) ? downloads(video) : make("p", { className: "state bad" }, state(video)),
        make("div", { className: "row" }, this.buttons(video, problem)), problem),
      button("Close", () => this.dialog.close(), "quiet small close"));
    this.dialog.showModal();
    keepFitted(picture, size(video), MOST);
    if (ready(video)) await this.load(picture, problem);
  }

  async load(picture, problem) {
    try {
      const movie = this.player.add(await api.address(this.video.id, { variant: "video", format: "mp4" }));
      movie.setAttribute("aria-label", this.video.prompt);
      picture.replaceChildren(movie);
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  buttons(video, problem) {
    const then = (act) => async () => { await act(); this.dialog.close(); };
    const others = jobs.siblings(video);
    const done = ready(video);
    const alone = video.kind !== "upscale"; // settings that mean something without the clip they were for
    return [
      alone && attempt("Use these settings", then(() => this.does.reuse(video)), problem),
      done && can(this.modelOf(video), "extend") && attempt("Make it longer", then(() => this.does.extend(video)), problem),
      done && enlarging(video, { ...this.does, enlarge: then(() => this.does.enlarge(video)) }, problem),
      done && others.length > 0 && attempt("Side by side", then(() => this.does.compare([video, ...others])), problem),
      alone && button("Copy link", (event) => copy(event.currentTarget, link(ofVideo(video))), "quiet small"),
      deletion(video, problem),
    ];
  }
}

async function copy(pressed, text) {
  const copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  pressed.textContent = copied ? "Copied" : "Not allowed here";
  setTimeout(() => (pressed.textContent = "Copy link"), 2500);
}

function facts(video) {
  const rows = [
    ["Model", video.model],
    ["Seed", video.seed],
    ["Size", video.size],
    ["Frames", video.num_frames && `${video.num_frames} at ${video.fps} a second`],
    ["Steps", video.num_inference_steps],
    ["Guidance", video.guidance_scale],
    ["Away from", video.negative_prompt],
    ["Asked for", when(video.created_at)],
    ["Kept until", video.expires_at && when(video.expires_at)],
  ];
  const said = rows.filter(([, value]) => (value ?? "") !== "");
  return make("dl", { className: "facts" }, said.map(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}
