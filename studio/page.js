// Small things that every part of the page needs.

export const $ = (id) => document.getElementById(id);

export const copyOf = (template) => $(template).content.firstElementChild.cloneNode(true);

/** Sets the words of an element only when they change: a screen reader reads them once. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** For screen readers. Behind an open dialog nothing else is heard. */
export const announce = (words) => announceIn("announce", words);
export function announceIn(id, words) {
  $(id).textContent = words;
}

/** The parts of the page tell each other what happened: `open` (a picture was chosen), `job`,
    `preview`, `model` (another one is chosen, or it can do other things). */
export const tell = (what, detail) => document.dispatchEvent(new CustomEvent(what, { detail }));
export const hear = (what, then) => document.addEventListener(what, ({ detail }) => then(detail));
