// The brush: a canvas over a picture, painted where the picture shall change. By pointer, or by
// keyboard: arrows move the brush, space paints, and it paints along while shift is held.

import { $, announceIn } from "./page.js";

const STEPS = 16; // key presses across the picture
const HATCHES = 48; // across the picture

/** Dark and light lines: seen on any picture. */
function hatching(size, colour) {
  const tile = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const pen = tile.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, size, size);
  pen.fillStyle = colour;
  for (const start of [0, -size]) {
    pen.beginPath();
    for (const [x, y] of [[start, 0], [start + size / 2, 0], [start + 1.5 * size, size], [start + size, size]])
      pen.lineTo(x, y);
    pen.fill();
  }
  return pen.createPattern(tile, "repeat");
}

/** Calls `changed` after every stroke. */
export function makeBrush(canvas, ring, changed) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const at = { x: 0, y: 0 };
  let stroke = null, ink = null;

  const radius = () => (Math.min(canvas.width, canvas.height) * $("brush-size").value) / 200;
  const erasing = () => $("brush-erase").checked;

  function moveTo(x, y) {
    at.x = Math.max(0, Math.min(canvas.width, x));
    at.y = Math.max(0, Math.min(canvas.height, y));
    showRing();
  }

  function showRing() {
    ring.style.left = `${(100 * at.x) / canvas.width}%`;
    ring.style.top = `${(100 * at.y) / canvas.height}%`;
    ring.style.width = `${(200 * radius()) / canvas.width}%`;
  }

  function line(from, to) {
    pen.globalCompositeOperation = erasing() ? "destination-out" : "source-over";
    pen.strokeStyle = ink;
    pen.lineWidth = 2 * radius();
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y + 0.01); // a line of no length draws no dot everywhere
    pen.stroke();
  }

  function drag(event) {
    const box = canvas.getBoundingClientRect();
    const before = { ...at };
    moveTo(
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    );
    if (stroke === event.pointerId) line(before, at);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    drag(event);
    stroke = event.pointerId;
    line(at, at);
  });
  canvas.addEventListener("pointermove", drag);
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => {
      if (stroke !== event.pointerId) return;
      stroke = null;
      changed();
    });

  canvas.addEventListener("keydown", (event) => {
    const way = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0],
    }[event.key];
    if (!way) return;
    event.preventDefault();
    const before = { ...at };
    moveTo(at.x + (way[0] * canvas.width) / STEPS, at.y + (way[1] * canvas.height) / STEPS);
    const paints = event.key === " " || event.shiftKey;
    if (paints) line(before, at);
    if (paints) changed();
    const percent = (value, whole) => Math.round((100 * value) / whole);
    const place = `${percent(at.x, canvas.width)} % across, ${percent(at.y, canvas.height)} % down`;
    announceIn("brush-place", paints ? `${erasing() ? "erased" : "painted"} at ${place}` : place);
  });

  $("brush-size").addEventListener("input", showRing);

  return {
    /** Nothing painted, over a picture of that size. */
    reset(width, height) {
      Object.assign(canvas, { width, height }); // which clears it
      ink = hatching(Math.max(8, Math.round(width / HATCHES)), getComputedStyle(canvas).color);
      moveTo(width / 2, height / 2);
      changed();
    },
    isEmpty() {
      const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
      return !new Uint32Array(data.buffer).some(Boolean);
    },
    /** A data: URL of a PNG of the picture's size, transparent where it shall change. */
    mask() {
      const mask = Object.assign(document.createElement("canvas"), {
        width: canvas.width, height: canvas.height,
      });
      const context = mask.getContext("2d");
      context.fillRect(0, 0, mask.width, mask.height);
      context.globalCompositeOperation = "destination-out";
      context.drawImage(canvas, 0, 0);
      return mask.toDataURL("image/png");
    },
  };
}
