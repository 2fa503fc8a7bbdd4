// The keyboard.

import { wells } from "./view.js";

const TEXTS = "input[type=text], input[type=number]";

// Listen for keys; `keys` has what single letters do, and `app` the functions that others call.
export function listenKeys(keys, app) {
  document.addEventListener("keydown", (event) => onKey(event, keys, app));
}

function onKey(event, keys, app) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = event.target;
  if (document.querySelector("dialog[open]") || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" || target.matches(TEXTS)) return;
    event.preventDefault();
    app.edit({ action: event.shiftKey ? "redo" : "undo" });
    return;
  }
  if (target.matches(`${TEXTS}, input[type=file], select`)) return;
  if (key === " " && target.matches("button, input")) return;
  if (key.startsWith("Arrow")) {
    if (target.matches("input:not([type=checkbox])")) return;
    event.preventDefault();
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (steps) app.moveFrames(steps * (event.shiftKey ? 10 : 1));
    else app.moveShots(key === "ArrowUp" ? -1 : 1);
    return;
  }
  if (/^[1-5]$/.test(key)) { wells()[key - 1].color.focus(); return; }
  if (keys[key]) { event.preventDefault(); keys[key](); }
}
