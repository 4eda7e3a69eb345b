/** Asks for the server's key, once, and again where it was wrong. */

import { byId } from "./dom.js";

/** The key that was typed, or null where the dialog was closed. */
export function askForKey(wrong) {
  const dialog = byId("key");
  const input = byId("key-value");
  input.value = "";
  byId("key-problem").textContent = wrong ? "That key was not accepted." : "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(input.value.trim() || null), { once: true });
  });
}
