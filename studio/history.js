// The history of a picture: what it came from, itself, and what came of it.

import { api } from "./api.js";
import { pictureOf } from "./frame.js";
import { $, tell } from "./page.js";

const sent = new Map(); // id of a job -> the picture of one's own that it changed

/** Remembers, while the page is open, where a history began. */
export const beganWith = (job, picture) => sent.set(job.id, picture);

/** A step of the history as `open` tells of a picture. */
export async function find({ job_id: jobId, image_index: index }) {
  const job = await (await api(`v1/jobs/${jobId}`)).json();
  return { job, image: job.images[index] };
}

/** Shows the strip of a picture; hides it while there is nothing to walk. */
export async function showHistory(id, stillShown) {
  const { ancestors, image, children } = await (await api(`v1/images/${id}/lineage`)).json();
  if (!stillShown()) return;
  const own = sent.get((ancestors[0] ?? image).job_id);
  const before = ancestors.map((entry) => drawn(`${entry.prompt}, before this picture`, entry));
  if (own) before.unshift(step(`${own.name}, before this picture`, own.url, () => tell("own", own)));
  const here = drawn("This picture", image);
  const after = children.map((entry) => drawn(`${entry.prompt}, after this picture`, entry));
  here.firstElementChild.setAttribute("aria-current", "step");
  const walking = $("history").contains(document.activeElement);
  $("history").hidden = before.length + after.length === 0;
  $("history-line").replaceChildren(...before, here, ...after);
  here.scrollIntoView({ block: "nearest", inline: "center" });
  if (walking) here.firstElementChild.focus();
}

const drawn = (words, entry) =>
  step(words, pictureOf(entry.job_id, entry.image_index), () => tell("go", entry));

function step(words, picture, go) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button", className: "plate" });
  button.setAttribute("aria-label", words);
  button.addEventListener("click", go);
  Promise.resolve(picture).then(
    (src) => button.append(Object.assign(new Image(), { src, alt: "" })),
    (error) => Object.assign(button, { title: error.message }),
  );
  item.append(button);
  return item;
}
