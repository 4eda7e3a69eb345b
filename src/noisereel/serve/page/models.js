/** The models to choose from: one, or several to compare. */

import { button, byId, make } from "./dom.js";

const MOST = 4; // videos beside each other that can still be seen

export class Models {
  constructor(changed) {
    this.all = [];
    this.changed = changed;
    this.comparing = false;
    this.switch = button("Compare several", () => this.compare(!this.comparing), "quiet small compare", { "aria-pressed": "false" });
    byId("model-choices").addEventListener("change", () => this.settle());
  }

  /** What the server has; the choice is kept where it can be. */
  set(models) {
    const before = this.chosen.map((model) => model.id);
    this.all = models;
    byId("generate").disabled = models.length === 0;
    byId("models").hidden = models.length === 0;
    this.draw(before.length ? before : models.slice(0, 1).map((model) => model.id));
  }

  draw(chosen) {
    const type = this.comparing ? "checkbox" : "radio";
    byId("model-choices").replaceChildren(
      ...this.all.map((model) =>
        make("label", { className: "chip" },
          make("input", { type, name: "model", value: model.id, checked: chosen.includes(model.id) }),
          make("span", {}, model.id))),
      ...(this.all.length > 1 ? [this.switch] : []),
    );
    this.switch.setAttribute("aria-pressed", String(this.comparing));
    this.settle();
  }

  get boxes() {
    return [...byId("model-choices").querySelectorAll("input")];
  }

  get chosen() {
    const names = this.boxes.filter((box) => box.checked).map((box) => box.value);
    return this.all.filter((model) => names.includes(model.id));
  }

  /** Several at once, or one. Comparing begins with two, for that is what it is for. */
  compare(on) {
    const names = this.chosen.map((model) => model.id);
    const others = this.all.map((model) => model.id).filter((name) => !names.includes(name));
    this.comparing = on;
    this.draw(on ? [...names, ...others.slice(0, Math.max(0, 2 - names.length))] : names.slice(0, 1));
  }

  /** Choose by name; names that the server does not have are returned. */
  choose(names) {
    const known = names.filter((name) => this.all.some((model) => model.id === name));
    if (known.length) {
      this.comparing = known.length > 1;
      this.draw(known);
    }
    return names.filter((name) => !known.includes(name));
  }

  settle() {
    const full = this.comparing && this.chosen.length >= MOST;
    for (const box of this.boxes) box.disabled = full && !box.checked;
    byId("model-facts").textContent = this.chosen.map((model) => facts(model, this.chosen.length > 1)).join(" ");
    this.changed();
  }

  /** Whether every chosen model can do something. */
  can(what) {
    return this.chosen.length > 0 && this.chosen.every((model) => can(model, what));
  }
}

export const sizeOf = ({ width, height }) => `${width}x${height}`;

export const can = (model, what) => (model?.can ?? []).includes(what);

function facts(model, named) {
  const size = `${model.width}×${model.height}`;
  return `${named ? `${model.id}: ` : ""}${model.frames} frames of ${size}, ${model.steps} steps.`;
}
