// What a model's eps_hat stands for: as nanodiff/prediction.py.

import { predict_eps, predict_x0 } from "./schedule.js";

/** [x0_hat, eps_hat], the first limited to [-clip, clip], the second computed anew. */
export function limited(schedule, xt, t, x0_hat, eps_hat, clip) {
  if (clip === null) return [x0_hat, eps_hat];
  const within = x0_hat.map((value) => Math.min(Math.max(value, -clip), clip));
  return [within, predict_eps(schedule, xt, t, within)];
}

/** [x0_hat, eps_hat] of what model(xt, t) says. */
export async function ask(model, schedule, xt, t, clip) {
  const eps_hat = await model(xt, t);
  return limited(schedule, xt, t, predict_x0(schedule, xt, t, eps_hat), eps_hat, clip);
}
