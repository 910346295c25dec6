// The arc between two noises x_T; DDIM makes a picture of each point on it.
//
//     slerp(a, b, f) = sin((1 - f) angle) / sin(angle) a + sin(f angle) / sin(angle) b
//
// As nanodiff/latent.py; Song, Meng, Ermon 2020, arXiv 2010.02502, section 5.3.

import { sum } from "./schedule.js";

/** The noise at `fraction` of the arc from a (0) to b (1). */
export function slerp(a, b, fraction) {
  const [along, across] = [-1, 1].map((sign) =>
    Math.hypot(...sum(1 / Math.hypot(...a), a, sign / Math.hypot(...b), b)),
  );
  const angle = 2 * Math.atan2(along, across); // exact also where cos(angle) is near 1
  if (angle < 1e-6) return sum(1 - fraction, a, fraction, b); // a straight line
  const of = (share) => Math.sin(share * angle) / Math.sin(angle);
  return sum(of(1 - fraction), a, of(fraction), b);
}
