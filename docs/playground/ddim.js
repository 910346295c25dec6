// The DDIM sampler: the same model in fewer steps, with added noise or without.
//
//     x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma z
//     sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
//                 sqrt(1 - alpha_bar_t / alpha_bar_s)
//
// As nanodiff/ddim.py; Song, Meng, Ermon 2020, arXiv 2010.02502, Eq. 12 and 16.

import { ask, limited } from "./prediction.js";
import { at, predict_x0, sum } from "./schedule.js";

/** The times of `steps` equal jumps from T to 0, both ends included. */
export function timesteps(T, steps) {
  if (!(Number.isInteger(steps) && steps >= 1 && steps <= T)) {
    throw new RangeError(`steps is ${steps}, expected 1..${T}, which is T`);
  }
  const times = Array.from({ length: steps }, (_, i) => T - Math.floor((i * T) / steps));
  return [...times, 0];
}

/** x_s from x_t, for any s in 0..t-1. */
export function step(schedule, xt, t, s, eps_hat, eta = 0, z = null, clip = null) {
  if (eta > 0 && z === null) {
    throw new RangeError(`z is null, expected standard normal noise, as eta is ${eta}`);
  }
  const guess = predict_x0(schedule, xt, t, eps_hat);
  const [x0_hat, eps] = limited(schedule, xt, t, guess, eps_hat, clip);
  return step_of(schedule, t, s, x0_hat, eps, eta, z);
}

function step_of(schedule, t, s, x0_hat, eps_hat, eta, z) {
  if (!(s >= 0 && s < t)) throw new RangeError(`s is ${s}, expected 0..${t - 1}`);
  if (!(eta >= 0 && eta <= 1)) throw new RangeError(`eta is ${eta}, expected 0..1`);
  const alpha_bar_t = at(schedule.alpha_bar, t);
  const alpha_bar_s = schedule.alpha_bar[s];
  const sigma =
    eta *
    Math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) *
    Math.sqrt(1 - alpha_bar_t / alpha_bar_s); // Eq. 16
  // 0 at s = 0, where rounding may make it negative
  const direction = Math.sqrt(Math.max(1 - alpha_bar_s - sigma ** 2, 0));
  const xs = sum(Math.sqrt(alpha_bar_s), x0_hat, direction, eps_hat);
  return z === null ? xs : sum(1, xs, sigma, z);
}

/** Yield [s, xs] after each step. rng.standard_normal(n) gives each z, if eta > 0. */
export async function* sample(
  model,
  schedule,
  xT,
  steps,
  eta = 0,
  rng = null,
  clip = null,
) {
  const times = timesteps(schedule.T, steps);
  let xt = xT;
  for (let i = 0; i < steps; i++) {
    const [t, s] = [times[i], times[i + 1]];
    const z = eta > 0 ? rng.standard_normal(xt.length) : null;
    const [x0_hat, eps_hat] = await ask(model, schedule, xt, t, clip);
    xt = step_of(schedule, t, s, x0_hat, eps_hat, eta, z);
    yield [s, xt];
  }
}
