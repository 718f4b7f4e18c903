// Talking to the service with the visitor's key.

const SERVICE = new URL("../", import.meta.url); // the lane's own prefix, wherever it is mounted
const SILENCE_SECONDS = 35; // several keep-alives: a quieter stream is dead

export const sleep = (seconds) => new Promise((wake) => setTimeout(wake, seconds * 1000));

let under = new AbortController(); // everything under way with the present key
let key = "";

export const hasKey = () => key !== "";

/** Aborted once another key takes over. */
export const session = () => under.signal;

export function useKey(other) {
  under.abort();
  under = new AbortController();
  key = other;
}

/** The answer; throws an Error with `status` and `param` in the service's own words. */
export async function api(path, options = {}) {
  const headers = { Authorization: `Bearer ${key}`, ...options.headers };
  const answer = await fetch(new URL(path, SERVICE), { signal: under.signal, ...options, headers });
  if (answer.ok) return answer;
  const { error = {} } = await answer.json().catch(() => ({}));
  const message = error.message || `The service answered ${answer.status}.`;
  throw Object.assign(new Error(message), { status: answer.status, param: error.param });
}

/** Hands in an order; the job that was made of it. */
export async function order(path, wishes) {
  const answer = await api(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Prefer: "respond-async" },
    body: JSON.stringify(wishes),
  });
  return answer.json();
}

/** What a person should read when an order failed. */
export const orderWords = (error) =>
  error.status ? error.message : "The service does not answer. Nothing was sent.";

export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const silent = () => sleep(SILENCE_SECONDS).then(() => Promise.reject(new Error("silence")));
  let text = "";
  try {
    for (;;) {
      const { value, done } = await Promise.race([reader.read(), silent()]);
      if (done) return;
      text = (text + value).replaceAll("\r\n", "\n");
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const event = parseEvent(text.slice(0, end));
        if (event.data) yield { ...event, data: JSON.parse(event.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  const event = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  return event;
}
