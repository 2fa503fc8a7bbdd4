// The page of the studio: it asks the server, and shows what the server answers. The plan is kept by
// the server; this page holds only what is looked at: the frame, the locks and the slider.

import { $, clock, drawHead, drawQueue, drawStrip, drawWells, make, markShot, say, shotAt, showShot, wells } from "./view.js";

let state = { project: null, renders: [], opening: null, error: null };
let frame = 0;
let playing = 0; // frames per tick: -1, 0 or 1
let drawn = { shots: "", renders: "", path: "" };
let waiting = 0; // timer of the preview
let asked = 0; // number of the last preview

async function ask(path, values) {
  const options = values === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values),
  };
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch {
    throw new Error("The studio does not answer. Start it again with the same command, and open its new address.");
  }
  if (answer.status === 204) return null;
  if (answer.ok) return answer.headers.get("content-type").startsWith("image/") ? answer.blob() : answer.json();
  const text = await answer.text();
  let reason = text;
  try { reason = JSON.parse(text).error; } catch { /* a plain text */ }
  if (answer.status === 409) await refresh();
  throw new Error(reason);
}

function attempt(work) {
  return async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      say(error.message, true);
    }
  };
}

async function refresh() {
  show(await ask("state"));
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
    playing = 0;
    $("position").max = project.frames - 1;
    say(`${project.shots.length} shots, ${project.frames} frames.`);
    $("chooser").close();
    fillFiles();
  }
  const shots = JSON.stringify([project.path, project.shots]);
  if (shots === drawn.shots) return;
  drawn.shots = shots;
  frame = Math.min(frame, project.frames - 1);
  drawStrip(project, shotAt(project, frame), chooseShot);
  go(frame);
}

function go(number) {
  const { project } = state;
  if (!project) return;
  frame = Math.max(0, Math.min(project.frames - 1, number));
  const place = shotAt(project, frame);
  $("position").value = frame;
  $("time").textContent = `frame ${frame}, ${clock(frame, project.rate)}, shot ${place + 1}`;
  $("before").src = `api/frames/${frame}/large.jpg`;
  $("before").alt = `Frame ${frame} in gray`;
  $("before").hidden = false;
  $("after").hidden = true;
  markShot(place);
  showShot(project.shots[place]);
  preview();
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
    URL.revokeObjectURL($("after").src);
    $("after").src = URL.createObjectURL(image);
    $("after").alt = `Frame ${frame} in color`;
    $("after").hidden = false;
    $("note").textContent = "approximate preview of one frame";
  }), 120);
}

function chooseShot(number) {
  const { project } = state;
  const shot = project.shots[Math.max(0, Math.min(project.shots.length - 1, number))];
  playing = 0;
  go((shot.start + shot.end) >> 1);
}

function chosenShots() {
  const { project } = state;
  const one = document.querySelector("input[name=scope]:checked").value === "one";
  return one ? [shotAt(project, frame)] : project.shots.map((_, number) => number);
}

const edit = attempt(async (values) => {
  if (!state.project) return;
  const found = await ask("edit", { shots: chosenShots(), revision: state.project.revision, ...values });
  say("");
  show(found);
});

function wellColors() {
  return wells().map((one) => one.text.value.trim());
}

const commitWells = attempt(async () => {
  const before = state.project.revision;
  await edit({ action: "palette", colors: wellColors() });
  if (state.project.revision === before) showShot(state.project.shots[shotAt(state.project, frame)]);
});

function withLocks(colors) {
  if (!colors) return colors;
  const locked = wells().filter((one) => one.lock.checked).map((one) => one.text.value);
  const rest = [...colors];
  for (const color of locked) {
    const near = rest.map((other) => distance(color, other));
    rest.splice(near.indexOf(Math.min(...near)), 1);
  }
  return [...locked, ...rest];
}

function distance(one, other) {
  const parts = (code) => [1, 3, 5].map((place) => parseInt(code.slice(place, place + 2), 16));
  const [a, b] = [parts(one), parts(other)];
  return a.reduce((sum, value, place) => sum + (value - b[place]) ** 2, 0);
}

const propose = attempt(async (spec) => {
  const { project } = state;
  if (!project) return;
  const chosen = chosenShots();
  const shot = project.shots[chosen[0]];
  const frames = chosen.length === project.shots.length ? null : [shot.start, shot.end];
  say("Making a palette ...");
  const found = await ask("propose", { spec, frames });
  await edit({ action: "palette", colors: withLocks(found.colors), shots: chosen });
  say(found.remarks.join("; ") || `Palette: ${found.source}`);
});

const dice = () => propose(`gmm:${Math.floor(Math.random() * 2 ** 32)}`);
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
  playing = direction;
  if (!direction) go(frame);
}

// Play the gray frames, each when the one before it is shown.
async function tick() {
  const begun = performance.now();
  const { project } = state;
  if (playing && project) {
    const next = frame + playing;
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
    const busy = state.opening || state.renders.some((one) => ["running", "waiting"].includes(one.state));
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
  if (target.matches("input[type=text], input[type=number], select")) return;
  if (key === " " && target.matches("button, input")) return;
  if (key.startsWith("Arrow")) {
    if (target.matches("input")) return;
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
  drawWells(commitWells, () => preview({ colors: wellColors() }));
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
  $("dice").onclick = dice;
  for (const button of document.querySelectorAll("[data-spec]")) button.onclick = () => propose(button.dataset.spec);
  const submit = (id, work) => { $(id).onsubmit = (event) => { event.preventDefault(); work(); }; };
  submit("by-words", () => propose(`words:${$("words").value}`));
  submit("by-file", () => $("file").value && propose($("file").value));
  submit("by-shot", () => edit({ action: "palette", colors: state.project.shots[Number($("other").value)].palette }));
  submit("render", attempt(async () => { show(await ask("renders", { format: $("format").value })); poll(); }));
  $("player").onclose = () => $("stage").replaceChildren();
}

listen();
tick();
poll().then(() => { if (!state.project && !state.opening) choose(); });
