"""Classifier-free guidance: exaggerate what the context changes in the prediction.

    guided = given + w (given - free)

given: the network's output with the context, free: without. Their difference is what
the context changes; w adds more of it, and w = 0 is the network as it was trained. Ho,
Salimans 2022, arXiv 2207.12598, Eq. 6, where it is written (1 + w) given - w free. At
one x_t, eps, x0, v and flow are affine functions of each other, so to guide one is to
guide all.

Shapes: xt (N, ...); t an int or (N,); context (N, features).
"""

import numpy as np

from nanodiff import check


def guide(network, context, w=0.0):
    """Return model(xt, t), the network with its context bound, guided by w.

    network: any callable (xt, t, context). context: (N, features), one row for each
    image: one-hot, or a mixture such as half a 3 and half an 8; a row of zeros is no
    context. w: 0 is no guidance; 1 to 3 gives clearer pictures with less variety, -1
    ignores the context. The two halves go through the network as one batch; with w = 0
    there is one half only. Raises ValueError for a context without rows of features or
    a w that is not a finite number, and later for an xt of another N or an output of
    another shape than its xt. The context is copied.

    >>> def network(xt, t, context):
    ...     return xt + context[:, :1]
    >>> xt, context = np.zeros((2, 1)), np.array([[1.0], [0.0]])
    >>> guide(network, context, w=2.0)(xt, 10).tolist()  # 3 x 1 - 2 x 0; no context
    [[3.0], [0.0]]
    """
    check.function("network", network, "a function of xt, t and context", 3)
    context, w = check.context("context", context).copy(), check.number("w", w)

    def model(xt, t):
        xt = check.array("xt", xt, ("N", ...))
        check.times("t", t, len(xt))
        if len(xt) != len(context):
            raise ValueError(f"xt has {len(xt)} rows, expected {len(context)}")
        if w == 0:
            return check.array("output", network(xt, t, context), xt.shape)
        both = np.concatenate([context, np.zeros_like(context)])
        t = t if np.ndim(t) == 0 else np.concatenate([t, t])
        twice = np.concatenate([xt, xt])
        output = check.array("output", network(twice, t, both), twice.shape)
        given, free = np.split(output, 2)
        return given + given.dtype.type(w) * (given - free)

    return model
