/** A picture that the video begins with: chosen, dropped anywhere on the form, or pasted. */

import { button, byId, make } from "./dom.js";

export class Picture {
  constructor(changed) {
    this.file = null;
    this.changed = changed;
    const input = byId("picture-file");
    byId("picture-choose").addEventListener("click", () => input.click());
    input.addEventListener("change", () => this.take(input.files));
    this.acceptDrops(byId("composer"));
    byId("prompt").addEventListener("paste", (event) => {
      if (this.offered && event.clipboardData.files.length) this.take(event.clipboardData.files);
    });
  }

  /** Whether the chosen models can begin with one. */
  offer(offered) {
    this.offered = offered;
    byId("picture").hidden = !offered;
    if (!offered) this.clear();
  }

  acceptDrops(zone) {
    const mark = (on) => zone.classList.toggle("dropping", on);
    zone.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = this.offered ? "copy" : "none";
      mark(this.offered);
    });
    zone.addEventListener("dragleave", (event) => zone.contains(event.relatedTarget) || mark(false));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(false);
      if (this.offered) this.take(event.dataTransfer.files);
    });
  }

  take(files) {
    const file = [...files].find((one) => one.type.startsWith("image/"));
    if (files.length && !file) this.problem("That is not a picture: a PNG, JPEG, WebP or GIF would do.");
    if (!file) return;
    this.problem("");
    this.file = file;
    this.draw();
    this.changed();
  }

  clear() {
    this.file = null;
    byId("picture-file").value = "";
    this.problem("");
    this.draw();
  }

  draw() {
    const chosen = byId("picture-chosen");
    chosen.querySelector("img")?.src && URL.revokeObjectURL(chosen.querySelector("img").src);
    chosen.hidden = !this.file;
    chosen.replaceChildren();
    if (!this.file) return;
    chosen.append(
      make("img", { src: URL.createObjectURL(this.file), alt: "" }),
      make("span", {}, this.file.name || "a picture"),
      button("Remove", () => { this.clear(); byId("picture-choose").focus(); }, "quiet small"),
    );
  }

  problem(text) {
    byId("input_reference-problem").textContent = text;
  }
}
