/** The form: what to make, checked where it is written. */

import { Refused } from "./api.js";
import { button, byId } from "./dom.js";
import { Models, sizeOf } from "./models.js";
import { Picture } from "./picture.js";
import { FIELDS, anySeed, fromFragment, link } from "./settings.js";
import { listed } from "./words.js";

const SHOWN = 4; // examples at a time

export class Composer {
  /** `generate(requests)` is given one set of fields for each model. */
  constructor(generate) {
    this.generate = generate;
    this.form = byId("composer");
    this.picture = new Picture(() => {});
    this.models = new Models(() => this.fitModels());
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.form.addEventListener("input", (event) => this.edited(event.target));
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    document.addEventListener("keydown", (event) => {
      const here = event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]");
      if (here && event.target !== byId("prompt")) this.submit();
    });
    byId("share").addEventListener("click", () => this.share());
    byId("gallery-first").addEventListener("click", () => this.tryExample());
  }

  get settings() {
    const fields = Object.fromEntries(FIELDS.map((name) => [name, byId(name).value.trim()]));
    return { models: this.models.chosen.map((model) => model.id), ...fields };
  }

  /** Fill in settings; what they do not name becomes empty. */
  set settings(settings) {
    for (const name of FIELDS) byId(name).value = settings[name] ?? "";
    const missing = this.models.choose(settings.models ?? []);
    this.say("model", missing.length ? `This server has no model ${listed(missing)}.` : "");
    if (FIELDS.some((name) => name !== "prompt" && settings[name])) byId("more").open = true;
    this.tellWords();
  }

  /** What the server can make; the first time, what the address asks for is filled in. */
  offer(models) {
    const same = (one, other) => one.id === other?.id;
    const before = this.models.all;
    if (before.length === models.length && before.every((model, place) => same(model, models[place]))) return;
    this.models.set(models);
    if (before.length === 0) this.readAddress();
  }

  readAddress() {
    const asked = fromFragment(location.hash);
    if (asked) this.settings = asked;
  }

  /** The placeholders say what an empty field means. */
  fitModels() {
    const chosen = this.models.chosen;
    const own = (name) => [...new Set(chosen.map((model) => model[name]).filter((value) => value !== null))].join(" or ");
    byId("size").placeholder = [...new Set(chosen.map(sizeOf))].join(" or ");
    byId("num_frames").placeholder = own("frames");
    byId("num_inference_steps").placeholder = own("steps");
    byId("guidance_scale").placeholder = own("guidance");
    this.picture.offer(this.models.can("image"));
    byId("generate").textContent = chosen.length > 1 ? `Generate ${chosen.length}` : "Generate";
    this.tellWords();
    this.showExamples();
  }

  showExamples() {
    const examples = [...new Set(this.models.chosen.flatMap((model) => model.examples ?? []))];
    const shown = examples.slice(0, SHOWN).map((text) => button(text, () => this.write(text), "example"));
    byId("examples").replaceChildren(...shown);
    byId("gallery-first").disabled = examples.length === 0;
  }

  write(text) {
    byId("prompt").value = text;
    this.edited(byId("prompt"));
    byId("prompt").focus();
  }

  tryExample() {
    const [first] = this.models.chosen.flatMap((model) => model.examples ?? []);
    this.write(first);
    this.submit();
  }

  edited(field) {
    if (!field.id) return;
    this.say(field.id, "");
    this.say("form", "");
    clearTimeout(this.pause);
    if (field.id === "prompt") this.pause = setTimeout(() => this.tellWords(), 500); // a word is not judged half written
  }

  /** Words that a chosen model has never seen, said while one writes. */
  tellWords() {
    const words = byId("prompt").value.toLowerCase().match(/[\p{Letter}\p{Number}']+/gu) ?? [];
    const unknown = new Set();
    for (const { words: known } of this.models.chosen) {
      if (!known?.length) continue;
      const vocabulary = new Set(known);
      words.filter((word) => !vocabulary.has(word)).forEach((word) => unknown.add(word));
    }
    byId("prompt-words").textContent = unknown.size ? `The model never saw ${listed([...unknown])}, and will guess.` : "";
  }

  submit() {
    this.clearProblems();
    const requests = this.requests();
    if (requests) this.attempt(requests);
  }

  /** Ask for videos, once at a time; what is wrong with it is said in the form. */
  async attempt(requests) {
    if (this.busy) return;
    this.busy = true;
    byId("generate").setAttribute("aria-busy", "true");
    try {
      await this.generate(requests);
    } catch (error) {
      this.refused(error);
    } finally {
      this.busy = false;
      byId("generate").removeAttribute("aria-busy");
    }
  }

  /** The fields for each chosen model, or null where something is missing, which is said beside it. */
  requests() {
    const { models, prompt, ...fields } = this.settings;
    if (!prompt) return this.wrong("prompt", "Write what the video should show, or choose an example.");
    if (models.length === 0) return this.wrong("model", "Choose a model.");
    if (fields.size) fields.size = fields.size.replace(/\s*[x×*,]\s*/i, "x");
    if (models.length > 1) fields.seed ||= anySeed(); // compared from the same noise
    if (this.picture.file) fields.input_reference = this.picture.file;
    return models.map((model) => ({ model, prompt, ...fields }));
  }

  wrong(name, text) {
    this.say(name, text);
    byId(name)?.focus();
    return null;
  }

  /** An error beside the field it is about, or below the button. */
  refused(error) {
    const name = error instanceof Refused && byId(`${error.field}-problem`) ? error.field : "form";
    this.say(name, error.message);
    if (byId(name)?.closest("details")) byId("more").open = true;
    byId(name)?.focus();
  }

  say(name, text) {
    const place = byId(`${name}-problem`);
    if (!place) return;
    place.textContent = text;
    if (text) byId(name)?.setAttribute("aria-invalid", "true");
    else byId(name)?.removeAttribute("aria-invalid");
  }

  clearProblems() {
    for (const name of [...FIELDS, "model", "input_reference", "form"]) this.say(name, "");
  }

  async share() {
    const address = link(this.settings);
    history.replaceState(null, "", address);
    const copied = await navigator.clipboard?.writeText(address).then(() => true, () => false);
    byId("share").textContent = copied ? "Copied" : "It is in the address bar";
    setTimeout(() => (byId("share").textContent = "Copy link"), 2500);
  }
}
