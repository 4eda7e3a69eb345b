/** The page: a form, a stage where what was asked for forms, and a gallery; and what holds them together. */

import * as api from "./api.js";
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { listen } from "./events.js";
import { Gallery } from "./gallery.js";
import * as jobs from "./jobs.js";
import { askForKey } from "./key.js";
import { Live } from "./live.js";
import { can } from "./models.js";
import { ofVideo } from "./settings.js";
import { Stage } from "./stage.js";
import { Viewer } from "./viewer.js";
import { active } from "./words.js";

const LOAD = 10000; // milliseconds in which a second model should have been opened

let models = [];
const modelOf = (video) => models.find((model) => model.id === video.model);
const upscaler = () => models.find((model) => can(model, "upscale"));

/** Ask for videos, one after another, and watch them. */
async function generate(requests) {
  const videos = [];
  for (const fields of requests) videos.push(await jobs.create(fields));
  stage.show(videos);
  byId("stage").scrollIntoView({ block: "nearest" });
}

const does = {
  open: (video) => (active(video) ? watchAgain([video]) : viewer.open(video)),
  compare: (videos) => watchAgain(videos),
  reuse: (video) => {
    composer.settings = ofVideo(video);
    byId("prompt").focus();
  },
  again: (video) => generate([{ ...asked(video), seed: "" }]),
  extend: (video) => generate([{ ...asked(video), num_frames: "", seed: "", kind: "extend", "video[id]": video.id }]),
  factor: () => (upscaler()?.enlarges.find(([time]) => time === 1) ?? [1, 1])[1],
  enlarge: (video) =>
    generate([{ model: upscaler().id, prompt: video.prompt, seed: video.seed, space: does.factor(), kind: "upscale", "video[id]": video.id }]),
};

function watchAgain(videos) {
  stage.show(videos);
  byId("stage").scrollIntoView();
}

/** The fields that a video was asked for with. */
function asked(video) {
  const { models: [model], ...fields } = ofVideo(video);
  return { model, ...fields };
}

async function opened() {
  live.back();
  try {
    await Promise.all([jobs.refresh(), findModels()]);
    if (stage.panels.length === 0) stage.restore();
    gallery.settle();
  } catch (error) {
    live.away(error.message);
  }
}

let looking = 0;

/** The models that are open; asked again, less and less often, for a server opens one after another. */
async function findModels(pause = 500) {
  clearTimeout(looking);
  const before = models.length;
  models = await api.models();
  if (models.length !== before && stage.panels.length) stage.drawAfter(); // one may have come that enlarges
  composer.offer(models.filter((model) => can(model, "generate") || can(model, "image")));
  if (models.length && pause > LOAD) return;
  looking = setTimeout(() => findModels(Math.min(2 * pause, 4 * LOAD)).catch(() => {}), pause);
}

/** Nobody answers: try again. Without a key there is nothing to try until somebody gives one. */
function lost(error) {
  if (error instanceof api.Refused && error.status === 401) return live.wantKey();
  live.away(error instanceof api.Refused ? error.message : api.GONE);
}

api.keysFrom(askForKey);
const live = new Live();
const composer = new Composer(generate);
const stage = new Stage(does, modelOf);
const viewer = new Viewer(does, modelOf);
const gallery = new Gallery(does.open);
addEventListener("hashchange", () => composer.readAddress());
listen({ opened, lost, heard: jobs.heard });
