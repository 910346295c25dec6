"""What a network may be asked for: the noise, the data, or their velocity.

    x_t = a x_0 + b eps,  v = a eps - b x_0        a = sqrt(alpha_bar_t)
                          flow = eps - x_0         b = sqrt(1 - alpha_bar_t)
(x_t, v) is (x_0, eps) rotated by an angle, flow the velocity of `flow.py`. With x_t any
one of eps, x0, v and flow gives the others. Only the loss differs. In terms of the
error of x0_hat,

    (eps_hat - eps)^2 = SNR (x0_hat - x0)^2          SNR = a^2 / b^2
    (v_hat - v)^2 = (SNR + 1) (x0_hat - x0)^2        SNR + 1 = 1 / (1 - alpha_bar_t)
    (flow_hat - flow)^2 = (sqrt(SNR) + 1)^2 (x0_hat - x0)^2

so a loss of eps neglects noisy times, where SNR is near 0, while a loss of v or flow
weighs each time by 1 or more. Salimans, Ho 2022, arXiv 2202.00512, section 4 and
Appendix D. `min_snr` weighs all of them by min(SNR, gamma).

Shapes: x0, xt, eps, output are equal, (N, ...); t an int or (N,).
"""

import warnings

import numpy as np

from nanodiff import check
from nanodiff.schedule import at, predict_eps, predict_x0, times

KINDS = ("eps", "x0", "v", "flow")
FAINT, LEAP = 300, 20  # by how much errors of eps_hat may grow: in x0_hat, in a step


def target(schedule, x0, t, eps, predicts="eps"):
    """Return what the network should say about x_t = `q_sample(schedule, x0, t, eps)`.

    predicts: one of `KINDS`. Raises ValueError for anything else, and as `q_sample`
    does.

    >>> from nanodiff.schedule import linear
    >>> x0, eps = np.array([[3.0]]), np.array([[2.0]])
    >>> target(linear(100), x0, 0, eps, "v").tolist()  # no noise yet: v = eps
    [[2.0]]
    """
    check.choice("predicts", predicts, KINDS)
    x0, eps = check.alike(x0=x0, eps=eps)
    if predicts == "v":
        signal, noise = _roots(schedule, t, x0)
        return times(signal, eps) - times(noise, x0)
    if predicts == "flow":
        return eps - x0
    return eps if predicts == "eps" else x0


def split(schedule, xt, t, output, predicts="eps"):
    """Return (x0_hat, eps_hat), the data and the noise that an output stands for.

    x0_hat = a xt - b v, eps_hat = b xt + a v; (xt - b flow) / (a + b), (xt + a flow) /
    (a + b); or `predict_x0`, `predict_eps`. Raises ValueError for an unknown kind, for
    "eps" where alpha_bar_t is 0, and as `q_sample` does. An output of eps or x0 is
    returned itself, not a copy of it.

    >>> from nanodiff.schedule import linear, q_sample
    >>> schedule, x0, eps = linear(100), np.array([[3.0]]), np.array([[2.0]])
    >>> v = target(schedule, x0, 60, eps, "v")
    >>> parts = split(schedule, q_sample(schedule, x0, 60, eps), 60, v, "v")
    >>> [part.round(9).item() for part in parts]
    [3.0, 2.0]
    """
    check.choice("predicts", predicts, KINDS)
    xt, output = check.alike(xt=xt, output=output)
    if predicts == "eps":
        return predict_x0(schedule, xt, t, output), output
    if predicts == "x0":
        return output, predict_eps(schedule, xt, t, output)
    signal, noise = _roots(schedule, t, xt)
    if predicts == "flow":
        scale = 1 / (signal + noise)
        x0_hat = times(scale, xt - times(noise, output))
        return x0_hat, times(scale, xt + times(signal, output))
    x0_hat = times(signal, xt) - times(noise, output)
    return x0_hat, times(noise, xt) + times(signal, output)


def min_snr(schedule, t, images, gamma, predicts="eps"):
    """Return the weights that give every kind of prediction the same loss.

    weight (output - target)^2 = min(SNR, gamma) (x0_hat - x0)^2, so weight = min(SNR,
    gamma) (dx0_hat / doutput)^2: min(SNR, gamma) for x0, that over SNR for eps, over
    SNR + 1 for v. Hang et al. 2023, arXiv 2303.09556; their gamma is 5. The derivative
    is what `split` makes of x_t = 0 and an output of 1. A float64 for each image, or
    one for all, that broadcasts against the images. Raises ValueError for a gamma not
    above 0, a t not in 1..T, an unknown kind, and for "eps" where alpha_bar_t is 0.

    >>> from nanodiff.schedule import linear
    >>> schedule, images = linear(100), np.zeros((2, 3))
    >>> min_snr(schedule, np.array([1, 60]), images, 5.0, "eps").round(3).tolist()
    [[0.005], [1.0]]
    """
    gamma = check.number("gamma", gamma, above=0)
    images = check.array("images", images, ("N", ...))
    alpha_bar = at(check.schedule(schedule).alpha_bar, t, images, first=1)
    one = np.ones((len(images), *(1,) * (images.ndim - 1)))
    slope, _ = split(schedule, 0 * one, t, one, predicts)
    return np.minimum(alpha_bar / (1 - alpha_bar), gamma) * slope**2


def _roots(schedule, t, images):
    alpha_bar = at(check.schedule(schedule).alpha_bar, t, images)
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


def limited(schedule, xt, t, x0_hat, eps_hat, clip):
    """Return (x0_hat, eps_hat), the first limited to [-clip, clip], unless it is None.

    eps_hat is then computed from it anew, so that both still make x_t.

    >>> from nanodiff.schedule import linear
    >>> x = np.array([[9.0]])
    >>> x0_hat, eps_hat = limited(linear(100), x, 60, 30 * x, -x, 1.0)
    >>> x0_hat.item(), round(eps_hat.item(), 4)
    (1.0, 8.9519)
    """
    if check.clip(clip) is None:
        return x0_hat, eps_hat
    x0_hat = np.clip(check.array("x0_hat", x0_hat), -clip, clip)
    return x0_hat, predict_eps(schedule, xt, t, x0_hat)


def ask(model, schedule, xt, t, predicts="eps", clip=None):
    """Return (x0_hat, eps_hat) of what model(xt, t) says, limited if clip is given.

    The model is shown a copy of xt, and its output is copied: it may write to the one,
    and write its next output over the other. Raises ValueError as `split` does, so also
    for an output of another shape than xt.

    >>> from nanodiff.schedule import linear
    >>> x0_hat, eps_hat = ask(lambda xt, t: 0 * xt, linear(100), np.ones((1, 1)), 60)
    >>> x0_hat.round(3).item(), eps_hat.item()
    (6.595, 0.0)
    """
    xt = check.array("xt", xt, ("N", ...))
    output = check.function("model", model)(xt.copy(), t)
    output = check.array("the model's output", output, xt.shape).copy()
    x0_hat, eps_hat = split(schedule, xt, t, output, predicts)
    return limited(schedule, xt, t, x0_hat, eps_hat, clip)


def begin(model, schedule, xT, times, predicts, clip):
    """Check what every sampler takes before it starts, and return a copy of xT.

    times: as the sampler visits them. Raises ValueError if one does not fit. Without a
    clip it warns where an error of eps_hat grows out of bounds: over 300 times in
    x0_hat (1 / sqrt(alpha_bar_t)), and over 20 times in the step from t to s
    (sqrt(alpha_bar_s / alpha_bar_t)), as in the first step of a cosine schedule.
    """
    check.function("model", model, takes=2)
    check.choice("predicts", predicts, KINDS)
    clip, xT = check.clip(clip), check.array("xT", xT, ("N", ...))
    if predicts == "eps":
        times = check.integers("times", times, 0, check.schedule(schedule).T)
        if len(times) < 2:
            check.refuse("times", times, "two times at least, the last of them 0")
        alpha_bar = schedule.alpha_bar[times]
        if alpha_bar[0] == 0:
            raise ValueError(
                f"alpha_bar is 0 at t = {times[0]}: expected a model of x0 or v there"
            )
        _warn(alpha_bar, times, clip)
    return xT.copy()


def _warn(alpha_bar, times, clip):
    growth = np.sqrt(alpha_bar[1:] / alpha_bar[:-1])
    i = growth.argmax()
    faint = alpha_bar[i] ** -0.5
    if clip is None and growth[i] > LEAP and faint > FAINT:
        warnings.warn(
            f"an error of eps_hat at t = {times[i]} is {faint:.0f} times as large in "
            f"x0_hat, and {growth[i]:.0f} times in x_t at t = {times[i + 1]}: pass "
            f"clip=1.0, or use a model of v or x0",
            stacklevel=4,
        )
