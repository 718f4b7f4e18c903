// A finished picture, large.

import { pictureOf } from "./frame.js";
import { $, hear } from "./page.js";

hear("open", async ({ job, image }) => {
  const url = await pictureOf(job.id, image.index);
  const facts = {
    Seed: image.seed, Passes: image.passes_total, Quality: job.quality, Size: job.size,
    Made: new Date(job.created_at * 1000).toLocaleString(),
  };
  $("viewer-image").src = url;
  $("viewer-image").alt = job.prompt;
  $("viewer-title").textContent = job.prompt;
  $("viewer-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const pair = [document.createElement("dt"), document.createElement("dd")];
    pair[0].textContent = name;
    pair[1].textContent = value;
    return pair;
  }));
  $("viewer-save").href = url;
  $("viewer-save").download = `${job.prompt.replace(/\W+/g, "-").slice(0, 60)}-${image.seed}.${job.output_format}`;
  $("viewer").showModal();
});

$("viewer-close").addEventListener("click", () => $("viewer").close());
