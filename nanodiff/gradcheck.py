"""Is a hand-written backward pass the derivative of its forward pass?

Along a random direction v, with a random cotangent dy,
    d/dh sum(dy * f(x + h v)) at h = 0     by central differences
    must equal  sum(backward(dy) * v)      for every input and every parameter.

Why dy is not all ones: the outputs of a group norm without SiLU sum to a constant if
gamma is equal within each group, as it is with one channel a group. The derivative by x
is then 0, and a backward pass that returns 0 would pass the check.
"""

import numpy as np


def gradcheck(layer, *inputs, rng, h=1e-6, rtol=1e-6):
    """Check a layer's backward pass in float64, or raise AssertionError.

    inputs: as `layer.forward` takes them. Float arrays are differentiated, anything
    else (integers, None) is passed through. rng: a `np.random.Generator` for the
    parameters (random, so that no zero hides a mistake), dy and the directions. h: step
    of the differences. rtol: largest error, relative to a derivative above 1, absolute
    below.

    Changes the layer: its parameters become random and float64. Returns the names of
    what was checked.

    >>> from nanodiff.layers import Linear
    >>> rng = np.random.default_rng(0)
    >>> gradcheck(Linear(3, 2, rng=rng), rng.standard_normal((4, 3)), rng=rng)
    ['x0', 'w', 'b']
    """
    layer.cast(np.float64)
    params = layer.named_params()
    for w in params.values():
        w += 0.5 * rng.standard_normal(w.shape)
    inputs = [np.array(x, np.float64) if _is_float(x) else x for x in inputs]

    dy = rng.standard_normal(layer.forward(*inputs).shape)
    dx = layer.backward(dy)
    dx = dx if isinstance(dx, tuple) else (dx,)
    points = {f"x{i}": x for i, x in enumerate(x for x in inputs if _is_float(x))}
    grads = dict(zip(points, (d for d in dx if d is not None), strict=True))
    grads |= {name: dw.copy() for name, dw in layer.named_grads().items()}
    points |= params

    for name, point in points.items():
        v = rng.standard_normal(point.shape)
        start, ends = point.copy(), []
        for sign in (1, -1):
            point[...] = start + sign * h * v
            ends.append(np.sum(dy * layer.forward(*inputs)))
        point[...] = start
        expected, found = (ends[0] - ends[1]) / (2 * h), np.sum(grads[name] * v)
        # Rounding of the two sums, over 2 h, is an absolute error.
        noise = 1e-16 * max(map(abs, ends)) * np.sqrt(dy.size) / h
        error = abs(found - expected)
        assert error <= rtol * abs(expected) + noise + rtol, (
            f"{type(layer).__name__}: the derivative by {name} is {expected:.9g} along "
            f"a random direction, but backward says {found:.9g}"
        )
    layer.forward(*inputs)
    return list(points)


def _is_float(x):
    return isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)
