// The noise schedule: how much noise a point or a picture carries at each time.
//
//     q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t)
//     alpha_bar_t  = alpha_1 alpha_2 ... alpha_t,  alpha_t = 1 - beta_t
//
// t runs 1..T, so every table has length T + 1. As nanodiff/schedule.py, whose letters it
// has; Ho, Jain, Abbeel 2020 (DDPM), arXiv 2006.11239, section 2.
//
// xt, eps_hat, x0_hat: Float64Arrays of one length, any number of images in a row.

export const VISIBLE = 2e-3; // alpha_bar above this at T leaves a signal that the eye sees

export class Schedule {
  /** beta: the T values for t = 1..T. RangeError unless each is inside (0, 1). */
  constructor(beta) {
    const wrong = [...beta].find((value) => !(value > 0 && value < 1));
    if (wrong !== undefined || beta.length === 0) {
      throw new RangeError(`beta holds ${wrong}, expected values inside (0, 1), T >= 1`);
    }
    this.T = beta.length;
    this.beta = Float64Array.of(0, ...beta);
    this.alpha = this.beta.map((value) => 1 - value);
    let product = 1;
    this.alpha_bar = this.alpha.map((value) => {
      product *= value;
      return product;
    });
    const noise = this.alpha_bar.map((value) => 1 - value);
    this.snr = this.alpha_bar.map((value, t) => value / noise[t]);
    this.beta_tilde = this.beta.map((value, t) =>
      t === 0 ? 0 : (value * noise[t - 1]) / noise[t],
    );
  }

  /** The schedule with this table, which starts with 1. */
  static of(alpha_bar) {
    const beta = alpha_bar.slice(1).map((value, i) => 1 - value / alpha_bar[i]);
    return new Schedule(beta);
  }
}

/** beta from 0.1 / T to 20 / T: DDPM, section 4, where T is 1000. */
export function linear(T) {
  at_least(21, T);
  return new Schedule(linspace(1e-4, 0.02, T).map((value) => value * (1000 / T)));
}

/** alpha_bar falls as a squared cosine: arXiv 2102.09672, Eq. 17. */
export function cosine(T) {
  at_least(1, T);
  const offset = 0.008;
  return capped(
    zero_to(T).map((t) => Math.cos(((Math.PI / 2) * (t / T + offset)) / (1 + offset)) ** 2),
  );
}

/** sqrt(beta) is linear: latent diffusion, arXiv 2112.10752. */
export function quadratic(T) {
  at_least(13, T);
  const roots = linspace(0.00085 ** 0.5, 0.012 ** 0.5, T);
  return new Schedule(roots.map((root) => root ** 2 * (1000 / T)));
}

/** alpha_bar falls as a logistic curve from -3 to 3: arXiv 2212.11972. */
export function sigmoid(T) {
  at_least(1, T);
  const curve = linspace(-3, 3, T + 1).map((u) => 1 / (1 + Math.exp(-u)));
  return capped(curve.map((value) => curve[T] - value));
}

/** sqrt(alpha_bar) and sqrt(1 - alpha_bar) are as 1 - u to u: flow, arXiv 2209.03003. */
export function straight(T) {
  at_least(1, T);
  const u = zero_to(T).map((t) => t / (T + 1));
  return Schedule.of(u.map((u) => (1 - u) ** 2 / ((1 - u) ** 2 + u ** 2)));
}

export const NAMED = { linear, cosine, quadratic, sigmoid, straight };

/** x0_hat = (xt - sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_bar_t): DDPM Eq. 15. */
export function predict_x0(schedule, xt, t, eps_hat) {
  const alpha_bar = at(schedule.alpha_bar, t);
  const a = Math.sqrt(alpha_bar);
  return sum(1 / a, xt, -Math.sqrt(1 - alpha_bar) / a, eps_hat);
}

/** eps_hat = (xt - sqrt(alpha_bar_t) x0_hat) / sqrt(1 - alpha_bar_t). */
export function predict_eps(schedule, xt, t, x0_hat) {
  const alpha_bar = at(schedule.alpha_bar, t);
  const b = Math.sqrt(1 - alpha_bar);
  return sum(1 / b, xt, -Math.sqrt(alpha_bar) / b, x0_hat);
}

/** Mean and variance of q(x_{t-1} | x_t, x_0): DDPM Eq. 6 and 7. */
export function posterior(schedule, x0, xt, t) {
  const { beta, alpha, alpha_bar, beta_tilde } = schedule;
  const noise = 1 - at(alpha_bar, t);
  const weight_0 = (Math.sqrt(alpha_bar[t - 1]) * beta[t]) / noise;
  const weight_t = (Math.sqrt(alpha[t]) * (1 - alpha_bar[t - 1])) / noise;
  return [sum(weight_0, x0, weight_t, xt), beta_tilde[t]];
}

/** table[t]. RangeError unless t is an integer in 1..T. */
export function at(table, t) {
  const T = table.length - 1;
  if (!(Number.isInteger(t) && t >= 1 && t <= T)) {
    throw new RangeError(`t is ${t}, expected 1..${T}`);
  }
  return table[t];
}

/** a x + b y */
export function sum(a, x, b, y) {
  if (x.length !== y.length) {
    throw new RangeError(`lengths are ${x.length} and ${y.length}, expected equal`);
  }
  return x.map((value, i) => a * value + b * y[i]);
}

/** The schedule with this alpha_bar, up to a factor, and beta at most 0.999. */
function capped(alpha_bar) {
  const beta = alpha_bar.slice(1).map((value, i) => 1 - value / alpha_bar[i]);
  return new Schedule(beta.map((value) => Math.min(value, 0.999)));
}

function at_least(least, T) {
  if (!(Number.isInteger(T) && T >= least)) {
    throw new RangeError(`T is ${T}, expected an integer of at least ${least}`);
  }
}

/** 0..T */
function zero_to(T) {
  return Float64Array.from({ length: T + 1 }, (_, t) => t);
}

function linspace(from, to, n) {
  const step = n > 1 ? (to - from) / (n - 1) : 0;
  return Float64Array.from({ length: n }, (_, i) => from + i * step);
}
