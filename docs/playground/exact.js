// An exact world: data with a best prediction in closed form, without a network.
//
// If x_0 is drawn from the mixture sum_i w_i N(m_i, s_i^2), x_t is drawn from one with
// means a m_i and variances v_i = a^2 s_i^2 + b^2, and
//     E[eps | x_t] = b sum_i r_i (x_t - a m_i) / v_i
//     r_i = w_i N(x_t; a m_i, v_i) / sum_j w_j N(x_t; a m_j, v_j)
// with a^2 = alpha_bar_t, b^2 = 1 - a^2: -b times the score of x_t. As nanodiff/exact.py;
// Song et al. 2020, arXiv 2011.13456, section 3.

import { at } from "./schedule.js";

/** The exact model(xt, t). means: M arrays of D numbers; stds, weights: M numbers. */
export function mixture(schedule, means, stds, weights) {
  const [M, D] = [means.length, means[0]?.length];
  if (M === 0) throw new RangeError("means is empty, expected one at least");
  return (xt, t) => {
    const signal = at(schedule.alpha_bar, t);
    const noise = 1 - signal;
    const [a, b] = [Math.sqrt(signal), Math.sqrt(noise)];
    const variance = stds.map((std) => signal * std ** 2 + noise);
    const level = weights.map((w, i) => Math.log(w) - 0.5 * D * Math.log(variance[i]));
    const share = new Float64Array(M);
    const eps_hat = new Float64Array(xt.length);
    for (let n = 0; n < xt.length; n += D) {
      for (let i = 0; i < M; i++) {
        let square = 0;
        for (let d = 0; d < D; d++) square += (xt[n + d] - a * means[i][d]) ** 2;
        share[i] = level[i] - square / (2 * variance[i]); // its logarithm
      }
      const largest = Math.max(...share);
      let total = 0;
      for (let i = 0; i < M; i++) {
        share[i] = Math.exp(share[i] - largest);
        total += share[i];
      }
      for (let i = 0; i < M; i++) {
        const scale = (b * share[i]) / total / variance[i];
        for (let d = 0; d < D; d++) eps_hat[n + d] += scale * (xt[n + d] - a * means[i][d]);
      }
    }
    return eps_hat;
  };
}
