// A schedule with fewer times, so that DDPM takes longer steps: as nanodiff/respace.py;
// Nichol, Dhariwal 2021, arXiv 2102.09672, section 4.

import { timesteps } from "./ddim.js";
import { Schedule } from "./schedule.js";

/** [model, schedule] in which 1..steps stand for the times that `timesteps` visits. */
export function respace(model, schedule, steps) {
  const times = timesteps(schedule.T, steps).reverse();
  const short = Schedule.of(times.map((t) => schedule.alpha_bar[t]));
  return [(xt, i) => model(xt, times[i]), short];
}
