// The first half of the page: points in the plane, whose best prediction is known.

import { draw, measured, parse, text } from "./clouds.js";
import { Editor } from "./editor.js";
import { mixture } from "./exact.js";
import { noise, of_ddim, of_ddpm } from "./film.js";
import { player } from "./player.js";
import { Generator } from "./random.js";
import { NAMED, VISIBLE } from "./schedule.js";
import { turns } from "./turns.js";
import { nearest, View } from "./view.js";

const $ = (id) => document.getElementById(id);

export function plane(form, changed) {
  const { frame, follow } = form.elements;
  const views = { ddpm: new View($("ddpm")), ddim: new View($("ddim")) };
  const say = (sentence) => {
    $("plane-message").textContent = sentence;
  };
  const edited = () => {
    form.elements.mixture.value = text(editor.clouds);
    changed();
  };
  const names = ["cloud", "x", "y", "std", "weight", "add", "remove"];
  const fields = Object.fromEntries(names.map((name) => [name, $(name)]));
  const editor = new Editor(new View($("data")), fields, edited, say);
  const play = player($("play"), frame, () => show());
  const alone = turns(say, $("plane-progress"));
  let films = null;

  /** Compute both films as the controls say, then show them. sentence: to say first. */
  const compute = (sentence = "") =>
    alone(async ({ signal, progress }) => {
      const wish = read(form);
      say(sentence);
      editor.set(parse(wish.mixture));
      const { clouds } = editor;
      if (clouds.length === 0) {
        films = null;
        editor.show([]);
        throw new Error("There are no data: draw a cloud, or choose a shape.");
      }
      const schedule = NAMED[wish.schedule](wish.T);
      const data = draw(clouds, new Generator(wish.seed + 1e6), wish.points);
      editor.show(data);
      $("data-told").textContent = told(data, clouds);
      say([sentence, ...notes(wish, schedule)].join(" "));
      wish.steps = Math.min(wish.steps, wish.T);
      const model = of(clouds, schedule);
      const half = (from) => ({ signal, progress: (share) => progress(from + share / 2) });
      const start = () => noise(wish.seed, 2 * wish.points);
      const ddpm = await of_ddpm(model, schedule, start(), wish, half(0));
      const ddim = await of_ddim(model, schedule, start(), wish, half(0.5));
      films = { ddpm, ddim };
      play.length(wish.steps);
      show();
    });

  /** Show the frame that the slider is at. */
  function show() {
    editor.show();
    if (!films) return;
    const wish = read(form);
    wish.follow = Math.min(wish.follow, films.ddpm[0].xt.length / 2);
    for (const [name, view] of Object.entries(views)) {
      view.frame(films[name], frame.valueAsNumber, wish);
      const { xt, x0_hat } = films[name][frame.valueAsNumber];
      const followed = wish.follow > 0 ? `, ${guessed(x0_hat, wish.follow)}` : "";
      $(`${name}-told`).textContent = told(xt, editor.clouds) + followed;
    }
    const { t } = films.ddpm[frame.valueAsNumber];
    $("time").textContent = `t = ${t}`;
    frame.setAttribute("aria-valuetext", `t = ${t}`);
  }

  for (const [name, view] of Object.entries(views)) {
    view.canvas.addEventListener("click", (event) => {
      if (!films) return;
      follow.value = nearest(films[name][frame.valueAsNumber].xt, view.place(event));
      follow.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
  $("shapes").addEventListener("click", ({ target }) => {
    if (target.tagName !== "BUTTON") return;
    form.elements.mixture.value = target.value;
    changed();
  });
  return { compute, show, say };
}

/** The exact model of clouds. */
function of(clouds, schedule) {
  const [means, stds, weights] = [
    ({ x, y }) => [x, y],
    ({ std }) => std,
    ({ weight }) => weight,
  ].map((part) => clouds.map(part));
  return mixture(schedule, means, stds, weights);
}

function read(form) {
  const { elements } = form;
  const number = (name) => elements[name].valueAsNumber;
  return {
    schedule: elements.schedule.value,
    variance: elements.variance.value,
    mixture: elements.mixture.value,
    guess: elements.guess.checked,
    T: number("T"),
    steps: number("steps"),
    eta: number("eta"),
    seed: number("seed"),
    points: number("points"),
    paths: number("paths"),
    follow: number("follow"),
    clip: null,
  };
}

function told(points, clouds) {
  const { spread, near } = measured(points, clouds);
  return `spread ${spread.toFixed(2)}, ${Math.round(100 * near)} % in place`;
}

function guessed(x0_hat, point) {
  const [x, y] = x0_hat.slice(2 * point - 2, 2 * point);
  return `x0_hat of point ${point} at (${x.toFixed(2)}, ${y.toFixed(2)})`;
}

function notes({ steps }, { T, alpha_bar }) {
  const few = `Steps are ${steps} and T is ${T}: ${T} steps are taken.`;
  const visible =
    `alpha_bar_T is ${alpha_bar[T].toPrecision(2)}: x_T would still hold some signal, ` +
    "and the samplers start without.";
  return [...(steps > T ? [few] : []), ...(alpha_bar[T] > VISIBLE ? [visible] : [])];
}
