// The DDPM sampler: from noise to data one step at a time, adding a little noise back.
//
//     x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) + sigma_t z
//
// As nanodiff/ddpm.py; Ho, Jain, Abbeel 2020, arXiv 2006.11239, Algorithm 2.

import { ask, limited } from "./prediction.js";
import { posterior, predict_x0, sum } from "./schedule.js";

export const VARIANCES = ["beta_tilde", "beta"];

/** x_{t-1}, drawn from p(x_{t-1} | x_t) with the standard normal z. */
export function step(schedule, xt, t, eps_hat, z, variance = "beta_tilde", clip = null) {
  const guess = predict_x0(schedule, xt, t, eps_hat);
  const [x0_hat] = limited(schedule, xt, t, guess, eps_hat, clip);
  return step_of(schedule, xt, t, x0_hat, z, variance);
}

function step_of(schedule, xt, t, x0_hat, z, variance) {
  if (!VARIANCES.includes(variance)) {
    throw new RangeError(`variance is ${variance}, expected one of ${VARIANCES}`);
  }
  const [mean, beta_tilde] = posterior(schedule, x0_hat, xt, t);
  // no noise at t = 1, where beta_tilde is 0
  const added =
    variance === "beta_tilde" || beta_tilde === 0 ? beta_tilde : schedule.beta[t];
  return sum(1, mean, Math.sqrt(added), z);
}

/** Yield [t, xt] after each of the T steps. rng.standard_normal(n) gives each z. */
export async function* sample(model, schedule, xT, rng, variance, clip = null) {
  let xt = xT;
  for (let t = schedule.T; t > 0; t--) {
    const z = rng.standard_normal(xt.length);
    const [x0_hat] = await ask(model, schedule, xt, t, clip);
    xt = step_of(schedule, xt, t, x0_hat, z, variance);
    yield [t - 1, xt];
  }
}
