// A clip: frames of a shot in color, which are kept until the plan changes.

import { ask } from "./server.js";

// Return the start, the end and the addresses of the images of a clip around a frame; null if another
// request has taken its place, or if it is no longer wanted.
export async function askClip(frame, isWanted) {
  const found = await ask("clip", { frame });
  if (!found || !isWanted()) return null;
  const images = new Map();
  for (let one = found.start; one < found.end; one += 1) {
    images.set(one, URL.createObjectURL(await ask(`clips/${found.id}/${one}.jpg`)));
  }
  return { ...found, images };
}

export function release(clip) {
  for (const address of clip?.images.values() ?? []) URL.revokeObjectURL(address);
}
