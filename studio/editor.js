// A picture, large, and what shall be different about it: a region, the words, or the luck of the
// draw. The change is drawn in its place, and becomes the picture.

import { api, order, orderWords, session } from "./api.js";
import { makeBrush } from "./brush.js";
import { accept } from "./easel.js";
import { lay, pictureOf, previewUrl, showTicks } from "./frame.js";
import { chosenModel, modelNamed } from "./models.js";
import { beganWith, find, showHistory } from "./history.js";
import { $, hear, say, tell } from "./page.js";
import { marksAt } from "./provenance.js";
import { ENDED, errorWords, jobWords } from "./words.js";

const PREVIEWS = 3;

let shown = null; // {id | file, prompt, url, width, height, name, facts, model}: ours, or sent in
let under = null; // id of the job that changes it

const brush = makeBrush($("brush"), $("ring"), describe);

// What is shown

async function open({ job, image }) {
  const prompt = job.prompt;
  const [width, height] = job.size.split("x").map(Number);
  const name = `${prompt.replace(/\W+/g, "-").slice(0, 60)}-${image.seed}.${job.output_format}`;
  const facts = {
    Seed: image.seed, Passes: image.passes_total, Quality: job.quality, Size: job.size,
    Model: job.model, Made: new Date(job.created_at * 1000).toLocaleString(),
  };
  const url = await pictureOf(job.id, image.index);
  await show({ id: image.id, prompt, url, width, height, name, facts, model: job.model });
  if (shown?.id === image.id) marksAt(`v1/jobs/${job.id}/images/${image.index}`);
}

async function show(picture) {
  under = null;
  shown = picture;
  $("editor-title").textContent = picture.prompt || picture.name;
  $("words").value = picture.prompt;
  Object.assign($("editor-save"), { href: picture.url, download: picture.name });
  $("editor-facts").replaceChildren(...Object.entries(picture.facts).flatMap(pair));
  $("stage").style.setProperty("--ratio", picture.width / picture.height);
  $("stage-image").setAttribute("aria-label", picture.prompt || picture.name);
  $("editor").dataset.of = picture.id ? "picture" : "upload";
  marksAt(null);
  fitTools();
  brush.reset(picture.width, picture.height);
  idle();
  if (!$("editor").open) $("editor").showModal();
  await lay($("stage-image"), picture.url, () => shown === picture);
  if (picture.id) await showHistory(picture.id, () => shown === picture);
  else $("history").hidden = true;
}

/** What changes the picture: the model that drew it, or the chosen one. */
const changer = () => modelNamed(shown.model) ?? chosenModel();

/** Shows the tools that its model has; one that says nothing of a tool has it. */
function fitTools() {
  const { id, capabilities: can = {} } = changer() ?? {};
  const { edits = true, mask = true, strength = true } = can;
  $("region").hidden = $("brush").hidden = !edits || !mask;
  $("strength-choice").hidden = !edits || !strength;
  $("actions").hidden = !edits;
  say($("editor-cannot"), edits ? "" : `${id} draws pictures and cannot change any.`);
}

function pair([name, value]) {
  const parts = [document.createElement("dt"), document.createElement("dd")];
  parts[0].textContent = name;
  parts[1].textContent = value;
  return parts;
}

const go = async (entry) => open(await find(entry));

// What is asked for

const strength = () => Number($("strength").value) / 100;
const words = () => $("words").value.trim();
const newWords = () => words() !== "" && words() !== shown.prompt;

function describe() {
  const whole = brush.isEmpty();
  $("brush-clear").disabled = whole;
  $("strength").disabled = $("vary").disabled = !whole; // a region says itself how much
  $("change").disabled = !newWords() && (!shown.id || whole);
  $("strength-said").textContent = `${$("strength").value} %`;
}

function change(event) {
  event.preventDefault();
  const mask = brush.isEmpty() ? null : brush.mask();
  const prompt = newWords() ? words() : null;
  const wishes = { prompt, mask: mask && { image_url: mask }, strength: mask ? null : strength() };
  if (shown.id) return ask(`v1/images/${shown.id}/tweaks`, wishes);
  const model = chosenModel()?.id;
  return ask("v1/images/edits", { ...wishes, model, images: [{ file_id: shown.file }] });
}

function vary() {
  const [seed] = crypto.getRandomValues(new Uint32Array(1));
  ask(`v1/images/${shown.id}/tweaks`, { strength: strength(), seed });
}

/** Nothing (null) in a wish is as if it were not there. */
async function ask(path, wishes) {
  const before = shown;
  busy("sending");
  try {
    const job = await order(path, { ...wishes, partial_images: PREVIEWS });
    if (!before.id) beganWith(job, before);
    if (shown === before) under = job.id;
    accept(job);
  } catch (error) {
    if (shown !== before) return;
    idle();
    complain(error);
  }
}

// What comes of it

function busy(words) {
  const focused = $("wishes").contains(document.activeElement);
  $("editor").dataset.state = "busy";
  $("wishes").disabled = true;
  if (focused) $("editor-stop").focus();
  say($("editor-problem"), "");
  say($("editor-status"), words);
}

function idle() {
  const focused = document.activeElement === $("editor-stop");
  $("editor").dataset.state = "idle";
  $("wishes").disabled = false;
  say($("editor-problem"), "");
  say($("editor-status"), "");
  describe();
  if (focused) (shown.id ? $("vary") : $("change")).focus();
}

function complain(error) {
  if (!session().aborted) say($("editor-problem"), orderWords(error));
}

function progress(job) {
  if (job.id !== under) return;
  const [image] = job.images;
  showTicks($("editor-ticks"), image);
  say($("editor-status"), job.state === "running" ? "drawing" : jobWords(job)); // ticks count passes
  if (!ENDED.has(job.state)) return;
  under = null;
  if (job.state === "succeeded") return open({ job, image }).catch(complain);
  idle();
  lay($("stage-image"), shown.url);
  say($("editor-problem"), image.error ? errorWords(image.error) : jobWords(job));
}

const stop = () => under && api(`v1/jobs/${under}`, { method: "DELETE" });

hear("open", (picture) => open(picture).catch(complain));
hear("own", (picture) => show(picture).catch(complain));
hear("go", (entry) => go(entry).catch(complain));
hear("job", progress);
hear("preview", (preview) => {
  if (preview.job_id === under) lay($("stage-image"), previewUrl(preview), () => under === preview.job_id);
});
$("wishes-form").addEventListener("submit", change);
$("vary").addEventListener("click", vary);
$("editor-stop").addEventListener("click", () => stop()?.catch(complain));
$("words").addEventListener("input", describe);
$("words").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!$("change").disabled) $("wishes-form").requestSubmit();
});
$("strength").addEventListener("input", describe);
$("brush-clear").addEventListener("click", () => brush.reset(shown.width, shown.height));
$("editor-close").addEventListener("click", () => $("editor").close());
$("editor").addEventListener("close", () => {
  shown = under = null;
  const focused = document.activeElement; // what was clicked may hang elsewhere by now
  if (focused === document.body || $("editor").contains(focused))
    document.querySelector("#now .plate:enabled, #made .plate:enabled")?.focus();
});
$("use-words").addEventListener("click", () => {
  $("editor").close();
  tell("words", words());
});
