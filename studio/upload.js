// A picture of one's own, chosen or dropped anywhere on the page: sent in, then opened to be changed.

import { api, orderWords } from "./api.js";
import { $, announce, say, tell } from "./page.js";

async function take(file) {
  if (!file) return;
  say($("problem"), "");
  announce(`Sending ${file.name}`);
  $("own").disabled = true;
  const url = URL.createObjectURL(file);
  try {
    const form = new FormData();
    form.append("purpose", "vision");
    form.append("file", file);
    const sent = await (await api("v1/files", { method: "POST", body: form })).json();
    const [width, height] = sent.size.split("x").map(Number); // upright
    const facts = { File: file.name, Size: sent.size };
    tell("own", { file: sent.id, prompt: "", url, width, height, name: file.name, facts });
  } catch (error) {
    URL.revokeObjectURL(url);
    say($("problem"), orderWords(error));
  } finally {
    $("own").disabled = false;
    $("own").value = ""; // the same file may be chosen again
  }
}

const brings = (event) => event.dataTransfer?.types.includes("Files");

$("own").addEventListener("change", () => take($("own").files[0]));
for (const over of ["dragover", "dragleave", "drop"])
  document.addEventListener(over, (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", over === "dragover");
    if (over === "drop") take(event.dataTransfer.files[0]);
  });
