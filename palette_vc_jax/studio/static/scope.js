// What changes of colors are for: all shots, one shot, or a region of it. Each function is given what
// is looked at: the project, the frame, the number of its shot, and that of the region or -1.

import { withLocks } from "./palettes.js";
import { ask } from "./server.js";
import { shotAt } from "./view.js";

export function scope() {
  return document.querySelector("input[name=scope]:checked").value;
}

export function chosenShots({ project, frame }) {
  return scope() === "all" ? project.shots.map((_, number) => number) : [shotAt(project, frame)];
}

// Return the palette of what changes are for, as the wells show it.
export function shownColors({ project, shot, region }) {
  const { palette, regions } = project.shots[shot];
  return region < 0 ? palette : regions[region].palette;
}

// Return the edit that gives colors to what changes are for.
export function colorEdit({ shot, region }, colors) {
  return scope() === "region" ? { action: "color_region", shot, region, colors } : { action: "palette", colors };
}

// Return what a preview shows in place of the plan.
export function colorPreview({ region }, colors) {
  return scope() === "region" ? { region, colors } : { colors };
}

// Return a proposed palette, and what is to be said of it.
export async function proposed({ project, frame }, spec) {
  const { start, end } = project.shots[shotAt(project, frame)];
  const found = await ask("propose", { spec, frames: scope() === "all" ? null : [start, end] });
  return { colors: withLocks(found.colors), text: found.remarks.join("; ") || `Palette: ${found.source}` };
}
