// The studio: one page over the public API, with the visitor's key. It holds no truth: after a
// reload it lists the jobs and takes up the streams of those that still run.

const ENDED = new Set(["succeeded", "failed", "blocked", "cancelled", "expired"]);
const SERVICE = new URL("../", import.meta.url); // the lane's own prefix, wherever it is mounted
const IDEAS = ["a red fox", "a strawberry", "an octopus", "a birthday cake", "a rocket", "a cactus"];
const LISTED = 60;
const LIST_SECONDS = 5;
const SILENCE_SECONDS = 35; // several keep-alives: a quieter stream is dead
const STREAMS = 3; // a browser opens six connections to a server: leave some for pictures

const $ = (id) => document.getElementById(id);
const sleep = (seconds) => new Promise((wake) => setTimeout(wake, seconds * 1000));

const cards = new Map(); // job id -> {job, element, frames, streaming}: what stands on the easel
const hung = new Set(); // ids of the jobs on the wall
const pictures = new Map(); // "job/index" -> promise of a blob URL
let session = new AbortController(); // everything under way with the present key
let model = "";

// Talking to the service

async function api(path, options = {}) {
  const headers = { Authorization: `Bearer ${$("key").value.trim()}`, ...options.headers };
  const answer = await fetch(new URL(path, SERVICE), { signal: session.signal, ...options, headers });
  if (answer.ok) return answer;
  const { error = {} } = await answer.json().catch(() => ({}));
  const message = error.message || `The service answered ${answer.status}.`;
  throw Object.assign(new Error(message), { status: answer.status, param: error.param });
}

async function* readEvents(body) {
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

async function watch(card) {
  const { signal } = session;
  card.streaming = true;
  let last = "", pause = 0.5;
  while (!signal.aborted && !ENDED.has(card.job.state)) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await api(`v1/jobs/${card.job.id}/events`, { headers, signal });
      for await (const { event, id, data } of readEvents(answer.body)) {
        pause = 0.5;
        if (id) last = id;
        if (event === "preview") showPreview(card, data);
        if (event === "job") showJob(card, data);
      }
    } catch (error) {
      if (error.status === 404) takeDown(card);
      if (signal.aborted || error.status === 404) break;
      console.warn(error);
      serviceIs("bad", "connection lost, trying again");
    }
    if (ENDED.has(card.job.state)) break;
    await sleep(pause);
    pause = Math.min(8, pause * 2);
  }
  card.streaming = false;
  if (!signal.aborted) watchNext();
}

function watchNext() {
  const open = [...cards.values()].filter((card) => !ENDED.has(card.job.state));
  const free = STREAMS - open.filter((card) => card.streaming).length;
  const waiting = open.filter((card) => !card.streaming);
  waiting.sort((a, b) => a.job.created_at - b.job.created_at);
  waiting.slice(0, Math.max(0, free)).forEach(watch);
}

function serviceIs(state, words) {
  $("service").dataset.state = state;
  if ($("service").textContent !== words) $("service").textContent = words;
}

async function refresh() {
  const { signal } = session;
  if (!$("key").value.trim()) return serviceIs("wait", "enter a key");
  try {
    await api("/readyz");
    if (!model) model = (await (await api("v1/models")).json()).data[0].id;
    const { data } = await (await api(`v1/jobs?limit=${LISTED}`)).json();
    if (signal.aborted) return;
    data.reverse().forEach(place);
    showLimits(await (await api("v1/limits")).json());
    $("empty").hidden = data.length > 0;
    serviceIs("good", `${model} is ready`);
    watchNext();
  } catch (error) {
    if (signal.aborted) return;
    serviceIs("bad", error.status === 401 ? "this key is not known" : "not answering, trying again");
  }
}

function showLimits(limits) {
  const words = limits.temporary ? limitWords(limits) : "";
  if ($("limits").textContent !== words) $("limits").textContent = words;
  $("limits").hidden = !words;
}

function limitWords(limits) {
  const words = {
    images_per_day: (n) => `${n} picture${n === 1 ? "" : "s"} a day`,
    concurrent_renders: (n) => `${n} drawn at a time`,
    queued_jobs: (n) => `${n} waiting`,
  };
  const tighter = Object.keys(words)
    .filter((name) => limits[name].limit !== limits.usual[name])
    .map((name) => `${words[name](limits[name].limit)} (usually ${limits.usual[name] ?? "any number"})`);
  if (!limits.open) tighter.unshift("new accounts come in step by step");
  if (!tighter.length) return "";
  const since = new Date(limits.since * 1000).toLocaleTimeString([], { timeStyle: "short" });
  return `Temporary limits: ${tighter.join(", ")}, since ${since}. They end by themselves when the rush is over.`;
}

function place(job) {
  const card = cards.get(job.id);
  if (card && !card.streaming) showJob(card, job);
  if (card || hung.has(job.id)) return;
  if (ENDED.has(job.state)) hangJob(job);
  else makeCard(job);
}

function pictureOf(job, image) {
  const name = `${job.id}/${image.index}`;
  if (!pictures.has(name)) {
    const loading = api(`v1/jobs/${job.id}/images/${image.index}`)
      .then((answer) => answer.blob())
      .then((blob) => URL.createObjectURL(blob));
    loading.catch(() => pictures.delete(name));
    pictures.set(name, loading);
  }
  return pictures.get(name);
}

// The easel: jobs under way, and the last ones that ended

function makeCard(job) {
  const element = $("job-template").content.firstElementChild.cloneNode(true);
  element.querySelector("h3").textContent = job.prompt;
  const frames = job.images.map((image) => makeFrame(job, image));
  element.querySelector(".frames").append(...frames.map((frame) => frame.element));
  const card = { job, element, frames, streaming: false };
  element.querySelector(".cancel").addEventListener("click", () => cancel(card));
  cards.set(job.id, card);
  $("now").append(element); // as they were handed in: the order of the queue
  $("now-section").hidden = false;
  showJob(card, job);
  return card;
}

function showJob(card, job) {
  const before = card.job.state;
  card.job = job;
  const ended = ENDED.has(job.state);
  card.element.dataset.state = job.state;
  card.element.setAttribute("aria-busy", String(!ended));
  card.element.querySelector(".cancel").hidden = ended;
  card.element.querySelector(".status").textContent = jobWords(job);
  job.images.forEach((image, i) => showImage(card.frames[i], job, image));
  if (job.state !== before) announce(`${job.prompt}: ${jobWords(job)}`);
}

function jobWords(job) {
  const ahead = job.queue_position;
  const seconds = Math.max(1, (job.finished_at ?? 0) - job.created_at);
  switch (job.state) {
    case "queued":
      if (ahead === null) return "waiting";
      return ahead === 0 ? "first in the queue" : `${ahead} ahead in the queue`;
    case "leased": return "next";
    case "running": return `drawing: ${job.passes_done} of ${job.passes_total} passes`;
    case "finishing": return "finishing";
    case "succeeded": return `done in ${seconds} s`;
    default: return job.state;
  }
}

function takeDown(card) {
  cards.delete(card.job.id);
  card.element.remove();
  $("now-section").hidden = cards.size === 0;
}

async function cancel(card) {
  const button = card.element.querySelector(".cancel");
  button.disabled = true;
  try {
    const answer = await api(`v1/jobs/${card.job.id}`, { method: "DELETE" });
    showJob(card, await answer.json());
    button.textContent = "Cancelling";
  } catch (error) {
    complain(error);
    button.disabled = false;
  }
}

// Frames: one picture, on the easel or on the wall

function makeFrame(job, image) {
  const element = $("frame-template").content.firstElementChild.cloneNode(true);
  const frame = { element, plate: element.querySelector(".plate"), rank: 0, url: null };
  const title = job.n > 1 ? `${job.prompt}, picture ${image.index + 1} of ${job.n}` : job.prompt;
  frame.plate.setAttribute("aria-label", title);
  frame.plate.addEventListener("click", () => view(job, image, frame.url));
  element.querySelector(".caption").textContent = job.prompt;
  const ticks = element.querySelector(".ticks");
  ticks.setAttribute("aria-label", `Passes of ${title}`);
  ticks.setAttribute("aria-valuemax", image.passes_total);
  ticks.append(...Array.from({ length: image.passes_total }, () => document.createElement("i")));
  return frame;
}

function showImage(frame, job, image) {
  frame.element.dataset.state = image.state;
  const ticks = frame.element.querySelector(".ticks");
  ticks.setAttribute("aria-valuenow", image.passes_done);
  [...ticks.children].forEach((tick, i) => tick.classList.toggle("done", i < image.passes_done));
  const note = frame.element.querySelector(".note");
  note.hidden = !image.error;
  note.textContent = image.error ? errorWords(image.error) : "";
  if (image.error) frame.rank = Infinity; // a preview that is still loading comes too late
  if (image.state === "succeeded" && frame.rank < Infinity) showFinal(frame, job, image);
}

async function showFinal(frame, job, image) {
  frame.rank = Infinity;
  try {
    frame.url = await pictureOf(job, image);
    await setPicture(frame, frame.url, Infinity);
    frame.plate.disabled = false;
  } catch (error) {
    if (session.signal.aborted) return;
    if (error.status !== 404) frame.rank = 0; // the next look at the list tries again
    const note = frame.element.querySelector(".note");
    Object.assign(note, { hidden: false, textContent: error.message });
  }
}

function showPreview(card, preview) {
  const frame = card.frames[preview.index];
  if (frame.rank >= preview.pass) return;
  frame.rank = preview.pass;
  frame.element.dataset.preview = preview.pass;
  setPicture(frame, `data:image/${preview.output_format};base64,${preview.b64_json}`, preview.pass);
}

async function setPicture(frame, url, rank) {
  const picture = new Image();
  picture.alt = "";
  picture.src = url;
  await picture.decode();
  if (rank < frame.rank) return;
  const older = [...frame.plate.querySelectorAll("img")];
  picture.className = "arriving";
  frame.plate.append(picture);
  setTimeout(() => older.forEach((image) => image.remove()), 600);
}

function errorWords(error) {
  if (error.code !== "moderation_blocked") return error.message;
  const { categories = [], moderation_stage: stage } = error.moderation_details || {};
  const what = stage === "input" ? "The prompt" : "The picture";
  const why = categories.length ? ` (${categories.join(", ")})` : "";
  return `Blocked. ${what} was refused by the safety screen${why}.`;
}

// The wall: what was made, newest first, loaded as it comes into sight

const sight = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    sight.unobserve(target);
    target.load();
  }),
  { rootMargin: "300px" },
);

function hangJob(job) {
  hung.add(job.id);
  const frames = job.images.filter((image) => image.state !== "cancelled").map((image) => {
    const frame = makeFrame(job, image);
    frame.element.load = () => showImage(frame, job, image);
    sight.observe(frame.element);
    return frame.element;
  });
  $("made").prepend(...frames);
}

function clearEasel() {
  const ended = [...cards.values()].filter((card) => ENDED.has(card.job.state));
  ended.sort((a, b) => a.job.created_at - b.job.created_at);
  for (const card of ended) {
    takeDown(card);
    hangJob(card.job);
  }
}

function view(job, image, url) {
  const facts = {
    Seed: image.seed, Passes: image.passes_total, Quality: job.quality, Size: job.size,
    Made: new Date(job.created_at * 1000).toLocaleString(),
  };
  $("viewer-image").src = url;
  $("viewer-image").alt = job.prompt;
  $("viewer-title").textContent = job.prompt;
  $("viewer-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const pair = [document.createElement("dt"), document.createElement("dd")];
    pair[0].textContent = name;
    pair[1].textContent = value;
    return pair;
  }));
  $("viewer-save").href = url;
  $("viewer-save").download = `${job.prompt.replace(/\W+/g, "-").slice(0, 60)}-${image.seed}.${job.output_format}`;
  $("viewer").showModal();
}

// The person at the page

function announce(words) {
  $("announce").textContent = words;
}

function complain(error) {
  $("problem").textContent = error ? error.message : "";
  $("problem").hidden = !error;
}

async function draw(event) {
  event.preventDefault();
  const form = new FormData($("composer"));
  $("draw").disabled = true;
  complain(null);
  try {
    const answer = await api("v1/images/generations", {
      method: "POST",
      headers: { "Content-Type": "application/json", Prefer: "respond-async" },
      body: JSON.stringify({
        prompt: form.get("prompt").trim(), n: Number(form.get("n")), size: form.get("size"),
        quality: form.get("quality"), partial_images: 3,
      }),
    });
    clearEasel();
    const job = await answer.json();
    if (!cards.has(job.id)) makeCard(job);
    $("empty").hidden = true;
    announce(`Accepted: ${job.prompt}`);
    watchNext();
  } catch (error) {
    complain(error.status ? error : new Error("The service does not answer. Nothing was sent."));
    if (error.param === "prompt") $("prompt").focus();
  } finally {
    $("draw").disabled = false;
  }
}

function startSession() {
  session.abort();
  session = new AbortController();
  model = "";
  pictures.forEach((loading) => loading.then(URL.revokeObjectURL, () => {}));
  [cards, hung, pictures].forEach((kept) => kept.clear());
  $("now").replaceChildren();
  $("made").replaceChildren();
  $("now-section").hidden = true;
  refresh();
}

function usePrompt(prompt) {
  $("prompt").value = prompt;
  $("prompt").focus();
}

$("composer").addEventListener("submit", draw);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("key").addEventListener("change", () => {
  localStorage.setItem("meltproof-key", $("key").value.trim());
  startSession();
});
$("viewer-close").addEventListener("click", () => $("viewer").close());
$("viewer-again").addEventListener("click", () => {
  $("viewer").close();
  usePrompt($("viewer-title").textContent);
});
$("ideas").append(...IDEAS.map((idea) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: idea });
  button.addEventListener("click", () => usePrompt(idea));
  return button;
}));

const loopback = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
$("key").value = localStorage.getItem("meltproof-key") ?? (loopback ? "sk-local" : "");
startSession();
setInterval(() => document.visibilityState === "visible" && refresh(), LIST_SECONDS * 1000);
