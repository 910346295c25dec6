// What a sampler does, kept frame by frame: x_t, and x0_hat, which the model makes of it.

import * as ddim from "./ddim.js";
import * as ddpm from "./ddpm.js";
import { Generator } from "./random.js";
import { respace } from "./respace.js";
import { predict_x0 } from "./schedule.js";

const BREATH = 12; // milliseconds after which the page may show and listen

/** [x_T of n numbers, the generator that gives each z]: the same for both samplers. */
export function noise(seed, n) {
  const rng = new Generator(seed);
  return [rng.standard_normal(n), rng];
}

/** Frames of DDPM in so many steps. variance: also "none", for no added noise. */
export function of_ddpm(model, schedule, [xT, rng], wish, turn) {
  const silent = { standard_normal: (n) => new Float64Array(n) };
  const [source, variance] =
    wish.variance === "none" ? [silent, "beta_tilde"] : [rng, wish.variance];
  const run = (watched) => {
    const [short, few] = respace(watched, schedule, wish.steps);
    return ddpm.sample(short, few, xT, source, variance, wish.clip);
  };
  return frames(run, model, schedule, xT, wish, turn);
}

/** Frames of DDIM. */
export function of_ddim(model, schedule, [xT, rng], wish, turn) {
  const run = (watched) =>
    ddim.sample(watched, schedule, xT, wish.steps, wish.eta, rng, wish.clip);
  return frames(run, model, schedule, xT, wish, turn);
}

/** Let the page show and listen. A browser delays timers, by a second in a hidden page. */
function breath() {
  return new Promise((go) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      go();
    };
    port2.postMessage(null);
  });
}

/** {t, xt, x0_hat} from T to 0. turn: {signal, progress(share)}. */
async function frames(run, model, schedule, xT, wish, turn) {
  const guesses = [];
  const watched = async (xt, t) => {
    const eps_hat = await model(xt, t);
    guesses.push(predict_x0(schedule, xt, t, eps_hat));
    return eps_hat;
  };
  const times = ddim.timesteps(schedule.T, wish.steps);
  const kept = [xT];
  let then = performance.now();
  for await (const [, xt] of run(watched)) {
    kept.push(xt);
    turn.progress((kept.length - 1) / wish.steps);
    if (performance.now() - then > BREATH) {
      await breath();
      turn.signal.throwIfAborted();
      then = performance.now();
    }
  }
  guesses.push(kept.at(-1)); // at t = 0 nothing is left to guess
  return kept.map((xt, i) => ({ t: times[i], xt, x0_hat: guesses[i] }));
}
