// Batches: how far each one of this key is. They are ordered by programs, and only shown here.

import { api } from "./api.js";
import { $, say } from "./page.js";

const LISTED = 10;
const ENDED = new Set(["failed", "completed", "expired", "cancelled"]);

export const clearBatches = () => {
  $("batches").replaceChildren();
  $("batches-section").hidden = true;
};

/** Shows the newest batches; nothing where there are none. */
export async function lookAtBatches(signal) {
  const { data } = await (await api(`v1/batches?limit=${LISTED}`)).json();
  if (signal.aborted) return;
  $("batches-section").hidden = data.length === 0;
  $("batches").replaceChildren(...data.map(shown));
}

function shown(batch) {
  const { total, completed, failed } = batch.request_counts;
  const row = document.createElement("li");
  const bar = Object.assign(document.createElement("progress"), { max: total || 1, value: completed + failed });
  bar.setAttribute("aria-label", `Requests of ${batch.id} that have ended`);
  const words = document.createElement("span");
  const wrong = batch.errors ? `, ${batch.errors.data.length} wrong lines` : "";
  const lost = failed ? `, ${failed} without a picture` : "";
  const until = ENDED.has(batch.status) ? "" : `, until ${new Date(batch.expires_at * 1000).toLocaleString()}`;
  say(words, `${batch.status.replace("_", " ")}: ${completed} of ${total} drawn${lost}${wrong}${until}`);
  const name = document.createElement("code");
  name.textContent = batch.id;
  row.append(name, bar, words);
  return row;
}
