// The page: the controls and the link on one side, what they ask for on the other.

import { pictures } from "./pictures.js";
import { plane } from "./plane.js";
import { complaint, read, show_values, written } from "./settings.js";

const $ = (id) => document.getElementById(id);
const form = $("settings");
const SHOWN = ["frame", "paths", "follow", "guess", "picture_frame"]; // compute nothing
const halves = {
  plane: plane(form, () => changed("plane")),
  pictures: pictures(form, () => changed("pictures")),
};
let saving;
let next = null; // the control to go on at

/** A control of a half of the page has been moved: show what follows. */
function changed(half, name) {
  show_values(form);
  save();
  const wrong = complaint($(half));
  if (wrong) halves[half].say(wrong);
  else if (SHOWN.includes(name)) halves[half].show();
  else halves[half].compute();
}

/** Write the link, but not at every pixel of a slider: browsers refuse that. */
function save() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    history.replaceState(null, "", `#${written(form)}`);
    $("link").value = location.href;
  }, 300);
}

/** Set everything as the link says. */
function load() {
  form.elements.frame.max = form.elements.picture_frame.max = 200; // as in the file
  const sentences = read(form, location.hash.slice(1));
  show_values(form);
  halves.pictures.open();
  for (const half of Object.values(halves)) half.compute(sentences.join(" "));
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", ({ target }) => {
  const half = target.closest("section").id;
  if (target.name) changed(half, target.name);
  else if (!target.validity.valid) halves[half].say(complaint($(half)));
});
addEventListener("hashchange", () => {
  load();
  save();
  $(form.elements.open.checked ? "pictures" : "plane").scrollIntoView();
  next?.focus();
  next = null;
});
for (const link of document.querySelectorAll("[data-next]")) {
  link.addEventListener("click", () => {
    next = document.querySelector(link.dataset.next);
  });
}
addEventListener("resize", () => halves.plane.show());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", halves.plane.show);
$("copy").addEventListener("click", async () => {
  history.replaceState(null, "", `#${written(form)}`);
  $("link").value = location.href;
  try {
    await navigator.clipboard.writeText(location.href);
    $("copied").textContent = "It is copied.";
  } catch {
    $("copied").textContent = "The browser does not allow it: copy it below.";
  }
});
load();
save();
