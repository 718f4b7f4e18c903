// The wall: what was made, newest first, loaded as it comes into sight.

import { makeFrame, showImage } from "./frame.js";
import { $ } from "./page.js";

const hung = new Set(); // ids of the jobs on the wall
const sight = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    sight.unobserve(target);
    target.load();
  }),
  { rootMargin: "300px" },
);

export function hangJob(job) {
  if (hung.has(job.id)) return;
  hung.add(job.id);
  const frames = job.images.filter((image) => image.state !== "cancelled").map((image) => {
    const frame = makeFrame(job, image);
    frame.element.load = () => showImage(frame, job, image);
    sight.observe(frame.element);
    return frame.element;
  });
  $("made").prepend(...frames);
}

export function clearWall() {
  hung.clear();
  $("made").replaceChildren();
}
