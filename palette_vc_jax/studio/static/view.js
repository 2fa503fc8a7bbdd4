// Draw the state of the server. Names and texts are always set as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function make(name, values = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, values);
  element.append(...children);
  return element;
}

export function clock(frame, rate) {
  const seconds = frame / rate;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

export function say(text, bad = false) {
  $("message").textContent = text;
  $("message").title = text;
  $("message").classList.toggle("info", !bad);
}

export function shotAt(project, frame) {
  return project.shots.findIndex((shot) => shot.start <= frame && frame < shot.end);
}

export function drawHead(state) {
  const { project, opening, error } = state;
  $("title").textContent = project ? project.name : "Studio";
  document.title = project ? `${project.name} - Studio` : "Studio";
  $("saved").textContent = project
    ? project.can_undo || project.can_redo ? `saved in ${project.plan}` : "not changed" : "";
  $("undo").disabled = !project?.can_undo;
  $("redo").disabled = !project?.can_redo;
  for (const id of ["side", "shots", "view"]) {
    for (const one of $(id).querySelectorAll("fieldset, #split, #merge, #position")) {
      one.disabled = !project;
    }
  }
  if (opening) {
    const share = opening.total ? `, ${Math.round((100 * opening.done) / opening.total)} %` : "";
    say(`Opening ${opening.name}: ${opening.stage}${share}`);
  } else if (error) {
    say(error, true);
  }
}

const thumbnails = new Map(); // by film and frame, so that an edit loads no picture again

function thumbnail(project, frame) {
  const key = `${project.path}/${frame}`;
  if (!thumbnails.has(key)) {
    thumbnails.set(key, make("img", { alt: "", loading: "lazy", src: `api/frames/${frame}/small.jpg` }));
  }
  return thumbnails.get(key);
}

export function swatchOf(colors) {
  const swatch = make("span", { className: "swatch" });
  for (const color of colors ?? []) {
    const part = make("i");
    part.style.background = color;
    swatch.append(part);
  }
  return swatch;
}

export function drawStrip(project, chosen, choose) {
  const focused = [...$("strip").querySelectorAll("button")].indexOf(document.activeElement);
  const items = project.shots.map((shot, number) => {
    const middle = (shot.start + shot.end) >> 1;
    const swatch = swatchOf(shot.keep_gray ? [] : shot.palette);
    const kind = shot.keep_gray ? ", gray" : shot.palette ? "" : ", no palette";
    const extra = [[shot.regions, "region"], [shot.keyframes, "keyframe"]].map(([list, name]) => (
      list.length ? `, ${list.length} ${name}${list.length > 1 ? "s" : ""}` : "")).join("");
    const label = `${number + 1}: ${clock(shot.start, project.rate)}`;
    const picture = thumbnail(project, middle);
    const button = make(
      "button",
      { type: "button", onclick: () => choose(number) },
      picture, swatch, make("span", { textContent: `${label}, ${shot.end - shot.start} frames${kind}${extra}` }),
    );
    button.ariaLabel = `Shot ${label}, ${shot.end - shot.start} frames${kind}${extra}`;
    return make("li", {}, button);
  });
  $("strip").replaceChildren(...items);
  markShot(chosen, false);
  if (focused >= 0) $("strip").querySelectorAll("button")[Math.min(focused, items.length - 1)].focus();
  $("other").replaceChildren(
    ...project.shots.map((_, number) => make("option", { value: number, textContent: `colors of shot ${number + 1}` })),
  );
}

export function markShot(chosen, scroll = true) {
  $("strip").querySelectorAll("button").forEach((button, number) => {
    const own = number === chosen;
    if (own === (button.ariaCurrent === "true")) return;
    button.ariaCurrent = String(own);
    if (own && scroll) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

export function drawWells(change, live) {
  for (let place = 0; place < 5; place += 1) {
    const name = `Color ${place + 1}`;
    const color = make("input", { type: "color", id: `color${place}`, ariaLabel: name });
    const text = make("input", { type: "text", id: `text${place}`, maxLength: 24, ariaLabel: `${name} as text`, spellcheck: false });
    const lock = make("input", { type: "checkbox", id: `lock${place}`, ariaLabel: `Lock color ${place + 1}` });
    color.setAttribute("aria-keyshortcuts", String(place + 1));
    color.oninput = () => { text.value = color.value; live(); };
    color.onchange = () => change();
    text.oninput = () => { text.isTyped = true; };
    text.onblur = () => { text.isTyped = false; };
    text.onchange = () => { text.isTyped = false; change(); };
    $("wells").append(make("div", { className: "well" }, color, text, make("label", {}, lock, " lock")));
  }
}

export function wells() {
  return [0, 1, 2, 3, 4].map((place) => ({
    color: $(`color${place}`), text: $(`text${place}`), lock: $(`lock${place}`),
  }));
}

// Show a shot's settings; `palette` is that of the shot or of one of its regions.
export function showShot(shot, palette) {
  const own = wells();
  const locked = new Set(own.filter((one) => one.lock.checked).map((one) => one.text.value));
  own.forEach((one, place) => {
    const color = palette?.[place] ?? "";
    if (!one.text.isTyped) one.text.value = color;
    one.color.value = color || "#000000";
    one.color.disabled = one.text.disabled = one.lock.disabled = !palette;
    one.lock.checked = locked.has(color);
  });
  if (document.activeElement !== $("strength")) $("strength").value = shot.strength || 1;
  $("strength-value").textContent = (shot.strength || 1).toFixed(2);
  if (document.activeElement !== $("seed")) $("seed").value = shot.seed;
  $("gray").checked = shot.keep_gray;
}

export function drawQueue(renders, act, play) {
  const items = renders.map((one) => {
    const line = make("li", {}, make("strong", { textContent: one.output }), `: ${one.state} `);
    const button = (label, run) => make("button", { type: "button", textContent: label, ariaLabel: `${label} ${one.output}`, onclick: run });
    if (one.state === "running") {
      const bar = make("progress", { ariaLabel: `Progress of ${one.output}` });
      if (one.total) Object.assign(bar, { max: one.total, value: one.done });
      line.append(one.total ? `(${one.stage}, ${one.done} of ${one.total}, ${one.left} left)` : "(starting)", bar);
    }
    if (one.message) line.append(make("p", { textContent: one.message, className: "quiet" }));
    if (["running", "waiting"].includes(one.state)) line.append(button("Cancel", () => act(one.id, "cancel")));
    if (["canceled", "failed"].includes(one.state)) line.append(button("Resume", () => act(one.id, "resume")));
    if (one.state === "done" && /\.(mp4|png)$/.test(one.output)) line.append(button("Show", () => play(one)));
    return line;
  });
  const focused = document.activeElement?.ariaLabel;
  $("queue").replaceChildren(...items);
  for (const button of $("queue").querySelectorAll("button")) {
    if (focused && button.ariaLabel === focused) button.focus();
  }
}
