// The easel: jobs under way, and the last ones that ended. It holds no truth: after a reload the
// list of jobs comes back, and the streams of those that still run are taken up.

import { api, readEvents, session, sleep } from "./api.js";
import { makeFrame, showImage, showPreview } from "./frame.js";
import { $, announce, copyOf, tell } from "./page.js";
import { hangJob } from "./wall.js";
import { ENDED, jobWords } from "./words.js";

const STREAMS = 3; // a browser opens six connections to a server: leave some for pictures
const cards = new Map(); // job id -> {job, element, frames, streaming}

/** A job that was just handed in, before all others that ended. */
export function accept(job) {
  clearEnded();
  place(job);
  announce(`Accepted: ${job.prompt}`);
  watchNext();
}

/** A job of the list, shown as it is now. */
export function place(job) {
  const card = cards.get(job.id);
  if (card && !card.streaming) showJob(card, job);
  if (card) return;
  if (ENDED.has(job.state)) hangJob(job);
  else makeCard(job);
}

export function clearEasel() {
  cards.clear();
  $("now").replaceChildren();
  $("now-section").hidden = true;
}

export function watchNext() {
  const open = [...cards.values()].filter((card) => !ENDED.has(card.job.state));
  const free = STREAMS - open.filter((card) => card.streaming).length;
  const waiting = open.filter((card) => !card.streaming);
  waiting.sort((a, b) => a.job.created_at - b.job.created_at);
  waiting.slice(0, Math.max(0, free)).forEach(watch);
}

async function watch(card) {
  const signal = session();
  card.streaming = true;
  let last = "", pause = 0.5;
  while (!signal.aborted && !ENDED.has(card.job.state)) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await api(`v1/jobs/${card.job.id}/events`, { headers, signal });
      for await (const { event, id, data } of readEvents(answer.body)) {
        pause = 0.5;
        if (id) last = id;
        if (event === "preview") {
          showPreview(card.frames[data.index], data);
          tell("preview", data);
        }
        if (event === "job") showJob(card, data);
      }
    } catch (error) {
      if (error.status === 404) takeDown(card);
      if (signal.aborted || error.status === 404) break;
      console.warn(error);
      tell("lost");
    }
    if (ENDED.has(card.job.state)) break;
    await sleep(pause);
    pause = Math.min(8, pause * 2);
  }
  card.streaming = false;
  if (!signal.aborted) watchNext();
}

function makeCard(job) {
  const element = copyOf("job-template");
  element.querySelector("h3").textContent = job.prompt;
  const frames = job.images.map((image) => makeFrame(job, image));
  element.querySelector(".frames").append(...frames.map((frame) => frame.element));
  const card = { job, element, frames, streaming: false };
  element.querySelector(".cancel").addEventListener("click", () => cancel(card));
  cards.set(job.id, card);
  $("now").append(element); // as they were handed in: the order of the queue
  $("now-section").hidden = false;
  showJob(card, job);
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
  tell("job", job);
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
    card.element.querySelector(".status").textContent = error.message;
    button.disabled = false;
  }
}

function clearEnded() {
  const ended = [...cards.values()].filter((card) => ENDED.has(card.job.state));
  ended.sort((a, b) => a.job.created_at - b.job.created_at);
  for (const card of ended) {
    takeDown(card);
    hangJob(card.job);
  }
}
