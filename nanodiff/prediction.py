"""What a network may be asked for: the noise, the data, or their velocity.

    x_t = a x_0 + b eps,  v = a eps - b x_0        a = sqrt(alpha_bar_t)
                                                   b = sqrt(1 - alpha_bar_t)
(x_t, v) is (x_0, eps) rotated by an angle, and with x_t any one of eps, x0 and v gives
the other two. Only the loss differs. In terms of the error of x0_hat,

    (eps_hat - eps)^2 = SNR (x0_hat - x0)^2          SNR = a^2 / b^2
    (v_hat - v)^2 = (SNR + 1) (x0_hat - x0)^2        SNR + 1 = 1 / (1 - alpha_bar_t)

so a loss of eps neglects noisy times, where SNR is near 0, while a loss of v weighs
each time by 1 or more. Salimans, Ho 2022, arXiv 2202.00512, section 4 and Appendix D.

Shapes: x0, xt, eps, output are equal, (N, ...); t an int or (N,).
"""

import numpy as np

from nanodiff.schedule import at, predict_eps, predict_x0, times

KINDS = ("eps", "x0", "v")


def target(schedule, x0, t, eps, predicts="eps"):
    """Return what the network should say about x_t = `q_sample(schedule, x0, t, eps)`.

    predicts: "eps", "x0" or "v"; anything else raises ValueError.

    >>> from nanodiff.schedule import linear
    >>> x0, eps = np.array([[3.0]]), np.array([[2.0]])
    >>> target(linear(100), x0, 0, eps, "v").tolist()  # no noise yet: v = eps
    [[2.0]]
    """
    check_kind(predicts)
    if predicts == "v":
        signal, noise = _roots(schedule, t, x0)
        return times(signal, eps) - times(noise, x0)
    return eps if predicts == "eps" else x0


def split(schedule, xt, t, output, predicts="eps"):
    """Return (x0_hat, eps_hat), the data and the noise that an output stands for.

    x0_hat = a xt - b v, eps_hat = b xt + a v; or `predict_x0`, `predict_eps`. Raises
    ValueError for an unknown kind, and for "eps" where alpha_bar_t is 0.

    >>> from nanodiff.schedule import linear, q_sample
    >>> schedule, x0, eps = linear(100), np.array([[3.0]]), np.array([[2.0]])
    >>> v = target(schedule, x0, 60, eps, "v")
    >>> parts = split(schedule, q_sample(schedule, x0, 60, eps), 60, v, "v")
    >>> [part.round(9).item() for part in parts]
    [3.0, 2.0]
    """
    check_kind(predicts)
    if predicts == "eps":
        return predict_x0(schedule, xt, t, output), output
    if predicts == "x0":
        return output, predict_eps(schedule, xt, t, output)
    signal, noise = _roots(schedule, t, xt)
    x0_hat = times(signal, xt) - times(noise, output)
    return x0_hat, times(noise, xt) + times(signal, output)


def _roots(schedule, t, images):
    alpha_bar = at(schedule.alpha_bar, t, images)
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


def check_kind(predicts):
    """Raise ValueError unless predicts is one of `KINDS`."""
    if predicts not in KINDS:
        raise ValueError(f"predicts is {predicts!r}, expected one of {list(KINDS)}")
