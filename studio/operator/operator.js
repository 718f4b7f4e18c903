// The operator's view: the key, and the looks at the service.

import { api, hasKey, session, useKey } from "../api.js";
import { $, say } from "../page.js";
import { clock, el } from "./figures.js";
import { showHistory } from "./over-time.js";
import { chooseList, LISTS, lookAtJobs, lookAtTenants } from "./jobs.js";
import { lookAtJob } from "./life.js";
import { showNow } from "./now.js";

const KEPT = "meltproof-operator-key"; // in this tab alone, and apart from a tenant's
const LOOK_SECONDS = 5; // every second time at all of it
const WINDOWS = { "5m": "5 min", "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 days" };

let windowName = "15m", thresholds = [], answeredAt = null, looking = null, refusedKey = false, looks = 0;

function serviceIs(state, words) {
  $("service").dataset.state = state;
  say($("service"), words);
}

function lock(title, why) {
  $("view").hidden = true;
  $("locked").hidden = false;
  say($("locked-title"), title);
  say($("locked-why"), why);
}

const json = async (path, signal) => (await api(path, { signal })).json();

async function lookNow(signal) {
  const overview = await json("v1/operator/overview", signal);
  thresholds = overview.thresholds;
  $("locked").hidden = true;
  $("view").hidden = false;
  showNow(overview);
}

async function lookBack(signal) {
  const asked = windowName;
  const history = await json(`v1/operator/history?window=${asked}`, signal);
  if (asked === windowName) showHistory(history, thresholds);
}

const complaints = new Map(); // of looks; what is said there otherwise stays

/** What one part of the page cannot show keeps nothing else from being shown. */
async function part(where, looking) {
  try {
    await looking;
    if ($(where).textContent === complaints.get(where)) say($(where), "");
  } catch (error) {
    if (session().aborted || error.name === "AbortError") return;
    complaints.set(where, error.status ? error.message : "The service does not answer. What is shown may be old.");
    say($(where), complaints.get(where));
  }
}

/** all: also what is asked for less often. One look at a time. */
async function look(all) {
  if (!hasKey()) {
    serviceIs("wait", "enter a key");
    return lock("This page is for operators", "It shows all tenants' load and jobs. Enter the key of an operator above.");
  }
  if (refusedKey || (looking && !all)) return;
  const signal = session(), mine = (looking = {});
  try {
    await lookNow(signal);
    if (all) await Promise.all([
      part("history-said", lookBack(signal)), part("jobs-said", lookAtJobs(signal)), part("tenants-said", lookAtTenants(signal)),
      part("job-said", lookAtJob(signal)),
    ]);
    if (signal.aborted) return;
    answeredAt = Date.now() / 1000;
    serviceIs("good", `as of ${clock(answeredAt)}`);
  } catch (error) {
    if (!signal.aborted) refused(error);
  } finally {
    if (looking === mine) looking = null;
  }
}

function refused(error) {
  refusedKey = [401, 403].includes(error.status); // another one may be entered
  if (error.status === 401) {
    serviceIs("bad", "this key is not known");
    return lock("This key is not known", error.message);
  }
  if (error.status === 403) {
    serviceIs("bad", "not an operator's key");
    return lock("This key is a tenant's", "What all tenants do is shown to operators alone. Enter the key of an operator.");
  }
  console.warn(error);
  const since = answeredAt === null ? "" : `, this is as of ${clock(answeredAt)}`;
  serviceIs("bad", `${error.status ? error.message : "not answering"}${since}`);
  if (answeredAt === null) lock("The service does not answer", "It is asked again every few seconds.");
}

/** Radio buttons as one switch. */
function choices(fieldset, options, chosen, then) {
  fieldset.append(...Object.entries(options).flatMap(([value, words]) => {
    const id = `${fieldset.id}-${value}`;
    return [
      el("input", { type: "radio", name: fieldset.id, id, value, checked: value === chosen, onchange: () => then(value) }),
      el("label", { for: id }, words),
    ];
  }));
}

choices($("window"), WINDOWS, windowName, (name) => {
  windowName = name;
  part("history-said", lookBack(session()));
});
choices($("job-list"), LISTS, "running", chooseList);
$("key").addEventListener("change", () => {
  sessionStorage.setItem(KEPT, $("key").value.trim());
  location.reload(); // nothing that was shown to one key stays for another
});
$("key").value = sessionStorage.getItem(KEPT) ?? "";
useKey($("key").value);
look(true);

const visible = () => document.visibilityState === "visible";
window.addEventListener("focus", () => look(true));
setInterval(() => visible() && look(++looks % 2 === 0), LOOK_SECONDS * 1000);
