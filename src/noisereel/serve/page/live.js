/** What is said while things happen: the connection, the title of the tab, and what a screen reader reads out. */

import { button, byId } from "./dom.js";
import * as jobs from "./jobs.js";
import { active, state } from "./words.js";

export class Live {
  constructor() {
    this.said = new Map(); // id -> the status that was read out
    jobs.watch((video, what) => this.changed(video, what));
  }

  /** Say that the server is away, or what else is the matter with it. */
  away(text) {
    if (byId("connection").textContent !== text) byId("connection").textContent = text;
  }

  back() {
    if (byId("connection").textContent) this.read("The server is back.");
    byId("connection").replaceChildren();
  }

  /** Resolves when somebody wants to give the key after all. */
  wantKey() {
    return new Promise((resolve) => {
      byId("connection").replaceChildren("This server wants a key. ", button("Give it", resolve, "quiet small"));
    });
  }

  changed(video, what) {
    this.title();
    if (what !== "state") return;
    const before = this.said.get(video.id);
    this.said.set(video.id, video.status);
    if (before && before !== video.status) this.read(`${state(video)}: ${video.prompt}`);
  }

  /** How far the video is that is being made, where only the tab is seen. */
  title() {
    const working = jobs.all().filter(active);
    const progress = working.find((video) => video.status === "in_progress")?.progress ?? 0;
    document.title = working.length ? `${Math.round(progress)} % · Noisereel` : "Noisereel";
  }

  read(text) {
    byId("live").textContent = text;
  }
}
