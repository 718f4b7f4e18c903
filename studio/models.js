// The models of the lane: which one is chosen, and choices that fit it.

import { api } from "./api.js";
import { $, copyOf, say, tell } from "./page.js";
import { modelState, modelWords } from "./words.js";

const MOST_PICTURES = 4; // in one row of the easel

let models = [];
let fitted = ""; // what the choices were made for, so that a look at the service leaves them alone

export const modelNamed = (name) => models.find((model) => model.id === name);
export const chosenModel = () => modelNamed($("model").value) ?? models[0];

/** Asks which models there are, and fits the choices to the chosen one. */
export async function lookAtModels(signal) {
  const { data } = await (await api("v1/models")).json();
  if (signal.aborted) return;
  models = data;
  const named = data.map((model) => [model.id, nameOf(model)]);
  offer($("model"), named, data[0]?.id);
  $("model-choice").hidden = data.length < 2;
  fit();
}

export function forgetModels() {
  models = [];
  fitted = "";
}

function nameOf(model) {
  const state = modelState(model);
  return state === "ready" ? model.id : `${model.id} (${state})`;
}

/** Replaces the options of a select; what the person has chosen stays, where it still can. */
function offer(select, options, usual) {
  const known = [...select.options].map((option) => [option.value, option.text]);
  if (JSON.stringify(known) === JSON.stringify(options)) return;
  const chosen = select.dataset.chosen;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = options.some(([value]) => value === chosen) ? chosen : usual;
}

function fit() {
  const model = chosenModel();
  if (!model) return;
  say($("model-note"), modelWords(model));
  const can = model.capabilities;
  if (fitted === JSON.stringify([model.id, can])) return;
  fitted = JSON.stringify([model.id, can]);
  const numbers = Array.from({ length: Math.min(can.n, MOST_PICTURES) }, (_, i) => `${i + 1}`);
  offer($("n"), numbers.map((n) => [n, n]), numbers.at(-1));
  offer($("quality"), Object.keys(can.qualities).map((name) => [name, name]), "medium");
  offer($("size"), can.sizes.suggested.map((size) => [size, size]), can.sizes.auto);
  Object.assign($("steps"), { min: can.steps.least, max: can.steps.most });
  passesOfQuality();
  $("guidance-choice").hidden = !can.guidance;
  if (can.guidance) slide($("guidance"), can.guidance.least, can.guidance.most, can.guidance.auto);
  $("negative-choice").hidden = !can.negative_prompt;
  $("loras-choice").hidden = can.loras_max === 0;
  $("loras").replaceChildren(...can.loras.map(loraChoice));
  $("own-choice").hidden = !can.edits;
  $("draw").hidden = !can.generations;
  tell("model", model);
}

function slide(input, min, max, value) {
  Object.assign(input, { min, max, value });
  showValue(input);
}

const showValue = (input) => say(input.nextElementSibling, input.value);

const qualityPasses = () => chosenModel()?.capabilities.qualities[$("quality").value];

function passesOfQuality() {
  $("steps").value = qualityPasses();
  showValue($("steps"));
}

function loraChoice(name) {
  const item = copyOf("lora-template");
  const [box, weight] = item.querySelectorAll("input");
  item.querySelector("span").textContent = name;
  box.value = name;
  weight.setAttribute("aria-label", `Weight of ${name}`);
  weight.addEventListener("input", () => showValue(weight));
  box.addEventListener("change", checkLoras);
  return item;
}

/** A picture is drawn with so many of them, each with a weight. */
function checkLoras() {
  const boxes = [...$("loras").querySelectorAll("[type=checkbox]")];
  const full = boxes.filter((box) => box.checked).length >= chosenModel().capabilities.loras_max;
  for (const box of boxes) {
    box.disabled = full && !box.checked;
    box.closest("li").querySelector("[type=range]").disabled = !box.checked;
  }
}

/** What an order says of these choices: only what is not as by default. */
export function modelWishes() {
  const can = chosenModel()?.capabilities;
  const size = $("size").value, quality = $("quality").value;
  const wishes = { n: Number($("n").value), size };
  if (!can) return { ...wishes, quality };
  if (models.length > 1) wishes.model = chosenModel().id;
  const steps = Number($("steps").value), guidance = Number($("guidance").value);
  Object.assign(wishes, steps === qualityPasses() ? { quality } : { steps });
  if (can.guidance && guidance !== can.guidance.auto) wishes.guidance = guidance;
  if (can.negative_prompt) wishes.negative_prompt = $("negative").value.trim();
  const loras = [...$("loras").querySelectorAll("li:has(:checked)")].map((item) => {
    const [box, weight] = item.querySelectorAll("input");
    return { name: box.value, weight: Number(weight.value) };
  });
  return loras.length ? { ...wishes, loras } : wishes;
}

for (const select of [$("model"), $("n"), $("quality"), $("size")])
  select.addEventListener("change", () => (select.dataset.chosen = select.value));
$("model").addEventListener("change", fit);
$("quality").addEventListener("change", passesOfQuality);
for (const slider of [$("steps"), $("guidance")])
  slider.addEventListener("input", () => showValue(slider));
