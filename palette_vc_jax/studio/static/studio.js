// The page of the studio: it asks the server, and shows what the server answers. The plan is kept by
// the server; this page holds only what is looked at: the frame, the region, the locks, the slider and
// a clip that was colored.

import { askClip, release } from "./clip.js";
import { Drawing } from "./draw.js";
import { choose, fillFiles, play } from "./files.js";
import { listenKeys } from "./keys.js";
import { draws, wellColors } from "./palettes.js";
import { drawKeyframes, drawRegions, listenPanels } from "./panels.js";
import { chosenShots, colorEdit, colorPreview, proposed, scope, shownColors } from "./scope.js";
import { ask, attempt } from "./server.js";
import { $, clock, drawHead, drawQueue, drawStrip, drawWells, markShot, say, shotAt, showShot } from "./view.js";

let state = { project: null, renders: [], opening: null, error: null };
let frame = 0;
let region = -1; // number of the region of the shot that is looked at
let playing = 0; // frames per tick: -1, 0 or 1
let clip = null; // { start, end, images }: frames in color, until the plan changes
let coloring = false; // a clip is computed
let shown = -1; // number of the shot that is looked at
let drawn = { shots: "", renders: "", path: "" };
let waiting = 0; // timer of the preview
let asked = 0; // number of the last preview

async function refresh() {
  const found = await ask("state");
  if (!pending) show(found);
}

function show(found) {
  state = found;
  drawHead(state);
  const renders = JSON.stringify(state.renders);
  if (renders !== drawn.renders) drawQueue(state.renders, act, play);
  drawn.renders = renders;
  const { project } = state;
  if (!project) return;
  if (project.path !== drawn.path) {
    drawn.path = project.path;
    frame = 0;
    region = -1;
    playing = 0;
    drawing.take("");
    $("position").max = project.frames - 1;
    say(`${project.shots.length} shots, ${project.frames} frames.`);
    $("chooser").close();
    fillFiles();
  }
  const shots = JSON.stringify([project.path, project.shots, project.neutral]);
  if (shots === drawn.shots) return;
  drawn.shots = shots;
  dropClip();
  frame = Math.min(frame, project.frames - 1);
  ["dark", "bright"].forEach((id, place) => {
    if (document.activeElement !== $(id)) $(id).value = project.neutral[place];
  });
  drawStrip(project, shotAt(project, frame), chooseShot);
  go(frame);
}

function go(number) {
  const { project } = state;
  if (!project) return;
  frame = Math.max(0, Math.min(project.frames - 1, number));
  const place = shotAt(project, frame);
  const shot = project.shots[place];
  if (place !== shown || region >= shot.regions.length) chooseRegion(-1, false);
  if (place !== shown || drawing.frame !== frame) drawing.take("");
  shown = place;
  $("position").value = frame;
  $("time").textContent = `frame ${frame}, ${clock(frame, project.rate)}, shot ${place + 1}`;
  $("before").src = `api/frames/${frame}/large.jpg`;
  $("before").alt = `Frame ${frame} in gray`;
  $("before").hidden = false;
  markShot(place);
  showShot(shot, shownColors(look()));
  drawRegions(shot, region, chooseRegion, (number) => edit({ action: "remove_region", shot: place, region: number }));
  drawKeyframes(shot, go, (key) => edit({ action: "remove_keyframe", frame: key }));
  showMask();
  const image = clip?.images.get(frame);
  if (image) {
    clearTimeout(waiting);
    asked += 1;
    showColors(image, `frames ${clip.start} to ${clip.end - 1}, colored as a clip`);
  } else {
    $("after").hidden = true;
    preview();
  }
}

function showColors(address, note) {
  const before = $("after").src;
  $("after").src = address;
  $("after").alt = `Frame ${frame} in color`;
  $("after").hidden = false;
  $("note").textContent = note;
  if (before.startsWith("blob:") && ![...clip?.images.values() ?? []].includes(before)) URL.revokeObjectURL(before);
}

function preview(values = {}) {
  clearTimeout(waiting);
  const number = ++asked;
  if (playing) {
    $("note").textContent = "";
    return;
  }
  $("note").textContent = "coloring ...";
  waiting = setTimeout(attempt(async () => {
    const image = await ask("preview", { frame, ...values }).catch((error) => {
      if (number === asked) $("note").textContent = "no preview";
      throw error;
    });
    if (!image || number !== asked) return;
    const { keyframes } = state.project.shots[shotAt(state.project, frame)];
    const others = keyframes.some((key) => key !== frame) ? "; a clip also follows the keyframes" : "";
    showColors(URL.createObjectURL(image), `approximate preview of one frame${others}`);
  }), 120);
}

function chooseRegion(number, draw = true) {
  region = number;
  $("scope-region").disabled = number < 0;
  if (number >= 0) $("scope-region").checked = true;
  else if ($("scope-region").checked) document.querySelector("input[name=scope][value=one]").checked = true;
  if (draw) go(frame);
}

// Lay the mask of the region over the frame; its border is that of the model's own pixels.
function showMask() {
  const visible = region >= 0 && !playing && !drawing.tool;
  $("mask").hidden = true;
  if (!visible) return;
  const address = `api/masks/${shown}/${region}/${frame}.png?${state.project.revision}`;
  if ($("mask").getAttribute("src") === address) $("mask").hidden = false;
  else $("mask").src = address;
}

function dropClip() {
  release(clip);
  clip = null;
}

const colorClip = attempt(async () => {
  if (!state.project) return;
  if (coloring) {
    go(frame); // another request cancels it
    return;
  }
  run(0);
  clearTimeout(waiting);
  const number = ++asked;
  const { revision } = state.project;
  coloring = true;
  $("clip").textContent = "Cancel";
  $("note").textContent = "coloring a clip ...";
  poll();
  try {
    const isWanted = () => number === asked && revision === state.project.revision;
    const found = await askClip(frame, isWanted);
    if (!found) return;
    dropClip();
    clip = found;
    run(1);
  } catch (error) {
    if (number === asked) $("note").textContent = "no preview";
    throw error;
  } finally {
    coloring = false;
    $("clip").textContent = "Preview clip";
  }
});

const addRegion = attempt(async () => {
  const { project } = state;
  const values = { action: "add_region", frame: drawing.frame, colors: project.shots[shown].palette };
  if (drawing.tool === "rectangle") values.rectangle = drawing.rectangle();
  else if (drawing.empty) throw new Error("Nothing is painted yet; paint on the picture first.");
  else values.image = (await ask("images", await drawing.mask())).image;
  const before = project.shots[shown].regions.length;
  await edit(values);
  if (state.project.shots[shown].regions.length === before) return;
  drawing.take("");
  chooseRegion(before);
  say("The region has the palette of its shot; choose its colors.");
});

function draw(tool) {
  if (!state.project) return;
  run(0);
  drawing.frame = frame;
  drawing.take(drawing.tool === tool ? "" : tool, state.project);
}

function chooseShot(number) {
  const { project } = state;
  const shot = project.shots[Math.max(0, Math.min(project.shots.length - 1, number))];
  jump((shot.start + shot.end) >> 1);
}

function jump(number) {
  playing = 0;
  go(number);
}

// Return what is looked at.
function look() {
  return { project: state.project, frame, shot: shown, region };
}

// Edits follow each other, so that each names the revision that the one before it has made. The wells
// keep what was typed until the last of them is answered.
let edited = Promise.resolve();
let pending = 0; // edits that are not answered

function edit(values) {
  if (!state.project) return edited;
  const given = { shots: chosenShots(look()), ...values };
  pending += 1;
  edited = edited.then(attempt(async () => {
    let found;
    try {
      found = await ask("edit", { revision: state.project.revision, ...given });
    } catch (error) {
      if (error.stale) found = await ask("state");
      throw error;
    } finally {
      pending -= 1;
      state = found ?? state;
      if (!pending) show(state);
    }
    say("");
  }));
  return edited;
}

const commitWells = attempt(async () => {
  const before = state.project.revision;
  await edit(colorEdit(look(), wellColors()));
  if (state.project.revision === before) go(frame);
});

const propose = attempt(async (spec) => {
  if (!state.project) return;
  const shots = chosenShots(look());
  const wanted = colorEdit(look(), null);
  say("Making a palette ...");
  const { colors, text } = await proposed(look(), spec);
  await edit({ ...wanted, colors, shots });
  say(text);
});

const dice = () => propose(draws());
const act = attempt(async (id, change) => show(await ask(`renders/${id}/${change}`, {})));

const render = attempt(async () => {
  await edited;
  const { revision } = state.project;
  show(await ask("renders", { revision, format: $("format").value }));
  poll();
});

const open = attempt(async (path) => {
  show(await ask("open", { path }));
  poll();
});

function run(direction) {
  const before = playing;
  playing = direction;
  if (before && !direction) go(frame);
}

// Play the gray frames, each when the one before it is shown.
async function tick() {
  const begun = performance.now();
  const { project } = state;
  if (playing && project) {
    let next = frame + playing;
    if (clip?.images.has(frame) && !clip.images.has(next)) next = playing > 0 ? clip.start : clip.end - 1;
    if (next < 0 || next >= project.frames) run(0);
    else {
      go(next);
      await $("before").decode().catch(() => {});
    }
  }
  const period = project ? 1000 / project.rate : 100;
  setTimeout(tick, Math.max(5, period - (performance.now() - begun)));
}

let timer = 0;
async function poll() {
  clearTimeout(timer);
  try {
    await refresh();
    if (coloring && state.clip) $("note").textContent = `coloring a clip, ${Math.round((100 * state.clip.done) / state.clip.total)} %`;
    const busy = state.opening || coloring || state.renders.some((one) => ["running", "waiting"].includes(one.state));
    timer = setTimeout(poll, busy ? 700 : 3000);
  } catch (error) {
    say(error.message, true);
    timer = setTimeout(poll, 3000);
  }
}

const KEYS = {
  " ": () => run(playing ? 0 : 1), j: () => run(-1), k: () => run(0), l: () => run(1),
  a: () => propose("auto"), d: dice, s: () => $("split").click(), m: () => $("merge").click(),
  g: () => $("gray").click(), c: () => { $("compare").value = $("compare").value > 0 ? 0 : 100; compare(); },
  p: colorClip, t: () => $("compare-proposals").click(), r: () => draw("rectangle"), b: () => draw("brush"),
  "?": () => $("keys").showModal(),
};

function compare() {
  $("screen").style.setProperty("--gray", `${$("compare").value}%`);
}

function listen() {
  drawWells(commitWells, () => preview(colorPreview(look(), wellColors())));
  listenPanels({ edit, preview, look });
  listenKeys(KEYS, {
    edit,
    moveFrames: (count) => jump(frame + count),
    moveShots: (count) => state.project && chooseShot(shotAt(state.project, frame) + count),
  });
  $("compare").oninput = compare;
  $("position").oninput = () => jump(Number($("position").value));
  $("back").onclick = KEYS.j;
  $("stop").onclick = KEYS.k;
  $("forward").onclick = KEYS.l;
  $("choose").onclick = () => choose(open);
  $("help").onclick = KEYS["?"];
  $("dice").onclick = dice;
  $("clip").onclick = colorClip;
  $("mask").onload = () => { $("mask").hidden = region < 0 || playing !== 0 || Boolean(drawing.tool); };
  $("rectangle").onclick = () => draw("rectangle");
  $("brush").onclick = () => draw("brush");
  $("add").onclick = addRegion;
  $("cancel-drawing").onclick = () => { drawing.take(""); $("rectangle").focus(); };
  for (const one of document.querySelectorAll("input[name=scope]")) one.onchange = () => {
    if (scope() !== "region" && region >= 0) chooseRegion(-1, false);
    go(frame);
  };
  for (const button of document.querySelectorAll("[data-spec]")) button.onclick = () => propose(button.dataset.spec);
  const submit = (id, work) => { $(id).onsubmit = (event) => { event.preventDefault(); work(); }; };
  submit("by-words", () => propose(`words:${$("words").value}`));
  submit("by-file", () => $("file").value && propose($("file").value));
  submit("by-shot", () => edit(colorEdit(look(), state.project.shots[Number($("other").value)].palette)));
  submit("render", render);
  $("player").onclose = () => $("stage").replaceChildren();
}

const drawing = new Drawing(() => showMask());
listen();
tick();
poll().then(() => { if (!state.project && !state.opening) choose(open); });
