// Draw a region on the frame: a rectangle, or a mask with a brush; by pointer or by keyboard.

import { $ } from "./view.js";

const SHOWN = "rgb(255, 64, 255)"; // the color of masks; the canvas itself is half transparent
const FIELDS = ["left", "top", "width", "height"];

export class Drawing {
  // `changed` is called when a tool is taken or put away.
  constructor(changed) {
    this.tool = "";
    this.changed = changed;
    this.canvas = $("draw");
    this.context = this.canvas.getContext("2d");
    this.canvas.onpointerdown = (event) => this.begin(event);
    this.canvas.onpointermove = (event) => this.last && this.extend(this.place(event));
    this.canvas.onpointerup = this.canvas.onpointercancel = () => { this.last = null; };
    this.canvas.onkeydown = (event) => this.onKey(event);
    for (const name of FIELDS) $(name).oninput = () => this.showRectangle();
  }

  // Take a tool, `rectangle` or `brush`; the empty text puts it away.
  take(tool, project) {
    this.tool = tool;
    this.last = null;
    this.empty = true;
    if (project) {
      [this.canvas.width, this.canvas.height] = [project.width, project.height];
      this.scale = project.film_size[0] / project.width; // film pixels of a canvas pixel
      this.film = project.film_size;
      this.cursor = [project.width >> 1, project.height >> 1];
      const [width, height] = this.film;
      if (this.path !== project.path) [$("size").max, $("size").value, this.path] = [height, height >> 3, project.path];
      [width >> 2, height >> 2, width >> 1, height >> 1].forEach((value, place) => {
        $(FIELDS[place]).value = value;
        $(FIELDS[place]).max = place % 2 ? height : width;
      });
    }
    this.canvas.hidden = !tool;
    $("tools").hidden = !tool;
    $("rectangle-fields").hidden = tool !== "rectangle";
    $("brush-fields").hidden = tool !== "brush";
    $("rectangle").ariaPressed = String(tool === "rectangle");
    $("brush").ariaPressed = String(tool === "brush");
    $("cursor").hidden = true;
    if (tool === "rectangle") this.showRectangle();
    if (tool) this.canvas.focus();
    this.changed();
  }

  // The frame fills the canvas' box as far as its aspect ratio lets it.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.canvas;
    const scale = Math.min(box.width / width, box.height / height);
    return [
      (event.clientX - box.left - (box.width - scale * width) / 2) / scale,
      (event.clientY - box.top - (box.height - scale * height) / 2) / scale,
    ];
  }

  begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.first = this.last = this.place(event);
    this.extend(this.last);
  }

  extend(place) {
    if (this.tool === "brush") {
      this.stroke(this.last, place);
    } else {
      const edges = [0, 1].map((side) => [this.first[side], place[side]]
        .map((value) => Math.max(0, Math.min(this.film[side], Math.round(value * this.scale))))
        .sort((a, b) => a - b));
      const [[left, right], [top, bottom]] = edges;
      [left, top, right - left, bottom - top].forEach((value, at) => { $(FIELDS[at]).value = value; });
      this.showRectangle();
    }
    this.last = place;
  }

  stroke(from, to) {
    const { context } = this;
    context.globalCompositeOperation = $("erase").checked ? "destination-out" : "source-over";
    context.strokeStyle = SHOWN;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Number($("size").value) / this.scale;
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    this.empty = false;
  }

  rectangle() {
    return FIELDS.map((name) => Math.round(Number($(name).value)));
  }

  showRectangle() {
    const [left, top, width, height] = this.rectangle().map((value) => value / this.scale);
    this.context.globalCompositeOperation = "source-over";
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.fillStyle = SHOWN;
    this.context.fillRect(left, top, width, height);
  }

  // Arrows move a brush's cursor, with Shift they paint; space paints one dot.
  onKey(event) {
    const { width, height } = this.canvas;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") {
      $("add").click();
    } else if (event.key === "Escape") {
      $("cancel-drawing").click();
    } else if (this.tool === "brush" && (step || event.key === " ")) {
      const far = Number($("size").value) / this.scale / 2;
      const next = this.cursor.map((value, side) => Math.max(0, Math.min([width, height][side], value + far * (step ?? [0, 0])[side])));
      if (!step || event.shiftKey) this.stroke(this.cursor, next);
      this.cursor = next;
      this.showCursor();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  showCursor() {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.canvas;
    const scale = Math.min(box.width / width, box.height / height);
    $("cursor").hidden = this.tool !== "brush";
    $("cursor").style.left = `${(box.width - scale * width) / 2 + scale * this.cursor[0]}px`;
    $("cursor").style.top = `${(box.height - scale * height) / 2 + scale * this.cursor[1]}px`;
  }

  // Return the mask, white on black, as a PNG.
  mask() {
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [this.canvas.width, this.canvas.height];
    const context = copy.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    for (const [how, color] of [["source-in", "white"], ["destination-over", "black"]]) {
      context.globalCompositeOperation = how;
      context.fillStyle = color;
      context.fillRect(0, 0, copy.width, copy.height);
    }
    return new Promise((resolve) => { copy.toBlob(resolve, "image/png"); });
  }
}
