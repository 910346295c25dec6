// Classifier-free guidance: exaggerate what the context changes in the prediction.
//
//     guided = given + w (given - free)
//
// As nanodiff/guidance.py; Ho, Salimans 2022, arXiv 2207.12598, Eq. 6.

import { sum } from "./schedule.js";

/** model(xt, t): the network with its context, N rows, bound and guided by w. */
export function guide(network, context, w) {
  return async (xt, t) => {
    if (w === 0) return network(xt, t, context);
    const nothing = context.map((row) => row.map(() => 0));
    const twice = Float64Array.of(...xt, ...xt);
    const output = await network(twice, t, [...context, ...nothing]);
    const [given, free] = [output.slice(0, xt.length), output.slice(xt.length)];
    return sum(1 + w, given, -w, free);
  };
}
