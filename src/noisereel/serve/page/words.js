/** What the page says about times, places in the queue and states. */

/** A length of time, as precise as anyone wants: "3 s", "2 min", "1 h 5 min". */
export function duration(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** Where a video is between being asked for and being there, in one line. */
export function state(video) {
  if (video.status === "queued") return waiting(video);
  if (video.status === "in_progress") return working(video);
  if (video.expired) return "Its files were removed to make room.";
  if (video.status === "completed") return finished(video);
  if (cancelled(video)) return "Cancelled";
  return video.error?.message ? sentence(video.error.message) : "It could not be made.";
}

function waiting({ queue_position: place, eta_seconds: left }) {
  const before = place > 1 ? `, ${place - 1} before it` : "";
  return `In the queue${before}${left > 0 ? `, about ${duration(left)}` : ""}`;
}

function working({ progress, eta_seconds: left }) {
  const done = `${Math.round(progress ?? 0)} %`;
  return left > 0 ? `${done}, about ${duration(left)} left` : done;
}

function finished({ created_at: asked, started_at: started, completed_at: done }) {
  const took = done - (started ?? asked);
  return took >= 1 ? `Made in ${duration(took)}` : "Made";
}

/** OpenAI's API knows four states: what was cancelled has failed, with this code. */
export const cancelled = (video) => video.error?.code === "cancelled";

/** Whether there is something to play. */
export const ready = (video) => video.status === "completed" && !video.expired;

export const active = (video) => video.status === "queued" || video.status === "in_progress";

/** An upper-case beginning and a full stop, for messages that are written to be joined to others. */
export function sentence(text) {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

/** Words in quotes, joined as one says them: "a", "b" and "c". */
export function listed(words) {
  const quoted = words.map((word) => `“${word}”`);
  return quoted.length < 2 ? quoted.join("") : `${quoted.slice(0, -1).join(", ")} and ${quoted.at(-1)}`;
}

/** A file name made of a prompt. */
export function fileName(prompt, ending) {
  const slug = prompt.toLowerCase().replace(/[^\p{Letter}\p{Number}]+/gu, "-").slice(0, 60).replace(/^-+|-+$/g, "");
  return `${slug || "video"}.${ending}`;
}

export const when = (seconds) =>
  new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
