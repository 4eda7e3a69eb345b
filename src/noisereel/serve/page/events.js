/** Server-sent events through fetch, because EventSource cannot send a key. */

import { Gone, request } from "./api.js";

const PAUSES = [500, 1000, 2000, 4000]; // milliseconds before each new try

/** Yields `{ name, data }` of a response that is a text/event-stream. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value.replaceAll("\r\n", "\n")).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

function parsed(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  return data.length ? { name, data: JSON.parse(data.join("\n")) } : null;
}

/** Listen for ever: `opened()` when a connection stands, `heard(event)`, and `lost(error)`, which may wait before the next try. */
export async function listen({ opened, lost, heard }) {
  for (let tries = 0; ; tries++) {
    let problem = new Gone();
    try {
      const response = await request("v1/events", { headers: { Accept: "text/event-stream" } });
      tries = 0;
      opened();
      for await (const event of events(response)) heard(event);
    } catch (error) {
      problem = error;
    }
    await lost(problem);
    await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(tries, PAUSES.length - 1)]));
  }
}
