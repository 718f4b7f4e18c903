// The studio: one page over the public API, with the visitor's key. Here is what the person does
// before anything is drawn; easel.js and wall.js show what comes of it.

import { api, hasKey, order, orderWords, session, useKey } from "./api.js";
import { clearBatches, lookAtBatches } from "./batches.js";
import { accept, clearEasel, place, watchNext } from "./easel.js";
import { forgetPictures } from "./frame.js";
import { chosenModel, forgetModels, lookAtModels, modelWishes } from "./models.js";
import { $, hear, say } from "./page.js";
import { clearWall } from "./wall.js";
import { limitWords, modelState } from "./words.js";
import "./editor.js";
import "./upload.js";

const IDEAS = ["a red fox", "a strawberry", "an octopus", "a birthday cake", "a rocket", "a cactus"];
const LISTED = 60;
const LIST_SECONDS = 5;

function serviceIs(state, words) {
  $("service").dataset.state = state;
  say($("service"), words);
}

function showService() {
  const model = chosenModel();
  const awake = model?.available && model.start_seconds === null;
  serviceIs(awake ? "good" : "wait", model ? `${model.id} is ${modelState(model)}` : "there is no model yet");
}

async function refresh() {
  const signal = session();
  if (!hasKey()) return serviceIs("wait", "enter a key");
  try {
    await api("readyz");
    await lookAtModels(signal);
    const { data } = await (await api(`v1/jobs?limit=${LISTED}`)).json();
    if (signal.aborted) return;
    data.reverse().forEach(place);
    say($("limits"), limitWords(await (await api("v1/limits")).json()));
    $("empty").hidden = data.length > 0;
    await lookAtBatches(signal);
    showService();
    watchNext();
  } catch (error) {
    if (signal.aborted) return;
    serviceIs("bad", error.status === 401 ? "this key is not known" : "not answering, trying again");
  }
}

function startSession() {
  useKey($("key").value.trim());
  forgetModels();
  forgetPictures();
  clearBatches();
  clearEasel();
  clearWall();
  refresh();
}

async function draw(event) {
  event.preventDefault();
  $("draw").disabled = true;
  say($("problem"), "");
  try {
    accept(await order("v1/images/generations", {
      prompt: $("prompt").value.trim(), ...modelWishes(), partial_images: 3,
    }));
    $("empty").hidden = true;
  } catch (error) {
    say($("problem"), orderWords(error));
    if (error.param === "prompt") $("prompt").focus();
  } finally {
    $("draw").disabled = false;
  }
}

// A key outlives a reload of this tab, not the tab: whoever opens the page later has none.
const keepKey = (key) => sessionStorage.setItem("meltproof-key", key);
const keptKey = () => {
  localStorage.removeItem("meltproof-key"); // where it was kept before
  return sessionStorage.getItem("meltproof-key");
};

function usePrompt(prompt) {
  $("prompt").value = prompt;
  $("prompt").focus();
}

$("composer").addEventListener("submit", draw);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("key").addEventListener("change", () => {
  keepKey($("key").value.trim());
  startSession();
});
$("ideas").append(...IDEAS.map((idea) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: idea });
  button.addEventListener("click", () => usePrompt(idea));
  return button;
}));
hear("words", usePrompt);
hear("model", showService);
hear("lost", () => serviceIs("bad", "connection lost, trying again"));

const loopback = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
$("key").value = keptKey() ?? (loopback ? "sk-local" : "");
startSession();
window.addEventListener("focus", refresh); // somebody comes back
setInterval(() => document.visibilityState === "visible" && refresh(), LIST_SECONDS * 1000);
