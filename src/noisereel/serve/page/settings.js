/** What can be asked for, as a plain object, and the same as the end of an address. */

export const FIELDS = ["prompt", "size", "num_frames", "num_inference_steps", "guidance_scale", "seed", "negative_prompt"];

/** `{ models, prompt, ... }` as a fragment; what is empty is left out. */
export function toFragment({ models = [], ...fields }) {
  const query = new URLSearchParams();
  for (const name of FIELDS) if (fields[name]) query.set(name, fields[name]);
  for (const model of models) query.append("model", model);
  return `#${query}`;
}

/** The settings of a fragment, or null where it holds none. */
export function fromFragment(fragment) {
  const query = new URLSearchParams(fragment.replace(/^#/, ""));
  const found = FIELDS.filter((name) => query.has(name)).map((name) => [name, query.get(name)]);
  const models = query.getAll("model");
  return found.length || models.length ? { models, ...Object.fromEntries(found) } : null;
}

/** The settings that make a video again. */
export function ofVideo(video) {
  const given = FIELDS.map((name) => [name, video[name] ?? ""]).map(([name, value]) => [name, String(value)]);
  return { models: [video.model], ...Object.fromEntries(given) };
}

export const link = (settings) => `${location.origin}${location.pathname}${toFragment(settings)}`;

/** A seed for models that are to begin with the same noise. */
export const anySeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0] >>> 1);
