// One job: its facts, and its life as a line of time for each image.

import { api, session } from "../api.js";
import { $, hear, say, tell } from "../page.js";
import { clock, count, duration, el, figure, showRows, UNKNOWN } from "./figures.js";
import { doing, stateOf } from "./jobs.js";

const PHASES = {
  queued: "in the queue", prepared: "prompt encoded and screened", slot: "waiting for a slot",
  drawn: "drawn", finished: "pixels screened, filed and stored",
};

let open = null; // the job that is shown

async function show(id) {
  say($("jobs-said"), "");
  try {
    fill(await jobOf(id, session()));
    if (!$("job").open) $("job").showModal();
  } catch (error) {
    if (error.name !== "AbortError")
      tell("jobs-problem", error.status ? `${id}: ${error.message}` : "The service does not answer.");
  }
}

const jobOf = async (id, signal) => (await api(`v1/operator/jobs/${encodeURIComponent(id)}`, { signal })).json();

/** The job that is shown, as it is now, as long as it goes on. */
export async function lookAtJob(signal) {
  if (open === null || open.finished_at !== null) return;
  const job = await jobOf(open.id, signal);
  if (open?.id === job.id) fill(job);
}

function fill(job) {
  const unfolded = [...$("life").querySelectorAll("details")].map((one) => one.open);
  const same = open?.id === job.id;
  open = job;
  say($("job-title"), `Job ${job.id}`);
  const facts = {
    State: stateOf(job), Tenant: `${job.tenant} (${job.tier})`, Model: job.model,
    Images: `${job.n} \u00d7 ${job.size}, ${job.quality}${job.edit ? ", an edit" : ""}`,
    Accepted: clock(job.created_at, 86401),
    Took: duration((job.finished_at ?? Date.now() / 1000) - job.created_at) + (job.finished_at ? "" : " so far"),
    Passes: `${count(job.passes_done)} of ${count(job.passes_total)}`,
    "GPU-seconds": `${figure(job.gpu_seconds)} (${figure(job.predicted_gpu_seconds)} predicted)`,
    Energy: job.joules === null ? UNKNOWN : `${figure(job.joules)} J`,
    "Failed tries": count(job.attempts), Preempted: job.preemptions ? `${count(job.preemptions)}\u00d7` : "never",
    Dispatcher: job.worker ?? UNKNOWN, Deadline: clock(job.deadline_at, 86401),
    ...(job.errors.length ? { Errors: job.errors.join("; ") } : {}),
  };
  $("job-facts").replaceChildren(...Object.entries(facts).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("life").replaceChildren(...lifeOf(job));
  if (same) $("life").querySelectorAll("details").forEach((one, i) => (one.open = unfolded[i]));
  if (!same) say($("job-said"), "");
  showRows($("job-actions"), job.actions.map((action) => doing(job, action)));
}

// What an image is in after an event; others change nothing, null is done.
const AFTER = {
  accepted: "queued", claimed: "prepared", encoded: "slot", slot: "drawn", first_pass: "drawn", last_pass: "finished",
  stored: null, ended: null, preempted: "queued", handed_on: "queued", lost: "queued",
};
const WORDS = {
  accepted: () => "accepted",
  claimed: ({ worker, lease }) => `taken by ${worker ? `dispatcher ${worker}` : "a dispatcher"}${lease > 1 ? `, lease ${lease}` : ""}`,
  encoded: () => "prompt encoded and screened",
  slot: ({ replica, passes }) => `slot on ${replica}${passes ? `, goes on after pass ${passes}` : ""}`,
  first_pass: () => "first pass done",
  last_pass: () => "last pass done",
  screened: () => "pixels screened",
  filed: () => "file encoded, marked and signed",
  stored: () => "stored",
  preempted: ({ passes }) => `preempted after ${passes ?? 0} passes, waits again`,
  handed_on: ({ passes }) => `handed back after ${passes ?? 0} passes, waits again`,
  lost: () => "its dispatcher was gone, waits again",
  ended: ({ state }) => `the job ended: ${state}`,
};

/** What one image went through: spans of time, and the events that made them. */
export function storyOf(timeline, index, now) {
  const events = timeline.filter((one) => one.image === null || one.image === index);
  const spans = [];
  let phase = null, from = 0;
  const until = (at) => phase && at > from && spans.push({ phase, from, to: at });
  for (const { event, at } of events) {
    if (!(event in AFTER) || (AFTER[event] === phase && event !== "slot")) continue;
    until(at);
    phase = AFTER[event];
    from = at;
  }
  until(now);
  return { spans, events };
}

function lifeOf(job) {
  const now = Math.max(Date.now() / 1000, job.created_at);
  const ends = job.finished_at ?? now;
  const whole = Math.max(0.001, ends - job.created_at);
  const stories = job.images.map((image) => [image, storyOf(job.timeline, image.index, ends)]);
  const phases = [...new Set(stories.flatMap(([, story]) => story.spans.map((one) => one.phase)))];
  return [
    el("ul", { class: "legend" }, ...Object.keys(PHASES).filter((one) => phases.includes(one)).map((phase) =>
      el("li", { class: `p-${phase}` }, el("i", {}), PHASES[phase]))),
    ...stories.map(([image, story]) => el("div", { class: "image-life" },
      el("h4", {}, `Image ${image.index + 1}`, el("small", {}, ` ${image.state}${image.error ? `: ${image.error}` : ""}`)),
      track(story.spans, job.created_at, whole),
      el("details", { open: stories.length === 1 },
        el("summary", {}, "What happened, in words"),
        el("ol", {}, ...story.events.map((one) => el("li", {},
          el("b", {}, `+${duration(Math.max(0, one.at - job.created_at))}`), WORDS[one.event]?.(one) ?? one.event)))))),
    el("p", { class: "scale" }, el("span", {}, "0 s"), el("span", {}, duration(whole))),
  ];
}

function track(spans, from, whole) {
  const bar = el("div", { class: "track", "aria-hidden": "true" });
  for (const one of spans) {
    const part = el("i", { class: `p-${one.phase}`, title: `${PHASES[one.phase]}: ${duration(one.to - one.from)}` });
    part.style.left = `${(100 * (one.from - from)) / whole}%`;
    part.style.width = `${(100 * (one.to - one.from)) / whole}%`;
    bar.append(part);
  }
  return bar;
}

$("job-close").addEventListener("click", () => $("job").close());
$("job").addEventListener("close", () => (open = null));
hear("show-job", show);
hear("job-changed", (id) => open?.id === id && show(id));
