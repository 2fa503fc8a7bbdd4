// Ask the server.

import { say } from "./view.js";

// Ask the server; `values` are sent as JSON, and a file as it is.
export async function ask(path, values) {
  const file = values instanceof Blob;
  const options = values === undefined ? {} : {
    method: "POST",
    headers: { "content-type": file ? "application/octet-stream" : "application/json" },
    body: file ? values : JSON.stringify(values),
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
  throw Object.assign(new Error(reason), { stale: answer.status === 409 });
}

// Return a function that shows its errors.
export function attempt(work) {
  return async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      say(error.message, true);
    }
  };
}
