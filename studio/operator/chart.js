// One chart over time, drawn as SVG at the size that it has. Its values are read by pointer, by arrow
// keys, and by screen readers; all charts of the page show the same moment.

import { hear, tell } from "../page.js";
import { clock, day, el, figure, svg, UNKNOWN } from "./figures.js";

const HEIGHT = 190;
const EDGE = { top: 10, right: 10, bottom: 24, left: 42 };
const STEPS = [1, 2, 2.5, 5, 10];
const TIMES = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
const NEAR = 0.012; // of the window: marks that belong to the moment

/** Round numbers from 0 to at least `most`, four or five of them. */
function ticksTo(most, whole) {
  const raw = Math.max(most, whole ? 1 : 1e-6) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = power * STEPS.find((one) => one * power >= raw * 0.999);
  if (whole) step = Math.max(1, Math.ceil(step));
  const ticks = [0];
  while (ticks.at(-1) < most * 0.999 || ticks.length < 2) ticks.push(ticks.at(-1) + step);
  return ticks;
}

/** Full minutes, hours or days of the visitor's own time, as many as there is room for. */
function timesBetween(from, to, room) {
  const step = TIMES.find((one) => (to - from) / one <= room) ?? TIMES.at(-1);
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const times = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) times.push(at);
  return times;
}

/**
 * series: {name, colour (1 to 5, or "heat"), kind ("line", "area", "step"), values, dashed}; `values`
 * has one for each of `times`, null where it is unknown. stacked: areas stand on each other.
 * marks: {at, name, up}: triangles on the time axis. bands: {from, to, name}. levels: {value, name}.
 */
export function makeChart(figureElement, { title, unit, axis, hint, whole = false }) {
  const plot = svg("svg", { class: "plot", tabindex: 0, role: "application" });
  const tip = el("div", { class: "tip", hidden: true });
  const legend = el("ul", { class: "legend" });
  const said = el("p", { class: "unseen", "aria-live": "polite" });
  figureElement.append(
    el("figcaption", {}, el("h3", {}, title, el("small", {}, axis)), el("p", { class: "hint" }, hint)),
    legend, el("div", { class: "plot-room" }, plot, tip), said,
  );

  let shown = null, moment = null, x = null, y = null, ruler = null;

  const width = () => Math.max(240, Math.round(plot.getBoundingClientRect().width) || 560);

  function draw() {
    if (!shown) return;
    const { times, from, to, levels = [], bands = [], marks = [], stacked = false, series } = shown;
    const w = width(), right = w - EDGE.right, bottom = HEIGHT - EDGE.bottom;
    const tops = stacked ? stack(series) : series.map((one) => one.values);
    const values = tops.flat().filter((one) => one !== null);
    const top = Math.max(0, ...values);
    const ticks = ticksTo(Math.max(top, ...levels.map((one) => one.value).filter((one) => one <= top * 2)), whole);
    x = (at) => EDGE.left + ((at - from) / (to - from)) * (right - EDGE.left);
    y = (value) => bottom - (value / ticks.at(-1)) * (bottom - EDGE.top);
    plot.setAttribute("viewBox", `0 0 ${w} ${HEIGHT}`);
    plot.replaceChildren(
      ...bands.map((one) => band(one, from, to, bottom)),
      ...ticks.map((value) => gridline(value, right)),
      ...timesBetween(from, to, Math.max(2, Math.floor(w / 90))).map((at) => time(at, to - from, bottom)),
      ...levels.filter((one) => one.value <= ticks.at(-1)).map((one) => level(one, right)),
      ...shapes(series, tops, times, stacked, bottom),
      ...marks.filter((one) => one.at >= from).map((one) => mark(one, bottom)),
    );
    if (values.length === 0) {
      plot.append(svg("text", { class: "nothing", x: (EDGE.left + right) / 2, y: HEIGHT / 2 - 8, "text-anchor": "middle" },
        "Nothing was read in this window"));
    }
    ruler = svg("g", { class: "ruler" });
    plot.append(ruler);
    plot.setAttribute("aria-label", summary());
    showMoment();
  }

  function gridline(value, right) {
    return svg("g", { class: value === 0 ? "grid base" : "grid" },
      svg("line", { x1: EDGE.left, x2: right, y1: y(value), y2: y(value) }),
      svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, figure(value)));
  }

  function time(at, window, bottom) {
    const words = window > 2 * 86400 ? day(at) : clock(at, 1);
    return svg("text", { class: "time", x: x(at), y: bottom + 17, "text-anchor": "middle" }, words);
  }

  const level = ({ value, name }, right) => svg("g", { class: "level" },
    svg("line", { x1: EDGE.left, x2: right, y1: y(value), y2: y(value) }),
    svg("text", { x: EDGE.left + 5, y: y(value) + (y(value) < EDGE.top + 14 ? 14 : -5) }, name));

  function band({ from: begins, to: ends, name }, from, to, bottom) {
    const left = x(Math.max(from, begins)), right = x(Math.min(to, ends));
    const parts = [svg("rect", { x: left, y: EDGE.top, width: Math.max(1, right - left), height: bottom - EDGE.top })];
    if (right - left > 70) parts.push(svg("text", { x: left + 5, y: EDGE.top + 13 }, name));
    return svg("g", { class: "band" }, ...parts);
  }

  const mark = ({ at, up }, bottom) => svg("path", {
    class: up === null ? "mark held" : "mark",
    d: up === null ? `M${x(at)} ${bottom - 4}l4 4l-4 4l-4 -4z`
      : up ? `M${x(at)} ${bottom - 6}l5 9h-10z` : `M${x(at)} ${bottom + 5}l5 -9h-10z`,
  });

  function shapes(series, tops, times, stacked, bottom) {
    const made = series.map((one, i) => {
      const step = one.kind === "step";
      const runs = runsOf(times, tops[i], shown.gapSeconds);
      const group = svg("g", { class: `series c-${one.colour}${one.dashed ? " dashed" : ""}${stacked ? " stacked" : ""}` });
      for (const run of runs) {
        const line = pathOf(run.map((k) => [x(times[k]), y(tops[i][k])]), step);
        if (one.kind !== "line" && !one.dashed) {
          const floor = run.map((k) => [x(times[k]), stacked && i > 0 ? y(tops[i - 1][k] ?? 0) : bottom]).reverse();
          group.append(svg("path", { class: "area", d: `${line}L${pathOf(floor, false).slice(1)}Z` }));
        }
        group.append(svg("path", { class: "line", d: line }));
        if (run.length === 1) group.append(svg("circle", { cx: x(times[run[0]]), cy: y(tops[i][run[0]]), r: 2 }));
      }
      return group;
    });
    return stacked ? made.reverse() : made;
  }

  // What is read

  function index(at) {
    const { times } = shown;
    let best = -1;
    times.forEach((one, i) => {
      if (best < 0 || Math.abs(one - at) < Math.abs(times[best] - at)) best = i;
    });
    return best;
  }

  function readings(i) {
    return shown.series.map((one) => [one, one.values[i] ?? null]);
  }

  const near = (at) => (shown.marks ?? []).filter((one) => Math.abs(one.at - at) < NEAR * (shown.to - shown.from));

  function words(i) {
    const values = readings(i).map(([one, value]) => `${one.name} ${value === null ? "unknown" : figure(value)}`);
    const events = near(shown.times[i]).map((one) => one.name);
    return `${clock(shown.times[i], shown.to - shown.from)}: ${values.join(", ")} ${unit}${events.map((one) => `; ${one}`).join("")}`;
  }

  function summary() {
    const last = shown.times.length - 1;
    const now = last < 0 ? "nothing was read" : words(last);
    return `${title}, ${axis}. ${now}. Left and right arrow keys read the chart.`;
  }

  function showLegend(i) {
    legend.replaceChildren(...shown.series.map((one) => {
      const value = i < 0 ? null : one.values[i] ?? null;
      return el("li", { class: `c-${one.colour}${one.dashed ? " dashed" : ""}` },
        el("i", {}), one.name, el("b", {}, value === null ? UNKNOWN : figure(value)));
    }));
  }

  function showMoment() {
    ruler.replaceChildren();
    const i = moment === null ? -1 : index(moment.at);
    tip.hidden = i < 0 || moment.chart !== plot;
    showLegend(i < 0 ? shown.times.length - 1 : i);
    if (i < 0) return;
    const at = shown.times[i], left = x(at);
    ruler.append(svg("line", { x1: left, x2: left, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    const tops = shown.stacked ? stack(shown.series) : shown.series.map((one) => one.values);
    tops.forEach((values, k) => {
      if ((values[i] ?? null) !== null)
        ruler.append(svg("circle", { class: `c-${shown.series[k].colour}`, cx: left, cy: y(values[i]), r: 3.5 }));
    });
    if (tip.hidden) return;
    tip.replaceChildren(
      el("strong", {}, clock(at, shown.to - shown.from)),
      ...readings(i).map(([one, value]) => el("span", { class: `c-${one.colour}` }, el("i", {}), one.name,
        el("b", {}, value === null ? UNKNOWN : `${figure(value)} ${unit}`))),
      ...near(at).map((one) => el("em", {}, one.name)),
    );
    const scale = plot.getBoundingClientRect().width / width();
    tip.classList.toggle("at-left", left > width() / 2);
    tip.style.left = `${left * scale}px`;
  }

  function look(at) {
    if (!shown || shown.times.length === 0) return;
    tell("moment", at === null ? null : { at, chart: plot });
  }

  plot.addEventListener("pointermove", (event) => {
    if (!shown || !x) return;
    const box = plot.getBoundingClientRect();
    const part = ((event.clientX - box.left) / box.width) * width();
    look(shown.from + ((part - EDGE.left) / (width() - EDGE.left - EDGE.right)) * (shown.to - shown.from));
  });
  plot.addEventListener("pointerleave", () => look(null));
  plot.addEventListener("blur", () => look(null));
  plot.addEventListener("keydown", (event) => {
    if (!shown || shown.times.length === 0) return;
    const last = shown.times.length - 1;
    const now = moment === null ? last : index(moment.at);
    const next = {
      ArrowLeft: moment === null ? last : now - 1, ArrowRight: now + 1, Home: 0, End: last, Escape: null,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (next === null) return look(null);
    const i = Math.max(0, Math.min(last, next));
    look(shown.times[i]);
    said.textContent = words(i);
  });
  hear("moment", (at) => {
    moment = at;
    if (shown) showMoment();
  });
  new ResizeObserver(draw).observe(plot);

  return {
    show(what) {
      shown = what;
      draw();
    },
  };
}

/** Each series on top of those before it. */
function stack(series) {
  const floor = series[0]?.values.map(() => 0) ?? [];
  return series.map((one) => one.values.map((value, i) => (value === null ? null : (floor[i] += value))));
}

/** Indices of values that belong together: known, and read one after the other. */
function runsOf(times, values, gapSeconds) {
  const runs = [];
  let before = null;
  values.forEach((value, i) => {
    if (value === null) return (before = null);
    if (before === null || times[i] - times[before] > gapSeconds) runs.push([]);
    runs.at(-1).push(i);
    before = i;
  });
  return runs;
}

function pathOf(points, step) {
  return points.map(([px, py], i) => {
    const corner = step && i > 0 ? `H${px.toFixed(1)}` : "";
    return `${i === 0 ? "M" : `${corner}L`}${px.toFixed(1)} ${py.toFixed(1)}`;
  }).join("");
}
