// The history of a picture: what it came from, itself, and what came of it.

import { api } from "./api.js";
import { pictureOf } from "./frame.js";
import { $, tell } from "./page.js";

/** A step of the history as `open` tells of a picture. */
export async function find({ job_id: jobId, image_index: index }) {
  const job = await (await api(`v1/jobs/${jobId}`)).json();
  return { job, image: job.images[index] };
}

/** Shows the strip of a picture; hides it while there is nothing to walk. */
export async function showHistory(id, stillShown) {
  const { ancestors, image, children } = await (await api(`v1/images/${id}/lineage`)).json();
  if (!stillShown()) return;
  const line = [...ancestors, image, ...children];
  const walking = $("history").contains(document.activeElement);
  const steps = line.map((entry, i) => step(entry, i - ancestors.length));
  $("history").hidden = line.length < 2;
  $("history-line").replaceChildren(...steps);
  steps[ancestors.length].scrollIntoView({ block: "nearest", inline: "center" });
  if (walking) steps[ancestors.length].firstElementChild.focus();
}

function step(entry, generation) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button", className: "plate" });
  const age = generation < 0 ? "before" : "after";
  button.setAttribute("aria-label", generation ? `${entry.prompt}, ${age} this picture` : "This picture");
  if (!generation) button.setAttribute("aria-current", "step");
  pictureOf(entry.job_id, entry.image_index).then(
    (url) => button.append(Object.assign(new Image(), { src: url, alt: "" })),
    (error) => Object.assign(button, { title: error.message }),
  );
  button.addEventListener("click", () => tell("go", entry));
  item.append(button);
  return item;
}
