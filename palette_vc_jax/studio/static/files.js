// Films, images and palettes in the folders, and films that are done.

import { ask, attempt } from "./server.js";
import { $, make } from "./view.js";

export function play(render) {
  const source = `api/renders/${render.id}/film`;
  const image = render.output.endsWith(".png");
  $("player-title").textContent = render.output;
  $("stage").replaceChildren(image ? make("img", { src: source, alt: render.output })
    : make("video", { src: source, controls: true, autoplay: true }));
  $("player").showModal();
}

export const fillFiles = attempt(async () => {
  const { images, palettes } = await ask("films");
  const options = [
    ...images.map((one) => make("option", { value: `image:${one.path}`, textContent: one.name })),
    ...palettes.map((one) => make("option", { value: `file:${one.path}`, textContent: one.name })),
  ];
  $("picture").replaceChildren(...images.map((one) => make("option", { value: one.path, textContent: one.name })));
  $("by-picture").hidden = !images.length;
  $("file").replaceChildren(...(options.length ? options : [make("option", { value: "", textContent: "no images here" })]));
});

// Let the user choose a film; `open` is called with its path.
export const choose = attempt(async (open) => {
  if (!$("chooser").open) $("chooser").showModal();
  const { films, images } = await ask("films");
  const button = (one) => make("li", {}, make("button", {
    type: "button", textContent: one.name,
    onclick: () => {
      $("chooser").close();
      open(one.path);
    },
  }));
  $("films").replaceChildren(...[...films, ...images].map(button));
  if (!films.length && !images.length) $("films").replaceChildren("There are no films. Start the studio with --folder.");
});
