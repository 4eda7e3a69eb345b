/** The server's API: requests with a key where one is wanted, and errors that are sentences. */

import { sentence } from "./words.js";

const KEY = "noisereel-key";
export const GONE = "The server does not answer. What you wrote is kept; this page goes on when it is back.";

/** What the server refused: a sentence, and the field it is about, where there is one. */
export class Refused extends Error {
  constructor(message, { status = 0, field = null } = {}) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** No server there. */
export class Gone extends Error {
  constructor() {
    super(GONE);
  }
}

let askForKey = async () => null;
let asking = null; // one dialog, however many requests wait for it

/** Who is asked for a key: an async function of whether the last one was wrong. */
export function keysFrom(ask) {
  askForKey = ask;
}

/** A response that is good; asks for a key as often as it takes. Throws Refused or Gone. */
export async function request(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone();
  }
  if (response.ok) return response;
  if (response.status === 401) {
    await newKey(key);
    return request(path, options);
  }
  if ([502, 503, 504].includes(response.status) && !isJson(response)) throw new Gone();
  throw await refusal(response);
}

async function newKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return; // another request has asked meanwhile
  asking ??= askForKey(refused !== null).finally(() => (asking = null));
  const key = await asking;
  if (!key) throw new Refused("This server wants a key.", { status: 401 });
  sessionStorage.setItem(KEY, key);
}

const isJson = (response) => response.headers.get("content-type")?.includes("json");

async function refusal(response) {
  const said = isJson(response) ? await response.json().catch(() => ({})) : {};
  const error = said.error ?? {};
  let message = error.message ?? (typeof said.detail === "string" ? said.detail : `The server answered ${response.status}`);
  const wait = response.headers.get("retry-after");
  if (response.status === 429 && wait) message += ` (try again in ${wait} s)`;
  return new Refused(sentence(message), { status: response.status, field: error.param ?? null });
}

const json = async (path, options) => (await request(path, options)).json();
const video = (id) => `v1/videos/${encodeURIComponent(id)}`;

export const models = async () => (await json("v1/models")).data;
export const get = (id) => json(video(id));
export const cancel = (id) => json(`${video(id)}/cancel`, { method: "POST" });
export const remove = (id) => json(video(id), { method: "DELETE" });

/** A page of videos, newest first, those after the one with this id. */
export function list({ after, limit = 24 } = {}) {
  const query = new URLSearchParams({ limit, order: "desc", ...(after && { after }) });
  return json(`v1/videos?${query}`);
}

/** Ask for a video; a file among the fields is what it begins with. */
export function create(fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined && value !== null && value !== "") form.append(name, value);
  }
  return json("v1/videos", { method: "POST", body: form });
}

const kept = new Map(); // addresses of contents that were fetched: an element cannot send a key

/** An address for an element to show: variant "video", "thumbnail" or "spritesheet", in a format. */
export function address(id, query = {}) {
  const path = `${video(id)}/content?${new URLSearchParams(query)}`;
  if (!kept.has(path)) {
    const fetched = content(id, query).then((blob) => URL.createObjectURL(blob));
    fetched.catch(() => kept.delete(path));
    kept.set(path, fetched);
  }
  return kept.get(path);
}

export const content = async (id, query = {}) =>
  (await request(`${video(id)}/content?${new URLSearchParams(query)}`)).blob();

/** Let go of what was fetched of a video. */
export function forget(id) {
  for (const [path, fetched] of kept) {
    if (!path.startsWith(`${video(id)}/`)) continue;
    kept.delete(path);
    fetched.then(URL.revokeObjectURL, () => {});
  }
}
