// Palettes that are proposed, and the locks of the wells.

import { wells } from "./view.js";

export const draws = () => `gmm:${Math.floor(Math.random() * 2 ** 32)}`;

export function wellColors() {
  return wells().map((one) => one.text.value.trim());
}

// Return colors in which the locked ones have taken the places of those that are most similar.
export function withLocks(colors) {
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
