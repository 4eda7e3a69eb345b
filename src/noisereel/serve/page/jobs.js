/** The videos of the server, as far as this page knows them; whoever shows one is told when it changes. */

import * as api from "./api.js";
import { active, ready } from "./words.js";

const videos = new Map(); // id -> video object, with `preview` and the step it is at
const listeners = new Set();
let older = true; // whether the server has more than was loaded
let last = null; // the oldest that was loaded

/** Call `changed(video, what)` from now on; what is "state", "progress", "preview" or "gone". */
export function watch(changed) {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

const tell = (video, what) => listeners.forEach((changed) => changed(video, what));

export const find = (id) => videos.get(id);
export const hasOlder = () => older;

/** Newest first. */
export const all = () => [...videos.values()].sort((a, b) => b.created_at - a.created_at || (b.id > a.id ? 1 : -1));

/** Videos with the same prompt and seed from other models, made to be compared. */
export const siblings = (video) =>
  all().filter((other) => other.prompt === video.prompt && other.seed === video.seed && other.model !== video.model
    && ready(other));

function put(video, what = "state") {
  const known = videos.get(video.id) ?? { previews: [] };
  const merged = Object.assign(known, video);
  videos.set(video.id, merged);
  tell(merged, what);
  return merged;
}

function drop(id) {
  const video = videos.get(id);
  if (!video) return;
  videos.delete(id);
  api.forget(id);
  tell(video, "gone");
}

/** The newest page; what the server no longer has is dropped. */
export async function refresh() {
  const page = await api.list();
  const there = new Set(page.data.map((video) => video.id));
  const oldest = page.has_more ? page.data.at(-1).created_at : -1;
  for (const video of all()) if (!there.has(video.id) && video.created_at > oldest) drop(video.id);
  page.data.forEach((video) => put(video));
  if (last === null) noteEnd(page);
}

export async function loadOlder() {
  const page = await api.list({ after: last });
  page.data.forEach((video) => put(video));
  noteEnd(page);
}

function noteEnd(page) {
  older = page.has_more;
  last = page.data.at(-1)?.id ?? null;
}

/** Its events may be here before the answer is, and are newer then. */
export async function create(fields) {
  const video = await api.create(fields);
  return videos.get(video.id) ?? put(video);
}

export const cancel = async (id) => put(await api.cancel(id));

export async function remove(id) {
  await api.remove(id);
  drop(id);
}

/** Take in an event of the server. */
export async function heard({ name, data }) {
  if (name === "preview") preview(data);
  else if (name === "progress" && videos.has(data.id)) put(data, "progress");
  else if (name === "state") await changed(data);
}

function preview({ id, image }) {
  const video = videos.get(id);
  if (!video) return;
  video.previews.push({ progress: video.progress, image });
  tell(video, "preview");
}

/** One job moved, and those that wait behind it have moved up. */
async function changed(data) {
  const video = put(data);
  if (active(data)) return;
  video.previews = []; // whoever showed them has them
  const waiting = all().filter(({ status }) => status === "queued");
  for (const { id } of waiting) await api.get(id).then((moved) => put(moved), () => {}); // it may be gone
}
