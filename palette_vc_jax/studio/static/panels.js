// The panels of regions and keyframes, and the contact sheet.

import { draws } from "./palettes.js";
import { colorEdit, colorPreview, proposed, shownColors } from "./scope.js";
import { ask, attempt } from "./server.js";
import { $, make, say, shotAt, swatchOf } from "./view.js";

const CELLS = 12; // proposals on a contact sheet
const SMALL = 240; // pixels, width of a frame there

const button = (label, name, run, more = {}) => make("button", { type: "button", textContent: label, ariaLabel: name, onclick: run, ...more });

// Replace the items of a list, and keep the focus on the button with the same name.
function refill(list, items) {
  const focused = list.contains(document.activeElement) && document.activeElement.ariaLabel;
  list.replaceChildren(...items);
  if (focused) [...list.querySelectorAll("button")].find((one) => one.ariaLabel === focused)?.focus();
}

export function drawRegions(shot, chosen, choose, remove) {
  refill($("region-list"), shot.regions.map((region, number) => {
    const name = `Region ${number + 1}, drawn in frame ${region.frame}`;
    const one = button("", name, () => choose(number === chosen ? -1 : number), { ariaPressed: String(number === chosen) });
    one.append(name, region.palette ? "" : ", no palette", swatchOf(region.palette));
    return make("li", {}, one, button("Remove", `Remove region ${number + 1}`, () => remove(number)));
  }));
}

export function drawKeyframes(shot, go, remove) {
  refill($("key-list"), shot.keyframes.map((frame) => make("li", {},
    button(`Frame ${frame}`, `Go to keyframe ${frame}`, () => go(frame)),
    button("Remove", `Remove keyframe ${frame}`, () => remove(frame)))));
}

function save(image, name) {
  const address = URL.createObjectURL(image);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// Fill the contact sheet, one proposal after the other, until it is closed or filled again.
async function fillSheet(app, isCurrent) {
  const specs = [["as it is", null], ["automatic", "auto"]];
  if ($("words").value) specs.push([$("words").value, `words:${$("words").value}`]);
  if ($("file").value) specs.push([$("file").selectedOptions[0].textContent, $("file").value]);
  for (let count = 1; specs.length < CELLS; count += 1) specs.push([`mixture, ${count}`, draws()]);
  const cells = specs.map(([label]) => {
    const cell = make("button", { type: "button", ariaLabel: label, disabled: true });
    cell.append(make("img", { alt: "" }), swatchOf(null), make("span", { textContent: label }));
    return cell;
  });
  $("cells").replaceChildren(...cells.map((cell) => make("li", {}, cell)));
  for (const [number, [, spec]] of specs.entries()) {
    const cell = cells[number];
    const [picture, swatch, text] = cell.children;
    try {
      const { colors } = spec ? await proposed(app.look(), spec) : { colors: shownColors(app.look()) };
      if (!isCurrent()) return;
      swatch.replaceWith(swatchOf(colors));
      cell.onclick = () => {
        $("sheet").close();
        app.edit(colorEdit(app.look(), colors));
      };
      cell.disabled = false;
      const image = await ask("preview", { frame: app.look().frame, width: SMALL, ...colorPreview(app.look(), colors) });
      if (!isCurrent()) return;
      if (image) picture.src = URL.createObjectURL(image);
    } catch (error) {
      text.textContent = error.message;
    }
  }
}

// Listen to the controls that make one edit.
function listenEdits({ edit, preview, look }) {
  $("undo").onclick = () => edit({ action: "undo" });
  $("redo").onclick = () => edit({ action: "redo" });
  $("split").onclick = () => edit({ action: "split", frame: look().frame });
  $("merge").onclick = () => {
    const { project, frame } = look();
    if (project) edit({ action: "merge", shot: shotAt(project, frame) });
  };
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
}

export function listenPanels(app) {
  listenEdits(app);
  const { edit } = app;
  let sheets = 0;
  const sheet = () => {
    if (!app.look().project) return;
    const number = ++sheets;
    fillSheet(app, () => number === sheets);
  };
  $("compare-proposals").onclick = () => { $("sheet").showModal(); sheet(); };
  $("more").onclick = sheet;
  $("sheet").onclose = () => {
    sheets += 1;
    for (const one of $("cells").querySelectorAll("img")) URL.revokeObjectURL(one.src);
    app.preview();
  };
  const putBack = async (image) => edit({ action: "set_keyframe", frame: app.look().frame, image });
  $("save-color").onclick = attempt(async () => {
    const { frame, project } = app.look();
    say("Coloring the frame in the size of the film ...");
    const image = await ask("preview", { frame, full: true });
    say("");
    save(image, `${project.name}.frame-${frame}.png`);
  });
  $("save-gray").onclick = attempt(async () => {
    const { frame, project } = app.look();
    save(await ask(`frames/${frame}/full.png`), `${project.name}.frame-${frame}.gray.png`);
  });
  $("repaired").onchange = attempt(async () => {
    const [file] = $("repaired").files;
    if (!file) return;
    try {
      await putBack((await ask("images", file)).image);
    } finally {
      $("repaired").value = "";
    }
  });
  $("by-picture").onsubmit = attempt(async (event) => {
    event.preventDefault();
    await putBack((await ask("pick", { path: $("picture").value })).image);
  });
}
