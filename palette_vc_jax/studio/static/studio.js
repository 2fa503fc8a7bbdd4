// The page of the studio: it asks the server, and shows what the server answers. The plan is kept by
// the server; this page holds only what is looked at: the frame, the region, the locks, the slider and
// a clip that was colored.

import { Drawing } from "./draw.js";
import { draws, wellColors, withLocks } from "./palettes.js";
import { drawKeyframes, drawRegions, listenPanels } from "./panels.js";
import { ask, attempt } from "./server.js";
import { $, clock, drawHead, drawQueue, drawStrip, drawWells, make, markShot, say, shotAt, showShot, wells } from "./view.js";

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
  showShot(shot, shownColors());
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
  for (const address of clip?.images.values() ?? []) URL.revokeObjectURL(address);
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
    const found = await ask("clip", { frame });
    if (!found || number !== asked || revision !== state.project.revision) return;
    const images = new Map();
    for (let one = found.start; one < found.end; one += 1) {
      images.set(one, URL.createObjectURL(await ask(`clips/${found.id}/${one}.jpg`)));
    }
    dropClip();
    clip = { ...found, images };
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
  playing = 0;
  go((shot.start + shot.end) >> 1);
}

function scope() {
  return document.querySelector("input[name=scope]:checked").value;
}

function chosenShots() {
  const { project } = state;
  return scope() === "all" ? project.shots.map((_, number) => number) : [shotAt(project, frame)];
}

// Return the palette of what changes are for, as the wells show it.
function shownColors() {
  const shot = state.project.shots[shown];
  return region < 0 ? shot.palette : shot.regions[region].palette;
}

// Return the edit that gives colors to what changes are for.
function colorEdit(colors) {
  return scope() === "region" ? { action: "color_region", shot: shown, region, colors } : { action: "palette", colors };
}

// Return what a preview shows in place of the plan.
function colorPreview(colors) {
  return scope() === "region" ? { region, colors } : { colors };
}

// Edits follow each other, so that each names the revision that the one before it has made. The wells
// keep what was typed until the last of them is answered.
let edited = Promise.resolve();
let pending = 0; // edits that are not answered

function edit(values) {
  if (!state.project) return edited;
  const given = { shots: chosenShots(), ...values };
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
  await edit(colorEdit(wellColors()));
  if (state.project.revision === before) go(frame);
});

// Return a proposed palette, and what is to be said of it.
async function proposed(spec) {
  const { project } = state;
  const shot = project.shots[shotAt(project, frame)];
  const found = await ask("propose", { spec, frames: scope() === "all" ? null : [shot.start, shot.end] });
  return { colors: withLocks(found.colors), text: found.remarks.join("; ") || `Palette: ${found.source}` };
}

const propose = attempt(async (spec) => {
  if (!state.project) return;
  const shots = chosenShots();
  const wanted = colorEdit(null);
  say("Making a palette ...");
  const { colors, text } = await proposed(spec);
  await edit({ ...wanted, colors, shots });
  say(text);
});

const dice = () => propose(draws());
const act = attempt(async (id, change) => show(await ask(`renders/${id}/${change}`, {})));

function play(render) {
  const source = `api/renders/${render.id}/film`;
  const image = render.output.endsWith(".png");
  $("player-title").textContent = render.output;
  $("stage").replaceChildren(image ? make("img", { src: source, alt: render.output })
    : make("video", { src: source, controls: true, autoplay: true }));
  $("player").showModal();
}

const fillFiles = attempt(async () => {
  const { images, palettes } = await ask("films");
  const options = [
    ...images.map((one) => make("option", { value: `image:${one.path}`, textContent: one.name })),
    ...palettes.map((one) => make("option", { value: `file:${one.path}`, textContent: one.name })),
  ];
  $("picture").replaceChildren(...images.map((one) => make("option", { value: one.path, textContent: one.name })));
  $("by-picture").hidden = !images.length;
  $("file").replaceChildren(...(options.length ? options : [make("option", { value: "", textContent: "no images here" })]));
});

const choose = attempt(async () => {
  if (!$("chooser").open) $("chooser").showModal();
  const { films, images } = await ask("films");
  const button = (one) => make("li", {}, make("button", {
    type: "button", textContent: one.name,
    onclick: attempt(async () => {
      $("chooser").close();
      show(await ask("open", { path: one.path }));
      poll();
    }),
  }));
  $("films").replaceChildren(...[...films, ...images].map(button));
  if (!films.length && !images.length) $("films").replaceChildren("There are no films. Start the studio with --folder.");
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

function onKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = event.target;
  if (document.querySelector("dialog[open]") || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" || target.matches("input[type=text], input[type=number]")) return;
    event.preventDefault();
    edit({ action: event.shiftKey ? "redo" : "undo" });
    return;
  }
  if (target.matches("input[type=text], input[type=number], input[type=file], select")) return;
  if (key === " " && target.matches("button, input")) return;
  if (key.startsWith("Arrow")) {
    if (target.matches("input:not([type=checkbox])")) return;
    event.preventDefault();
    const place = state.project ? shotAt(state.project, frame) : 0;
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (steps) { playing = 0; go(frame + steps * (event.shiftKey ? 10 : 1)); }
    else if (state.project) chooseShot(place + (key === "ArrowUp" ? -1 : 1));
    return;
  }
  if (/^[1-5]$/.test(key)) { wells()[key - 1].color.focus(); return; }
  if (KEYS[key]) { event.preventDefault(); KEYS[key](); }
}

function compare() {
  $("screen").style.setProperty("--gray", `${$("compare").value}%`);
}

function listen() {
  drawWells(commitWells, () => preview(colorPreview(wellColors())));
  listenPanels({ edit, proposed, preview, colorEdit, colorPreview, shownColors, at: () => ({ project: state.project, frame }) });
  document.addEventListener("keydown", onKey);
  $("compare").oninput = compare;
  $("position").oninput = () => { playing = 0; go(Number($("position").value)); };
  $("back").onclick = KEYS.j;
  $("stop").onclick = KEYS.k;
  $("forward").onclick = KEYS.l;
  $("choose").onclick = choose;
  $("help").onclick = KEYS["?"];
  $("undo").onclick = () => edit({ action: "undo" });
  $("redo").onclick = () => edit({ action: "redo" });
  $("split").onclick = () => edit({ action: "split", frame });
  $("merge").onclick = () => edit({ action: "merge", shot: shotAt(state.project, frame) });
  $("gray").onchange = () => edit({ action: "keep_gray", value: $("gray").checked });
  $("seed").onchange = () => edit({ action: "seed", value: Number($("seed").value) });
  $("strength").oninput = () => {
    $("strength-value").textContent = Number($("strength").value).toFixed(2);
    preview({ strength: Number($("strength").value) });
  };
  $("strength").onchange = () => edit({ action: "strength", value: Number($("strength").value) });
  for (const id of ["dark", "bright"]) {
    $(id).onchange = () => edit({ action: "neutral", dark: Number($("dark").value), bright: Number($("bright").value) });
  }
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
  submit("by-shot", () => edit(colorEdit(state.project.shots[Number($("other").value)].palette)));
  submit("render", attempt(async () => { show(await ask("renders", { format: $("format").value })); poll(); }));
  $("player").onclose = () => $("stage").replaceChildren();
}

const drawing = new Drawing(() => showMask());
listen();
tick();
poll().then(() => { if (!state.project && !state.opening) choose(); });
