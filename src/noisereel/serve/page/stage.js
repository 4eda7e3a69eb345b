/** What was asked for last, as it forms: one panel, or one for each model that is compared. */

import { attempt, downloads, enlarging } from "./actions.js";
import { byId, make } from "./dom.js";
import * as jobs from "./jobs.js";
import { can } from "./models.js";
import { noise } from "./pixels.js";
import { Panel } from "./panel.js";
import { Player } from "./player.js";
import { active, ready } from "./words.js";

const KEPT = "noisereel-stage"; // what this tab looked at, for after a reload

export class Stage {
  /** `does` has what the buttons do: open, extend, enlarge, again; `modelOf(video)` finds what made it. */
  constructor(does, modelOf) {
    this.does = does;
    this.modelOf = modelOf;
    this.panels = [];
    this.element = byId("stage");
    jobs.watch((video, what) => this.changed(video, what));
    this.empty();
  }

  empty() {
    this.close();
    const canvas = make("canvas", { width: 64, height: 64 });
    this.stopNoise = noise(canvas);
    this.element.replaceChildren(
      make("div", { className: "screen waiting" }, make("div", { className: "frame" }, canvas)),
      make("p", { className: "remark" }, "Every video begins as noise. Here you watch it become what you asked for."));
  }

  /** Show videos beside each other. */
  show(videos) {
    this.close();
    sessionStorage.setItem(KEPT, JSON.stringify(videos.map((video) => video.id)));
    this.player = new Player(videos[0].fps ?? 16);
    const panel = (video) => new Panel(video, { player: this.player, open: this.does.open, named: videos.length > 1 });
    this.panels = videos.map(panel);
    this.after = make("div", { className: "after" });
    this.element.replaceChildren(
      make("h2", { className: "caption" }, videos[0].prompt),
      make("div", { className: "panels" }, this.panels.map((one) => one.element)), this.player.controls, this.after);
    this.drawAfter();
  }

  /** What this tab showed before it was reloaded, as far as it is still there. */
  restore() {
    const ids = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    const videos = ids.map(jobs.find).filter(Boolean);
    const working = jobs.all().filter(active).slice(-1);
    if (videos.length || working.length) this.show(videos.length ? videos : working);
  }

  changed(video, what) {
    const panel = this.panels.find((one) => one.video.id === video.id);
    if (!panel) return;
    if (what === "gone") return this.without(panel);
    if (what === "preview") panel.addStep(video.previews.at(-1));
    else panel.draw();
    if (what === "state") this.drawAfter();
  }

  without(panel) {
    const left = this.panels.filter((one) => one !== panel).map((one) => one.video);
    if (left.length) this.show(left);
    else {
      sessionStorage.removeItem(KEPT);
      this.empty();
    }
  }

  /** What to do with one finished video; those of a comparison are opened one by one. */
  drawAfter() {
    const [{ video }] = this.panels;
    if (this.panels.length > 1 || !ready(video)) return this.after.replaceChildren();
    const problem = make("p", { className: "problem", role: "alert" });
    this.after.replaceChildren(downloads(video), make("div", { className: "row" },
      can(this.modelOf(video), "extend") && attempt("Make it longer", () => this.does.extend(video), problem),
      enlarging(video, this.does, problem),
      video.kind === "generate" && attempt("Another take", () => this.does.again(video), problem)), problem);
  }

  close() {
    this.stopNoise?.();
    this.panels.forEach((panel) => panel.close());
    this.player?.close();
    this.panels = [];
  }
}
