// Asks the service what a picture says of where it came from, as anybody with a key may.

import { api } from "./api.js";
import { $, say } from "./page.js";

const SIGNED = {
  trusted: "signed by this service", valid: "signed by another maker",
  invalid: "changed since it was signed", not_present: "not signed",
};

let path = null; // of the picture that is shown, where it was drawn here

/** Another picture is shown; null for one that was not drawn here. */
export function marksAt(picture) {
  path = picture;
  $("provenance").hidden = $("provenance-said").hidden = path === null;
  say($("provenance-said"), "");
}

async function check() {
  const asked = path;
  say($("provenance-said"), "looking");
  const form = new FormData();
  form.append("file", await (await api(asked)).blob(), "picture");
  const answer = await api("v1/content_provenance_checks", { method: "POST", body: form });
  const [manifest, mark] = (await answer.json()).results;
  const marked = mark.key_id ? `watermark of key ${mark.key_id}` : "no watermark";
  if (path === asked) say($("provenance-said"), `${SIGNED[manifest.validation_state]}, ${marked}`);
}

$("provenance").addEventListener("click", () => check().catch((error) => say($("provenance-said"), error.message)));
