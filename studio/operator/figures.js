// Elements, and numbers in words. Text from the service is only ever text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; strings among the children are text. A property of null is left out. */
export const el = (name, properties = {}, ...children) =>
  filled(document.createElement(name), properties, children);
export const svg = (name, properties = {}, ...children) =>
  filled(document.createElementNS(SVG, name), properties, children);

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Shows these rows or items, each with a data-row of its own. What is the same stays the same element,
    so that a click, the focus and a selection outlive a look at the service. */
export function showRows(parent, rows) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const before = new Map([...parent.children].map((row) => [row.dataset.row, row]));
  const now = rows.map((row) => updated(before.get(row.dataset.row), row));
  if (now.length !== parent.children.length || now.some((row, i) => row !== parent.children[i]))
    parent.replaceChildren(...now);
  if (focused && !parent.contains(document.activeElement))
    parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function updated(row, wanted) {
  if (!row || row.children.length !== wanted.children.length) return wanted;
  [...wanted.children].forEach((cell, i) => {
    if (!row.children[i].isEqualNode(cell)) row.children[i].replaceWith(cell);
  });
  return row;
}

export const UNKNOWN = "\u2013"; // an en dash

const known = (value) => value !== null && value !== undefined;

/** 0.42, 4.2, 42, 4,200: as many digits as are worth reading. */
export function figure(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  const digits = size === 0 || size >= 10 ? 0 : size >= 1 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export const count = (value) => (known(value) ? value.toLocaleString("en") : UNKNOWN);

/** "4 s", "2 min 5 s", "3 h 20 min", "2 d 4 h" */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 10) return `${figure(seconds)} s`;
  const whole = Math.round(seconds);
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  const [name, size] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % size) / next[1]) : 0;
  return `${Math.floor(whole / size)} ${name}${rest ? ` ${rest} ${next[0]}` : ""}`;
}

const MINUTES = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

/** A moment as precisely as the window asks for: with seconds, without, or with the day. */
export function clock(at, windowSeconds = 0) {
  const date = new Date(at * 1000);
  const time = date.toLocaleTimeString("en", windowSeconds ? MINUTES : { ...MINUTES, second: "2-digit" });
  return windowSeconds > 86400 ? `${day(at)}, ${time}` : time;
}

/** "Mon 30" */
export function day(at) {
  const date = new Date(at * 1000);
  return `${date.toLocaleDateString("en", { weekday: "short" })} ${date.getDate()}`;
}

/** How much of the whole, as a bar with words under it. */
export function bar(value, most, words) {
  const filled = el("i", {});
  filled.style.width = `${Math.min(100, (100 * value) / Math.max(most, 1e-9))}%`;
  const meter = { class: "bar", role: "meter", "aria-valuemin": 0, "aria-valuemax": most, "aria-valuenow": value, "aria-label": words };
  return el("span", { class: "progress" }, el("span", meter, filled), el("small", {}, words));
}

export const sum = (values) => values.reduce((total, one) => total + one, 0);

/** "1 job", "2 jobs" */
export const many = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
