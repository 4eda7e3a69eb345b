/** Everything that was made here, newest first; a card plays while it is pointed at or has the focus. */

import * as api from "./api.js";
import { deletion } from "./actions.js";
import { byId, calm, make } from "./dom.js";
import * as jobs from "./jobs.js";
import { keepFitted, size, still } from "./pixels.js";
import { ready, state } from "./words.js";

export class Gallery {
  constructor(open) {
    this.open = open;
    this.cards = new Map(); // id -> card
    this.list = byId("gallery");
    this.more = byId("gallery-more");
    this.more.addEventListener("click", () => this.older());
    jobs.watch((video, what) => this.changed(video, what));
  }

  changed(video, what) {
    if (what === "gone") this.remove(video.id);
    else if (what === "preview") this.cards.get(video.id)?.forming(video.previews.at(-1));
    else this.put(video);
    this.settle();
  }

  put(video) {
    const card = this.cards.get(video.id);
    if (card) return card.draw();
    const made = new Card(video, this.open);
    this.cards.set(video.id, made);
    const next = jobs.all().slice(jobs.all().indexOf(video) + 1).find((one) => this.cards.has(one.id));
    this.list.insertBefore(made.element, next ? this.cards.get(next.id).element : null);
  }

  /** Where the focus was in the card, it goes to the one that takes its place. */
  remove(id) {
    const card = this.cards.get(id);
    if (!card) return;
    const focused = card.element.contains(document.activeElement);
    const beside = card.element.nextElementSibling ?? card.element.previousElementSibling;
    card.remove();
    this.cards.delete(id);
    if (focused) (beside?.querySelector("button") ?? byId("prompt")).focus();
  }

  settle() {
    byId("gallery-empty").hidden = this.cards.size > 0;
    this.more.hidden = !jobs.hasOlder();
  }

  async older() {
    this.more.disabled = true;
    try {
      await jobs.loadOlder();
    } finally {
      this.more.disabled = false;
      this.settle();
    }
  }
}

class Card {
  constructor(video, open) {
    this.video = video;
    this.picture = make("div", { className: "frame" });
    this.line = make("p", { className: "meta" });
    this.problem = make("p", { className: "problem", role: "alert" });
    this.show = make("button", { type: "button", className: "card-open", onclick: () => open(this.video) },
      make("span", { className: "screen" }, this.picture), make("span", { className: "prompt" }, video.prompt));
    this.element = make("li", { className: "card" }, this.show,
      make("div", { className: "card-foot" }, this.line, deletion(video, this.problem)), this.problem);
    this.stopFitting = keepFitted(this.picture, size(video));
    for (const name of ["pointerenter", "focusin"]) this.show.addEventListener(name, () => this.play());
    for (const name of ["pointerleave", "focusout"]) this.show.addEventListener(name, () => this.rest());
    this.draw();
  }

  draw() {
    const { video } = this;
    this.element.dataset.status = video.status;
    this.line.textContent = ready(video) ? [video.model, seeded(video)].filter(Boolean).join(" · ") : state(video);
    if (ready(video) && !this.still) this.loadStill();
  }

  /** What it is believed to become, so far. */
  forming({ image }) {
    this.picture.replaceChildren(still(image));
  }

  async loadStill() {
    this.still = make("img", { alt: "" });
    try {
      this.still.src = await api.address(this.video.id, { variant: "thumbnail" });
      this.picture.replaceChildren(this.still);
      this.problem.textContent = "";
    } catch (error) {
      this.problem.textContent = error.message;
      this.still = null; // tried again when the list is read again
    }
  }

  async play() {
    if (!ready(this.video) || calm()) return;
    this.wanted = true;
    const source = await api.address(this.video.id, { variant: "video", format: "mp4" }).catch(() => null);
    if (!source || !this.wanted) return;
    this.movie ??= make("video", { src: source, muted: true, loop: true, playsInline: true });
    if (!this.movie.isConnected) this.picture.append(this.movie);
    this.movie.play().catch(() => {}); // left again before it began
  }

  rest() {
    if (this.show.matches(":hover, :focus")) return;
    this.wanted = false;
    this.movie?.pause();
    this.movie?.remove();
  }

  remove() {
    this.stopFitting();
    this.element.remove();
  }
}

const seeded = (video) => (video.seed ?? null) !== null && `seed ${video.seed}`;
