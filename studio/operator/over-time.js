// The lane over time: four charts of one model, and what was decided.

import { $, hear, tell } from "../page.js";
import { makeChart } from "./chart.js";
import { clock, el, many, showRows, sum } from "./figures.js";

const MOST_DECISIONS = 60;

const charts = {
  heat: makeChart($("chart-heat"), {
    title: "Heat", unit: "s", axis: "seconds", hint: "How long all that is ahead would take",
  }),
  waiting: makeChart($("chart-waiting"), {
    title: "Waiting", unit: "jobs", axis: "jobs", hint: "In the queue, by tier", whole: true,
  }),
  decoders: makeChart($("chart-decoders"), {
    title: "Decoders", unit: "replicas", axis: "replicas", hint: "\u25b2\u25bc mark what the scaling policy decided", whole: true,
  }),
  work: makeChart($("chart-work"), {
    title: "Work", unit: "GPU-s/s", axis: "GPU-seconds a second", hint: "What comes in, and what is drawn",
  }),
};

let found = null, thresholds = [], chosen = null;

const model = () => found?.models.find((one) => one.queue === chosen) ?? found?.models[0];

/** What GET /v1/operator/history says; thresholds: of temporary limits. */
export function showHistory(history, limits) {
  found = history;
  thresholds = limits;
  showModels();
  show();
}

function showModels() {
  const select = $("of-model");
  const names = found.models.map((one) => one.name);
  $("of-model-choice").hidden = names.length < 2;
  if (JSON.stringify([...select.options].map((one) => one.text)) !== JSON.stringify(names))
    select.replaceChildren(...found.models.map((one) => new Option(one.name, one.queue)));
  if (model()) select.value = model().queue;
}

function show() {
  const one = model();
  if (!one) return;
  const { samples, scaling, limits } = one;
  const to = found.read_at, from = to - found.window_seconds;
  const times = samples.map((sample) => sample.at);
  const finest = found.window_seconds > 6 * 3600 ? 300 : 10;
  const gapSeconds = 3.5 * Math.max(finest, found.window_seconds / 240);
  const base = { times, from, to, gapSeconds };
  const of = (name) => samples.map((sample) => sample[name]);
  charts.heat.show({
    ...base,
    series: [{ name: "Drain time", colour: "heat", kind: "area", values: of("drain_seconds") }],
    levels: thresholds.map((level, i) => ({ value: level.above_seconds, name: thresholds.length > 1 ? `limits tighten, level ${i + 1}` : "limits tighten" })),
    bands: bandsOf(limits, to),
  });
  charts.waiting.show({ ...base, stacked: true, series: waitingByTier(samples) });
  charts.decoders.show({
    ...base,
    series: [
      { name: "With those that start", colour: 2, kind: "step", dashed: true,
        values: samples.map((s) => (s.running === null ? null : s.running + (s.starting ?? 0))) },
      { name: "Drawing", colour: 1, kind: "step", values: of("running") },
    ],
    marks: scaling.map((change) => ({ at: change.at, up: wayOf(change), name: scalingWords(change) })),
  });
  charts.work.show({
    ...base,
    series: [
      { name: "Accepted", colour: 3, kind: "line", values: of("arrival_rate") },
      { name: "Drawn", colour: 1, kind: "line", values: of("render_rate") },
    ],
  });
  showDecisions(one);
}

function waitingByTier(samples) {
  const tiers = [...new Set(samples.flatMap((sample) => Object.keys(sample.waiting_jobs)))].sort();
  const named = tiers.map((tier, i) => ({
    name: tier, colour: 1 + (i % 5), kind: "area",
    values: samples.map((sample) => sample.waiting_jobs[tier] ?? 0),
  }));
  const none = { name: "All tiers", colour: 1, kind: "area", values: samples.map((s) => sum(Object.values(s.waiting_jobs))) };
  return named.length ? named : [none];
}

/** While limits were tightened. */
const bandsOf = (limits, to) => limits
  .map((change, i) => ({ from: change.at, to: limits[i + 1]?.at ?? to, level: change.to_level }))
  .filter((band) => band.level > 0)
  .map((band) => ({ ...band, name: `Limits ${band.level}` }));

const wayOf = ({ from_replicas: from, to_replicas: to }) => (from === to ? null : to > from);

const scalingWords = ({ from_replicas: from, to_replicas: to, reason }) =>
  from === to ? `holds ${to}: ${reason}` : `${from} to ${to}: ${reason}`;

function showDecisions({ scaling, limits }) {
  const from = found.read_at - found.window_seconds;
  const rows = [
    ...scaling.map((one) => ({
      at: one.at, kind: "Scaling", reason: one.reason,
      what: one.from_replicas === one.to_replicas
        ? `holds ${many(one.to_replicas, "decoder")}`
        : `${one.from_replicas} \u2192 ${many(one.to_replicas, "decoder")}`,
    })),
    ...limits.filter((one) => one.at >= from).map((one) => ({
      at: one.at, kind: "Limits", reason: one.reason,
      what: one.to_level === 0 ? "back to usual" : `level ${one.from_level} \u2192 ${one.to_level}`,
    })),
  ].sort((a, b) => b.at - a.at);
  $("no-decisions").hidden = rows.length > 0;
  showRows($("decisions"), rows.slice(0, MOST_DECISIONS).map((row) => el("li", { "data-kind": row.kind, "data-row": `${row.kind} ${row.at}` },
    el("time", { datetime: new Date(row.at * 1000).toISOString() },
      clock(row.at, found.window_seconds > 86400 ? found.window_seconds : 0)),
    el("span", { class: "badge" }, row.kind), el("strong", {}, row.what), el("span", { class: "why" }, row.reason))));
}

$("of-model").addEventListener("change", () => tell("choose", $("of-model").value));
hear("choose", (queue) => {
  chosen = queue;
  $("of-model").value = queue;
  show();
});

