"""Is a hand-written backward pass the derivative of its forward pass?

Along a random direction v, with a random cotangent dy,
    d/dh sum(dy * f(x + h v)) at h = 0     by central differences
    must equal  sum(backward(dy) * v)      for every input and every parameter.

Why dy is not all ones: the outputs of a group norm without SiLU sum to a constant if
gamma is equal within each group, as it is with one channel a group. The derivative by x
is then 0, and a backward pass that returns 0 would pass the check.
"""

import numpy as np

from nanodiff import check

LARGEST = 1e3  # input: beyond it, x + h v is rounded, and derivatives may vanish
DULL = 1e-3  # rounding error of the differences, relative, that would hide a mistake


def gradcheck(layer, *inputs, rng, h=1e-6, rtol=1e-6):
    """Check a layer's backward pass in float64, or raise AssertionError.

    inputs: as `layer.forward` takes them. Float arrays are differentiated, anything
    else (integers, None) is passed through. rng: a `np.random.Generator` for the
    parameters (random, so that no zero hides a mistake), dy and the directions. h: step
    of the differences. rtol: largest error, relative to a derivative above 1, absolute
    below.

    Changes the layer: its parameters become random and float64. Returns the names of
    what was checked. Raises ValueError where the differences would check nothing: for
    inputs beyond 1000, h outside 1e-8..1e-2, rtol outside 1e-12..1e-2, or a layer whose
    output is so large that rounding hides the derivative.

    >>> from nanodiff.layers import Linear
    >>> rng = np.random.default_rng(0)
    >>> gradcheck(Linear(3, 2, rng=rng), rng.standard_normal((4, 3)), rng=rng)
    ['x0', 'w', 'b']
    """
    methods = "forward", "backward", "named_params", "named_grads", "cast"
    check.thing("layer", layer, "a Layer", *methods)
    check.generator("rng", rng)
    h, rtol = check.number("h", h, 1e-8, 1e-2), check.number("rtol", rtol, 1e-12, 1e-2)
    _within_limits(inputs)
    layer.cast(np.float64)
    params = layer.named_params()
    for w in params.values():
        w += 0.5 * rng.standard_normal(w.shape)
    inputs = [np.array(x, np.float64) if _is_float(x) else x for x in inputs]

    dy = rng.standard_normal(layer.forward(*inputs).shape)
    dx = layer.backward(dy)
    dx = [d for d in (dx if isinstance(dx, tuple) else (dx,)) if d is not None]
    floats = [x for x in inputs if _is_float(x)]
    if len(dx) != len(floats):
        raise ValueError(
            f"layer returns {len(dx)} gradients of inputs, expected {len(floats)}, one "
            f"for each input of floats"
        )
    points = {f"x{i}": x for i, x in enumerate(floats)} | params
    grads = {f"x{i}": d for i, d in enumerate(dx)}
    grads |= {name: dw.copy() for name, dw in layer.named_grads().items()}
    rounding = 1e-16 * np.sqrt(dy.size)  # of the sum of dy * output, relative

    def loss():
        return np.sum(dy * layer.forward(*inputs))

    for name, point in points.items():
        v = rng.standard_normal(point.shape)
        expected, noise = _difference(loss, name, point, v, h, rounding)
        found = np.sum(grads[name] * v)
        error = abs(found - expected)
        if not error <= rtol * abs(expected) + noise + rtol:  # no assert: python -O
            raise AssertionError(
                f"{type(layer).__name__}: the derivative by {name} is {expected:.9g} "
                f"along a random direction, but backward says {found:.9g}"
            )
    layer.forward(*inputs)
    return list(points)


def _difference(loss, name, point, v, h, rounding):
    """The derivative of loss() as point moves along v, and its rounding error."""
    start, ends = point.copy(), []
    for sign in (1, -1):
        point[...] = start + sign * h * v
        ends.append(loss())
    point[...] = start
    expected = (ends[0] - ends[1]) / (2 * h)
    noise = rounding * max(map(abs, ends)) / h  # of two losses, over 2 h
    if not noise <= DULL * (1 + abs(expected)):
        raise ValueError(
            f"layer: the derivative by {name} is {expected:.2g} with a rounding error "
            f"of {noise:.2g}, expected a smaller one: of smaller inputs"
        )
    return expected, noise


def _within_limits(inputs):
    for x in filter(_is_float, inputs):
        check.array("inputs", x)
        if not np.abs(x).max(initial=0) <= LARGEST:  # NaN is not
            check.refuse("inputs", x, f"values within {LARGEST:g}")


def _is_float(x):
    return isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)
