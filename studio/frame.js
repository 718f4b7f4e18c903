// Frames: one picture each, on the easel or on the wall, from the bare grid to the final file.

import { api, session } from "./api.js";
import { copyOf, tell } from "./page.js";
import { errorWords } from "./words.js";

const FADED_MS = 600; // after that a picture covers the one before it
const pictures = new Map(); // "job/index" -> promise of a blob URL

/** A blob URL of a finished picture, loaded once. */
export function pictureOf(jobId, index) {
  const name = `${jobId}/${index}`;
  if (!pictures.has(name)) {
    const loading = api(`v1/jobs/${jobId}/images/${index}`)
      .then((answer) => answer.blob())
      .then((blob) => URL.createObjectURL(blob));
    loading.catch(() => pictures.delete(name));
    pictures.set(name, loading);
  }
  return pictures.get(name);
}

export function forgetPictures() {
  pictures.forEach((loading) => loading.then(URL.revokeObjectURL, () => {}));
  pictures.clear();
}

/** Puts a picture over the one that an element shows, once it is decoded and if `still` wants it. */
export async function lay(element, url, still = () => true) {
  const picture = new Image();
  picture.alt = "";
  picture.src = url;
  await picture.decode();
  if (!still()) return;
  const older = [...element.querySelectorAll("img")];
  picture.className = "arriving";
  element.append(picture);
  setTimeout(() => older.forEach((image) => image.remove()), FADED_MS);
}

export function makeFrame(job, image) {
  const element = copyOf("frame-template");
  const frame = { element, plate: element.querySelector(".plate"), rank: 0 };
  const title = job.n > 1 ? `${job.prompt}, picture ${image.index + 1} of ${job.n}` : job.prompt;
  frame.plate.setAttribute("aria-label", title);
  frame.plate.addEventListener("click", () => tell("open", { job, image }));
  element.querySelector(".caption").textContent = job.prompt;
  const ticks = element.querySelector(".ticks");
  ticks.setAttribute("aria-label", `Passes of ${title}`);
  showTicks(ticks, image);
  return frame;
}

export function showTicks(ticks, { passes_done: done, passes_total: total }) {
  ticks.setAttribute("aria-valuemax", total);
  ticks.setAttribute("aria-valuenow", done);
  while (ticks.children.length < total) ticks.append(document.createElement("i"));
  [...ticks.children].forEach((tick, i) => tick.classList.toggle("done", i < done));
}

export function showImage(frame, job, image) {
  frame.element.dataset.state = image.state;
  showTicks(frame.element.querySelector(".ticks"), image);
  const note = frame.element.querySelector(".note");
  note.hidden = !image.error;
  note.textContent = image.error ? errorWords(image.error) : "";
  if (image.error) frame.rank = Infinity; // a preview that is still loading comes too late
  if (image.state === "succeeded" && frame.rank < Infinity) showFinal(frame, job, image);
}

async function showFinal(frame, job, image) {
  const signal = session();
  frame.rank = Infinity;
  try {
    await lay(frame.plate, await pictureOf(job.id, image.index));
    frame.plate.disabled = false;
  } catch (error) {
    if (signal.aborted) return;
    if (error.status !== 404) frame.rank = 0; // the next look at the list tries again
    const note = frame.element.querySelector(".note");
    Object.assign(note, { hidden: false, textContent: error.message });
  }
}

export const previewUrl = (preview) => `data:image/${preview.output_format};base64,${preview.b64_json}`;

export function showPreview(frame, preview) {
  if (frame.rank >= preview.pass) return;
  frame.rank = preview.pass;
  frame.element.dataset.preview = preview.pass;
  lay(frame.plate, previewUrl(preview), () => preview.pass >= frame.rank);
}
