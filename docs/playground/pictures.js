// The second half of the page: digits and sprites, by trained networks.

import { noise, of_ddim, of_ddpm } from "./film.js";
import { guide } from "./guidance.js";
import { slerp } from "./latent.js";
import { network } from "./network.js";
import { player } from "./player.js";
import { turns } from "./turns.js";

const $ = (id) => document.getElementById(id);
const MIXED = 10; // sliders for classes
const THUMBS = 11;
const ARC = 8; // pictures along the arc

export function pictures(form, changed) {
  const frame = form.elements.picture_frame;
  const say = (sentence) => {
    $("pictures-message").textContent = sentence;
  };
  mixers($("classes"));
  const play = player($("picture-play"), frame, () => show());
  let film = null;
  let shape = null;
  const alone = turns(say, $("pictures-progress"));

  /** The network that the controls ask for, and its classes' names on the sliders. */
  async function ready(wish, { signal, progress }) {
    const found = await network(wish.network, progress);
    signal.throwIfAborted();
    name_mixers(found.classes);
    shape = found.shape;
    wish.context = wish.mix.slice(0, found.classes.length);
    return found;
  }

  /** Sample as the controls say, and show the film, if this half is open. */
  const compute = (sentence = "") =>
    alone(async (turn) => {
      if (!$("pictures-open").open) return;
      const wish = read(form);
      say(sentence);
      const found = await ready(wish, turn);
      const [xT, rng] = start(wish, found.shape, wish.fraction);
      const model = guide(found.fresh(), [wish.context], wish.w);
      const sampler = wish.sampler === "ddim" ? of_ddim : of_ddpm;
      film = await sampler(model, found.schedule, [xT, rng], wish, turn);
      play.length(wish.steps);
      strip($("film"), film, shape);
      show();
    });

  /** Draw pictures along the arc from one seed's noise to the other's, as one batch. */
  const compute_arc = () =>
    alone(async (turn) => {
      const wish = { ...read(form), eta: 0 };
      say("");
      const found = await ready(wish, turn);
      const along = Array.from({ length: ARC }, (_, i) => i / (ARC - 1));
      const xT = along.flatMap((fraction) => [...start(wish, found.shape, fraction)[0]]);
      const context = along.map(() => wish.context);
      const model = guide(found.fresh(), context, wish.w);
      const begin = [Float64Array.from(xT), null];
      const { x0_hat } = (await of_ddim(model, found.schedule, begin, wish, turn)).at(-1);
      const size = x0_hat.length / ARC;
      const made = along.map((_, i) => x0_hat.slice(i * size, (i + 1) * size));
      $("arc-film").replaceChildren(...made.map((x) => paint(canvas(), x, found.shape)));
    });

  function show() {
    if (!film) return;
    const { t, xt, x0_hat } = film[frame.valueAsNumber];
    paint($("xt"), xt, shape);
    paint($("x0_hat"), x0_hat, shape);
    $("picture-time").textContent = `t = ${t}`;
    frame.setAttribute("aria-valuetext", `t = ${t}`);
  }

  $("arc").addEventListener("click", compute_arc);
  $("pictures-open").addEventListener("toggle", ({ target }) => {
    if (form.elements.open.checked === target.open) return;
    form.elements.open.checked = target.open;
    changed();
  });
  /** Open or close this half as the link says. */
  const open = () => {
    $("pictures-open").open = form.elements.open.checked;
  };
  return { compute, show, say, open };
}

/** x_T at a fraction of the arc, and what gives each z. */
function start(wish, shape, fraction) {
  const size = shape.reduce((product, n) => product * n);
  const [xT, rng] = noise(wish.seed, size);
  const [other] = noise(wish.other, size);
  return [slerp(xT, other, fraction), rng];
}

function read(form) {
  const { elements } = form;
  const number = (name) => elements[name].valueAsNumber;
  return {
    network: elements.network.value,
    sampler: elements.sampler.value,
    steps: number("picture_steps"),
    eta: number("picture_eta"),
    w: number("w"),
    seed: number("picture_seed"),
    other: number("other_seed"),
    fraction: number("fraction"),
    mix: Array.from({ length: MIXED }, (_, k) => number(`c${k}`)),
    variance: "beta_tilde",
    clip: 1,
  };
}

/** Add a slider for each class. */
function mixers(box) {
  for (let k = 0; k < MIXED; k++) {
    const label = document.createElement("label");
    label.innerHTML =
      `<span><span id="class${k}">${k}</span> <output></output></span>` +
      `<input type="range" name="c${k}" min="0" max="1" step="0.05" value="${k === 3 ? 1 : 0}">`;
    box.append(label);
  }
}

function name_mixers(classes) {
  for (let k = 0; k < MIXED; k++) {
    $(`class${k}`).textContent = classes[k] ?? "";
    $(`class${k}`).closest("label").hidden = k >= classes.length;
  }
}

const canvas = () => document.createElement("canvas");

/** Thumbnails at equal distances, each once: x_t above, x0_hat below. */
function strip(box, film, shape) {
  const last = film.length - 1;
  const places = Array.from({ length: THUMBS }, (_, i) =>
    Math.round((i * last) / (THUMBS - 1)),
  );
  const shown = [...new Set(places)].flatMap((i) => [film[i].xt, film[i].x0_hat]);
  box.replaceChildren(...shown.map((x) => paint(canvas(), x, shape)));
}

/** Show a picture (C, H, W) of values in -1..1 on a canvas, which is returned. */
function paint(on, x, [C, H, W]) {
  on.width = W;
  on.height = H;
  const image = new ImageData(W, H);
  for (let i = 0; i < H * W; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = 127.5 * (x[(C === 1 ? 0 : c) * H * W + i] + 1);
    }
    image.data[4 * i + 3] = 255;
  }
  on.getContext("2d").putImageData(image, 0, 0);
  return on;
}
