// Jobs of all tenants: the slow ones, the failed ones, one by its id. Cancelling and requeueing ask first.

import { api, session } from "../api.js";
import { $, announce, hear, say, tell } from "../page.js";
import { bar, count, duration, el, figure, many, showRows, UNKNOWN } from "./figures.js";

const LISTED = 10;
const DAY_SECONDS = 86400;
export const LISTS = { running: "Running", waiting: "Waiting", failed: "Failed", newest: "Newest" };
const FIRST = {
  running: "The one that was taken first comes first.", waiting: "The one with the nearest deadline comes first, which mostly waits longest.",
  failed: "Failed or expired in the last day, the last one first.", newest: "In any state, the newest first.",
};
const NONE = {
  running: "Nothing is being drawn.", waiting: "Nothing waits.",
  failed: "Nothing has failed in the last day.", newest: "No job yet.",
};
const ACTIONS = {
  cancel: { name: "Cancel", ask: "Cancel this job?", done: "cancelled",
    why: "It ends at its next pass, for every order that shares it. What it had drawn is lost." },
  requeue: { name: "Requeue", ask: "Let this job wait again?", done: "requeued",
    why: "Its images that failed are drawn from the first pass, at its place by its order of arrival, and count for today." },
};

let list = "running", readAt = 0, shown = [], next = null;

const query = {
  running: () => "slow=running", waiting: () => "slow=waiting", newest: () => "",
  failed: () => `failed_since=${Math.floor(Date.now() / 1000 - DAY_SECONDS)}`,
};

async function page(cursor, signal) {
  const after = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
  const answer = await api(`v1/operator/jobs?limit=${LISTED}&${query[list]()}${after}`, { signal });
  return answer.json();
}

/** The chosen list as it is now; what was asked for by "More" stays until another one is chosen. */
export async function lookAtJobs(signal) {
  if (shown.length > LISTED) return;
  const asked = list;
  const found = await page(null, signal);
  if (asked === list) showPage(found, []);
}

function showPage(found, before) {
  readAt = found.read_at;
  shown = [...before, ...found.data];
  next = found.next_cursor;
  $("no-jobs").hidden = shown.length > 0;
  say($("no-jobs"), NONE[list]);
  say($("jobs-hint"), FIRST[list]);
  $("more-jobs").hidden = next === null;
  showRows($("jobs"), shown.map(row));
}

export function chooseList(name) {
  list = name;
  shown = [];
  next = null;
  $("jobs").replaceChildren();
  lookAtJobs(session()).catch(complain);
}

function complain(error) {
  if (error.name !== "AbortError") say($("jobs-said"), error.message);
}

const cell = (name, ...children) => el("td", { "data-name": name }, ...children);

function row(job) {
  const since = job.finished_at ?? job.created_at;
  const short = job.id.length > 14 ? `${job.id.slice(0, 4)}\u2026${job.id.slice(-6)}` : job.id;
  return el("tr", { "data-row": job.id },
    el("th", { scope: "row" }, el("button", { class: "link mono", title: job.id, "data-key": job.id, onclick: () => tell("show-job", job.id) }, short)),
    cell("Tenant", job.tenant, el("small", {}, job.tier)),
    cell("Model", job.model, el("small", {}, `${job.n} \u00d7 ${job.size}${job.edit ? ", edit" : ""}`)),
    cell("State", stateOf(job), job.errors.length ? el("small", { title: job.errors.at(-1) }, job.errors.at(-1)) : null),
    el("td", { class: "number", "data-name": "Age" }, duration(Math.max(0, readAt - since)),
      el("small", {}, job.finished_at === null ? "since it came" : "since it ended")),
    cell("Progress", progress(job)),
    el("td", { class: "does" }, ...job.actions.map((action) => doing(job, action))),
  );
}

const MOODS = { succeeded: "good", failed: "bad", expired: "bad", blocked: "bad" };

export const stateOf = (job) => el("span", { class: "state", "data-state": MOODS[job.state] ?? "wait" },
  job.cancel_requested && !job.finished_at ? "cancelling" : job.state);

function progress(job) {
  const name = `${count(job.passes_done)} of ${count(job.passes_total)} passes`;
  const more = [job.attempts ? `failed ${job.attempts}\u00d7` : "", job.preemptions ? `preempted ${job.preemptions}\u00d7` : ""].filter(Boolean);
  return bar(job.passes_done, job.passes_total, [name, ...more].join(", "));
}

export const doing = (job, action) => el("button", {
  class: "small", "data-row": action, "data-key": `${action} ${job.id}`, "aria-label": `${ACTIONS[action].name} job ${job.id}`,
  onclick: () => act(job, action),
}, ACTIONS[action].name);

/** Asks, does it, and shows what came of it. */
async function act(job, action) {
  const { name, ask, why, done } = ACTIONS[action];
  const { state } = shown.find((one) => one.id === job.id) ?? job;
  say($("confirm-title"), ask);
  say($("confirm-why"), `Job ${job.id} of ${job.tenant}, ${state}. ${why}`);
  say($("confirm-yes"), `${name} it`);
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "yes") return;
  const where = $("job").open ? $("job-said") : $("jobs-said");
  say(where, "");
  try {
    await api(`v1/operator/jobs/${job.id}/${action}`, { method: "POST" });
    announce(`Job ${job.id} is ${done}`);
  } catch (error) {
    say(where, error.status ? error.message : "The service does not answer. Whether it was done is not known: look at the job again.");
  }
  tell("job-changed", job.id);
  const found = await page(null, session()).catch(() => null);
  if (found) showPage(found, []);
}

// Who uses it

const TENANTS = 10;

export async function lookAtTenants(signal) {
  const { data } = await (await api(`v1/operator/tenants?limit=${TENANTS}`, { signal })).json();
  $("no-tenants").hidden = data.length > 0;
  showRows($("tenants"), data.map((one) => el("tr", { "data-row": one.tenant },
    el("th", { scope: "row" }, one.tenant),
    cell("Share", bar(one.share, 1, `${figure(one.gpu_seconds)} GPU-s, ${figure(100 * one.share)}\u00a0%`)),
    el("td", { class: "number", "data-name": "Images" }, count(one.images), el("small", {}, many(one.requests, "job"))),
    el("td", { class: "number", "data-name": "Energy" }, one.joules === null ? UNKNOWN : `${figure(one.joules)} J`))));
}

$("more-jobs").addEventListener("click", async () => {
  try {
    showPage(await page(next, session()), shown);
  } catch (error) {
    complain(error);
  }
});
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("find-id").value.trim();
  if (id) tell("show-job", id);
});
hear("jobs-problem", (words) => say($("jobs-said"), words));
