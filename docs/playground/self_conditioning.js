// Self-conditioning: a network is shown its own guess of the data, that of the call
// before. As nanodiff/self_conditioning.py; Chen, Zhang, Hinton 2022, arXiv 2208.04202,
// Algorithm 2.

import { predict_x0 } from "./schedule.js";

/** network(xt, t, context, x0_hat) as (xt, t, context), for one run of a sampler. */
export function with_last_guess(network, schedule) {
  let x0_hat = null;
  return async (xt, t, context) => {
    const eps_hat = await network(xt, t, context, x0_hat ?? xt.map(() => 0));
    x0_hat = predict_x0(schedule, xt, t, eps_hat);
    return eps_hat;
  };
}
