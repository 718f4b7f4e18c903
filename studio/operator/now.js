// The lane as it is now: figures, models, nodes.

import { $, say, tell } from "../page.js";
import { clock, count, duration, el, figure, many, showRows, sum, UNKNOWN } from "./figures.js";

const SILENT_SECONDS = 20; // as the service itself counts
const STEADY = 0.05; // a trend below is none

/** What GET /v1/operator/overview says. */
export function showNow({ lane, models, nodes }) {
  say($("lane"), `operator \u00b7 ${lane}`);
  showTiles(models, nodes);
  $("no-models").hidden = models.length > 0;
  showRows($("models"), models.map(modelRow));
  $("no-nodes").hidden = nodes !== null;
  showRows($("nodes"), (nodes ?? []).map(nodeRow));
}

const jobsOf = (heat) => sum(Object.values(heat.waiting).map((tier) => tier.jobs + tier.parked_jobs));
const workOf = (heat) => sum(Object.values(heat.waiting).map((tier) => tier.gpu_seconds)) + heat.running_gpu_seconds;
const oldestOf = (heat) => Math.max(0, ...Object.values(heat.waiting).map((tier) => tier.oldest_seconds));

function showTiles(models, nodes) {
  const heats = models.map((one) => one.heat);
  const known = heats.filter((heat) => heat.drain_seconds !== null);
  const hottest = known.sort((a, b) => b.drain_seconds - a.drain_seconds)[0];
  const counted = models.filter((one) => one.decoders.running !== null);
  const starting = sum(counted.map((one) => one.decoders.starting ?? 0));
  const tightened = models.filter((one) => one.limits.level > 0);
  const alive = nodes?.filter((node) => node.alive);
  const dead = nodes ? nodes.length - alive.length : 0;
  const waiting = sum(heats.map(jobsOf));
  const tiles = [
    ["Heat", hottest ? duration(hottest.drain_seconds) : UNKNOWN, hottest ? trendWords(hottest) : "nothing was drawn lately",
      hottest && hottest.drain_seconds > 60 ? "hot" : ""],
    ["Waiting", count(waiting), `${many(waiting, "job").replace(/^.* /, "")}, ${figure(sum(heats.map(workOf)))} GPU-seconds ahead`, ""],
    ["Decoders", counted.length ? count(sum(counted.map((one) => one.decoders.running))) : UNKNOWN,
      !counted.length ? "no dispatcher says" : starting ? `${count(starting)} starting` : "all asked for draw", ""],
    ["Limits", tightened.length ? "Tightened" : "Usual",
      tightened.length ? tightened.map((one) => one.limits.reason)[0] : "every tier has what it was promised", tightened.length ? "hot" : ""],
    ["Nodes", alive ? count(alive.length) : UNKNOWN, !alive ? "not known here" : dead ? `${count(dead)} gone` : "all alive", ""],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value, words, mood]) =>
    el("div", { class: `tile ${mood}` }, el("dt", {}, name), el("dd", { class: "value" }, value), el("dd", { class: "words" }, words))));
}

function trendWords({ trend, drain_seconds: seconds }) {
  if (seconds === 0) return "nothing is ahead";
  if (trend === null || Math.abs(trend) < STEADY) return "until all is drawn, steady";
  return `until all is drawn, ${trend > 0 ? "rising" : "falling"} ${figure(Math.abs(trend))} s each second`;
}

const cell = (name, ...children) => el("td", { "data-name": name }, ...children);
const number = (name, value, more) =>
  el("td", { class: "number", "data-name": name }, value, more ? el("small", {}, more) : null);

function modelRow(one) {
  const { heat, decoders, limits } = one;
  const silent = one.seen_at === null || heat.read_at - one.seen_at > SILENT_SECONDS;
  const state = silent ? ["bad", "no dispatcher"] : !one.available ? ["bad", "no decoder"]
    : one.start_seconds !== null ? ["wait", `asleep, starts in ${duration(one.start_seconds)}`] : ["good", "draws"];
  const choose = el("button", { class: "link", "data-key": one.queue, onclick: () => tell("choose", one.queue) }, one.name);
  const slots = decoders.slots !== null && decoders.running !== null
    ? [count(decoders.slots * decoders.running), `${decoders.running} \u00d7 ${decoders.slots}`] : [UNKNOWN];
  return el("tr", { "data-row": one.queue },
    el("th", { scope: "row" }, choose, el("small", {}, one.family)),
    cell("State", el("span", { class: "state", "data-state": state[0] }, state[1])),
    number("Heat", duration(heat.drain_seconds)),
    number("Waiting", count(jobsOf(heat)), tierWords(heat)),
    number("Oldest", oldestOf(heat) ? duration(oldestOf(heat)) : UNKNOWN),
    number("Decoders", count(decoders.running), decoders.starting ? `${count(decoders.starting)} starting` : ""),
    number("Slots", ...slots),
    cell("Limits", limits.level ? tightenedWords(limits) : el("span", { class: "muted" }, "usual")),
  );
}

const tierWords = (heat) => Object.entries(heat.waiting)
  .filter(([, tier]) => tier.jobs + tier.parked_jobs)
  .map(([name, tier]) => `${name} ${count(tier.jobs + tier.parked_jobs)}`).join(", ");

function tightenedWords({ level, reason, tiers }) {
  const names = Object.entries(tiers).filter(([, tier]) => tier.now).map(([name, tier]) => `${name}: ${promiseWords(tier)}`);
  return el("span", { title: reason }, `level ${level}`, el("small", {}, names.join("; ")));
}

function promiseWords({ usual, now }) {
  const words = {
    images_per_day: (n) => `${n} images a day`, queued_jobs: (n) => `${n} waiting`,
    concurrent_renders: (n) => `${n} at a time`, newcomers_percent: (n) => `${n} % of newcomers`,
  };
  return Object.keys(words).filter((name) => usual[name] !== now[name])
    .map((name) => `${words[name](now[name])} (usually ${usual[name] ?? "any"})`).join(", ");
}

function nodeRow(node) {
  const [mood, state] = !node.alive ? ["bad", "gone"] : node.draining ? ["wait", "told to leave"] : ["good", "alive"];
  const runs = Object.entries(node.replicas).map(([name, replicas]) =>
    el("span", { class: "runs" }, name.split("/").at(-1), replicas > 1 ? ` \u00d7 ${replicas}` : ""));
  return el("tr", { "data-row": node.id },
    el("th", { scope: "row" }, node.address, el("small", { title: node.id }, `${node.id.slice(0, 8)}${node.head ? ", head" : ""}`)),
    cell("State", el("span", { class: "state", "data-state": mood }, state), node.gone_at ? el("small", {}, `until ${clock(node.gone_at)}`) : null),
    number("CPUs", figure(node.num_cpus)), number("GPUs", figure(node.num_gpus)),
    cell("Runs", runs.length ? el("span", {}, ...runs) : el("span", { class: "muted" }, "nothing")),
  );
}
