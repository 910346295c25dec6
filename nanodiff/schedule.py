"""The noise schedule: how much noise an image carries at each time, and what follows.

    q(x_t | x_{t-1}) = N(sqrt(alpha_t) x_{t-1}, beta_t)       alpha_t = 1 - beta_t
    q(x_t | x_0)     = N(sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t)
    alpha_bar_t      = alpha_1 alpha_2 ... alpha_t

x_0 is data and t runs 1..T, so every table has length T + 1, with beta[0] = 0 and
alpha_bar[0] = 1. Results have the dtype of the images, tables are float64: computed in
float32, 1 - alpha_bar_1 = 1e-4 (T = 1000) would be wrong by 1.7e-4 of its value, over
1,000 times float32's rounding. Ho, Jain, Abbeel 2020 (DDPM), arXiv 2006.11239, section
2.

Shapes: images (N, ...); t an int, or (N,) with one time for each image.
"""

import inspect
import sys
import warnings

import numpy as np

from nanodiff import check

VISIBLE = 2e-3  # alpha_bar above this at T leaves a signal that the eye can see


class Schedule:
    """A noise schedule: beta, which is chosen, and the tables that follow from it.

    beta: the T values for t = 1..T, each inside (0, 1), the last may be 1; or the whole
    table of T + 1 values that starts with 0. Raises ValueError otherwise, and where
    alpha or alpha_bar leaves the range of float64: it may be 0 at T only. Warns if
    alpha_bar[T] is over 0.002: then x_T still holds signal in training, but a sampler
    starts from noise without any.

    Attributes, each read-only, float64 and of length T + 1:
    beta        variance of the noise that step t adds
    alpha       1 - beta, the share of the variance that step t keeps
    alpha_bar   product of alpha up to t, the share of the data's variance left in x_t
    snr         alpha_bar / (1 - alpha_bar), infinite at t = 0
    beta_tilde  variance of q(x_{t-1} | x_t, x_0), DDPM Eq. 7; 0 at t = 1 (and at 0)

    >>> schedule = Schedule([0.5, 0.9, 0.999])
    >>> schedule.T, schedule.alpha_bar.round(6).tolist()
    (3, [1.0, 0.5, 0.05, 5e-05])
    """

    def __init__(self, beta):
        beta = np.array(check.reals("beta", beta))
        if beta.ndim != 1 or beta.size == 0:
            raise ValueError(f"beta has shape {beta.shape}, expected (T,) with T >= 1")
        if beta[0] != 0:
            beta = np.concatenate([[0.0], beta])
        inside = (beta[1:] > 0) & (beta[1:] < 1)  # NaN is not
        inside[-1:] |= beta[-1:] == 1  # zero terminal SNR: x_T is pure noise
        if not inside.all() or beta.size == 1:
            found = beta[1:][~inside][:1]
            raise ValueError(
                f"beta holds {found}, expected values inside (0, 1), T >= 1"
            )
        self.T = beta.size - 1
        self.beta, self.alpha = beta, 1 - beta
        self.alpha_bar = np.cumprod(self.alpha)
        self._check_range()
        noise = 1 - self.alpha_bar
        with np.errstate(divide="ignore"):
            self.snr = self.alpha_bar / noise
        self.beta_tilde = np.zeros(self.T + 1)
        self.beta_tilde[1:] = beta[1:] * noise[:-1] / noise[1:]
        for table in (self.beta, self.alpha, self.alpha_bar, self.snr, self.beta_tilde):
            table.flags.writeable = False
        if self.alpha_bar[-1] > VISIBLE:
            warnings.warn(
                f"alpha_bar[{self.T}] is {self.alpha_bar[-1]:.2g}, so x_T still shows "
                f"the image; use more steps or larger betas, down to {VISIBLE}",
                stacklevel=_level_outside(),
            )

    def _check_range(self):
        """Raise ValueError if a step is too small, or too many are too large."""
        if not (self.alpha[1:] < 1).all():
            small = self.beta[1:][self.alpha[1:] == 1][0]
            raise ValueError(
                f"beta holds {small}, expected above 1.1e-16: 1 - beta is 1"
            )
        least = np.finfo(np.float64).tiny
        lost = np.flatnonzero(self.alpha_bar[: self.T + (self.alpha[-1] > 0)] < least)
        if lost.size:
            raise ValueError(
                f"beta makes alpha_bar {self.alpha_bar[lost[0]]:.2g} at t = {lost[0]}, "
                f"expected at least {least:.2g}: fewer steps, or smaller betas"
            )

    def __repr__(self):
        ends = f"beta {self.beta[1]:.3g}..{self.beta[-1]:.3g}"
        return f"Schedule(T={self.T}, {ends}, alpha_bar[T]={self.alpha_bar[-1]:.2g})"


def _level_outside():
    """The stacklevel at which a warning points at the line that called nanodiff."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].startswith("nanodiff."):
        level, frame = level + 1, frame.f_back
    return level


def linear(T):
    """Return the linear schedule, beta from 0.1 / T to 20 / T.

    DDPM section 4 has beta from 0.0001 to 0.02 at T = 1000; scaling it by 1000 / T
    keeps alpha_bar_T below 0.0001 at every T. Raises ValueError for T <= 20, where beta
    would reach 1.

    >>> float(linear(1000).beta[1000])
    0.02
    """
    T = check.integer("T", T, 1)
    if T <= 20:
        raise ValueError(f"T is {T}, expected more than 20: beta_T = 20 / T reaches 1")
    return Schedule(np.linspace(1e-4, 0.02, T) * (1000 / T))


def cosine(T, offset=0.008):
    """Return the cosine schedule: alpha_bar falls as a squared cosine.

    alpha_bar_t = f(t) / f(0), f(t) = cos^2(pi/2 (t/T + offset) / (1 + offset)),
    and beta at most 0.999. Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 17. Raises
    ValueError for a T below 1 or an offset outside 0..1.

    >>> cosine(4).alpha_bar.round(3).tolist()
    [1.0, 0.847, 0.494, 0.144, 0.0]
    """
    T, offset = check.integer("T", T, 1), check.number("offset", offset, 0, 1)
    time = np.arange(T + 1) / T
    alpha_bar = np.cos(np.pi / 2 * (time + offset) / (1 + offset)) ** 2
    return Schedule(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))


def quadratic(T):
    """Return the quadratic ("scaled linear") schedule: sqrt(beta) is linear.

    beta_t from 0.85 / T to 12 / T, whose roots rise in equal steps (latent diffusion,
    Rombach et al. 2021, arXiv 2112.10752; their T is 1000). Raises ValueError for
    T <= 12, where beta would reach 1. It leaves more signal at T than `linear` does, so
    it warns.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     quadratic(1000).beta[[1, 1000]].round(6).tolist()
    [0.00085, 0.012]
    """
    T = check.integer("T", T, 1)
    if T <= 12:
        raise ValueError(f"T is {T}, expected more than 12: beta_T = 12 / T reaches 1")
    return Schedule(np.linspace(0.00085**0.5, 0.012**0.5, T) ** 2 * (1000 / T))


def sigmoid(T, start=-3.0, end=3.0):
    """Return the sigmoid schedule: alpha_bar falls as a logistic curve.

    alpha_bar_t = (s(end) - s(u_t)) / (s(end) - s(start)), u_t = start + (end - start)
    t / T, s(u) = 1 / (1 + exp(-u)), and beta at most 0.999. Jabri, Fleet, Chen 2022,
    arXiv 2212.11972. Raises ValueError unless T is at least 1, start and end are
    numbers, start is below end, and the curve between them falls at every step.

    >>> sigmoid(4).alpha_bar.round(3).tolist()
    [1.0, 0.851, 0.5, 0.149, 0.0]
    """
    T, start = check.integer("T", T, 1), check.number("start", start)
    end = check.number("end", end)
    if not start < end:
        raise ValueError(f"start is {start:g}, expected below end, which is {end:g}")
    with np.errstate(over="ignore"):  # exp may be infinite: the curve is 0 there
        curve = 1 / (1 + np.exp(-np.linspace(start, end, T + 1)))
    left = curve[-1] - curve  # alpha_bar, but for a factor: only ratios count
    if not np.all(np.diff(left) < 0):
        raise ValueError(
            f"start and end are {start:g} and {end:g}, expected nearer to 0: the curve "
            f"between them is flat to float64's rounding"
        )
    return Schedule(np.minimum(1 - left[1:] / left[:-1], 0.999))


def straight(T):
    """Return the schedule of flow matching: data turn into noise on a straight line.

    sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t) are as 1 - u to u, u = t / (T + 1), so
    that x_t is (1 - u) x0 + u eps, scaled to the variances of every other schedule. See
    `flow.py`; Liu, Gong, Liu 2022, arXiv 2209.03003, section 2. Raises ValueError for a
    T below 1, and warns below 23, where x_T still shows the image.

    >>> straight(99).alpha_bar[[0, 25, 50, 99]].round(4).tolist()
    [1.0, 0.9, 0.5, 0.0001]
    """
    T = check.integer("T", T, 1)
    u = np.arange(T + 1) / (T + 1)
    alpha_bar = (1 - u) ** 2 / ((1 - u) ** 2 + u**2)
    return Schedule(1 - alpha_bar[1:] / alpha_bar[:-1])


def zero_terminal(schedule):
    """Return the schedule rescaled so that alpha_bar_T = 0: x_T is pure noise.

    sqrt(alpha_bar) is shifted by its last value and stretched to start where it did:
    Lin et al. 2023, arXiv 2305.08891, Algorithm 1. At T, where x_T = eps, a model of
    eps gives no x0_hat: use a model of v or x0. Raises ValueError for T = 1.

    >>> zero_terminal(linear(100)).alpha_bar[[1, 100]].round(6).tolist()
    [0.999, 0.0]
    """
    if check.schedule(schedule).T < 2:
        raise ValueError("schedule has T = 1, expected at least 2")
    root = np.sqrt(schedule.alpha_bar)
    first, last = root[1], root[-1]
    scaled = (root - last) * (first / (first - last))
    scaled[0] = 1  # x_0 stays the data
    return Schedule(1 - (scaled[1:] / scaled[:-1]) ** 2)


NAMED = {
    "linear": linear, "cosine": cosine, "quadratic": quadratic, "sigmoid": sigmoid,
    "straight": straight,
}  # fmt: skip


def named(name, T, **parameters):
    """Return the schedule of a name in `NAMED`, with its parameters, if it has any.

    Raises ValueError for another name, a parameter that the schedule does not have, or
    a value that it does not take.

    >>> named("cosine", 50, offset=0.02).T
    50
    """
    name = check.choice("schedule", name, NAMED)
    _, *known = inspect.signature(NAMED[name]).parameters
    for parameter in parameters.keys() - known:
        raise ValueError(
            f"schedule {name!r} has no {parameter!r}, expected one of {known}"
        )
    return NAMED[name](T, **parameters)


def q_sample(schedule, x0, t, eps):
    """Return x_t: the data x0 after t steps of noise, in one jump.

    x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, DDPM Eq. 4. eps is standard
    normal, of x0's shape. Raises ValueError if t is not an int or (N,) integers in
    0..T, if shapes differ, or if x0 or eps are not floats.

    >>> q_sample(linear(100), np.ones((2, 3)), 0, np.zeros((2, 3))).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    x0, eps = check.alike(x0=x0, eps=eps)
    alpha_bar = at(check.schedule(schedule).alpha_bar, t, x0)
    return times(np.sqrt(alpha_bar), x0) + times(np.sqrt(1 - alpha_bar), eps)


def predict_x0(schedule, xt, t, eps_hat):
    """Return x0_hat, the image that xt shows if its noise is eps_hat.

    x0_hat = (xt - sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_bar_t): `q_sample` solved
    for x0 (DDPM Eq. 15). Raises ValueError as `q_sample` does, and where alpha_bar_t is
    0, as x_t then holds nothing of x0.

    >>> schedule, x0, eps = linear(100), np.array([[2.0, 3.0]]), np.array([[0.5, -1.0]])
    >>> predict_x0(schedule, q_sample(schedule, x0, 60, eps), 60, eps).round(9).tolist()
    [[2.0, 3.0]]
    """
    xt, eps_hat = check.alike(xt=xt, eps_hat=eps_hat)
    alpha_bar = at(check.schedule(schedule).alpha_bar, t, xt)
    if np.any(alpha_bar == 0):
        raise ValueError(
            f"alpha_bar is 0 at t = {t}: expected a model of x0 or v there"
        )
    signal = xt - times(np.sqrt(1 - alpha_bar), eps_hat)
    return times(1 / np.sqrt(alpha_bar), signal)


def predict_eps(schedule, xt, t, x0_hat):
    """Return eps_hat, the noise in xt if the image under it is x0_hat.

    eps_hat = (xt - sqrt(alpha_bar_t) x0_hat) / sqrt(1 - alpha_bar_t): `q_sample` solved
    for eps. t is in 1..T, as x_0 has no noise. Raises ValueError as `q_sample` does.

    >>> predict_eps(linear(100), np.zeros((1, 1)), 60, np.zeros((1, 1))).tolist()
    [[0.0]]
    """
    xt, x0_hat = check.alike(xt=xt, x0_hat=x0_hat)
    alpha_bar = at(check.schedule(schedule).alpha_bar, t, xt, first=1)
    noise = xt - times(np.sqrt(alpha_bar), x0_hat)
    return times(1 / np.sqrt(1 - alpha_bar), noise)


def posterior(schedule, x0, xt, t):
    """Return mean and variance of q(x_{t-1} | x_t, x_0), for t in 1..T.

    mu_tilde = (sqrt(alpha_bar_{t-1}) beta_t x0
                + sqrt(alpha_t) (1 - alpha_bar_{t-1}) xt) / (1 - alpha_bar_t)
    and beta_tilde_t, a float64 that broadcasts against the images; DDPM Eq. 6 and 7.
    Raises ValueError as `q_sample` does.

    >>> x0, xt = np.array([[5.0]]), np.array([[7.0]])
    >>> [round(v.item(), 9) for v in posterior(linear(100), x0, xt, 1)]
    [5.0, 0.0]
    """
    x0, xt = check.alike(x0=x0, xt=xt)
    schedule = check.schedule(schedule)
    beta, alpha = at(schedule.beta, t, xt, first=1), at(schedule.alpha, t, xt)
    alpha_bar = at(schedule.alpha_bar, t, xt)
    alpha_bar_prev = at(schedule.alpha_bar, np.asarray(t) - 1, xt)
    weight_0 = np.sqrt(alpha_bar_prev) * beta / (1 - alpha_bar)
    weight_t = np.sqrt(alpha) * (1 - alpha_bar_prev) / (1 - alpha_bar)
    mu_tilde = times(weight_0, x0) + times(weight_t, xt)
    return mu_tilde, at(schedule.beta_tilde, t, xt)


def at(table, t, images, first=0, name="t"):
    """Return table[t], shaped to multiply each of the images by its own value.

    name: of t, for messages. Raises ValueError if t is not an int or (N,) integers in
    first..T.

    >>> at(np.arange(5.0), np.array([1, 3]), np.zeros((2, 1, 8, 8))).shape
    (2, 1, 1, 1)
    """
    table = check.array("table", table, ("T + 1",))
    images, first = check.array("images", images), check.integer("first", first, 0)
    t, T = check.as_array(name, t, "an integer, or one an image"), table.size - 1
    if t.shape not in ((), images.shape[:1]):
        raise ValueError(
            f"{name} has shape {t.shape}, expected () or {images.shape[:1]}"
        )
    if t.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {t.dtype}, expected integers")
    low, high = (t.min(initial=T), t.max(initial=first)) if t.ndim else [t.item()] * 2
    if low < first or high > T:
        value = low if low < first else high
        raise ValueError(f"{name} is {value}, expected {first}..{T}")
    return table[t].reshape(t.shape + (1,) * (images.ndim - 1))


def times(coefficient, images):
    """Return the product in the images' dtype; the coefficient is float64 until here.

    >>> times(np.float64(2), np.ones(3, np.float32)).dtype
    dtype('float32')
    """
    images = check.array("images", images)
    coefficient = check.reals("coefficient", coefficient).astype(images.dtype)
    try:
        product = coefficient * images
    except ValueError:  # shapes that do not fit each other
        product = coefficient
    if product.shape != images.shape:
        check.refuse("coefficient", coefficient, "one value, or one for each image")
    return product
