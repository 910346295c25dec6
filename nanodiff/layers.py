"""Layers with a hand-written backward pass beside each forward pass.

A layer keeps in `cache` what its backward pass needs. `backward(dy)` takes dL/dy,
writes the gradient of each parameter `w` into `dw` (it overwrites, so there is nothing
to clear) and returns dL/dx. No layer writes to an array that it was given.

Convolutions and norms are the sums of `plain.py`, computed by `engine`.

Shapes: vectors (N, features), images (N, C, H, W), convolution weights (C_out, C_in, 3,
3) as in PyTorch. Parameters are float32; `layer.cast(np.float64)` serves gradient
checks.
"""

import numpy as np

from nanodiff import check
from nanodiff.engine import functions, turn


class Layer:
    """What every layer has: parameters by name, gradients by name, a dtype.

    A composite's children are its attributes that are layers, or lists of layers, in
    order of assignment.

    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> {name: w.shape for name, w in layer.named_params().items()}
    {'w': (3, 2), 'b': (2,)}
    """

    param_names = ()

    def forward(self, x):
        """Return the layer's output, and keep in `cache` what backward needs."""
        raise NotImplementedError

    def backward(self, dy):
        """Write the parameters' gradients and return the input's, from dL/dy."""
        raise NotImplementedError

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def __getattr__(self, name):  # of what is missing
        if name == "cache":
            raise ValueError(
                f"dy is given to the backward pass of {type(self).__name__}, expected "
                f"a forward pass before"
            )
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def walk(self, prefix=""):
        """Yield (prefix, layer) for this layer and all below it, as they were made."""
        check.instance("prefix", prefix, str)
        yield prefix, self
        for name, value in vars(self).items():
            for path, child in _layers_in(value, prefix + name):
                yield from child.walk(f"{path}.")

    def named_params(self):
        """Return a dict from paths such as "downs.0.conv1.w" to parameter arrays."""
        return self._named("")

    def named_grads(self):
        """Return the gradient arrays under the paths of `named_params`."""
        return self._named("d")

    def _named(self, kind):
        return {
            prefix + name: getattr(layer, kind + name)
            for prefix, layer in self.walk()
            for name in layer.param_names
        }

    def add_param(self, name, value):
        """Make `value` a float32 parameter, with a gradient of zeros beside it."""
        if not isinstance(name, str) or not name.isidentifier():
            check.refuse("name", name, "a name of an attribute")
        value = check.array("value", value).astype(np.float32)
        self.param_names += (name,)
        setattr(self, name, value)
        setattr(self, "d" + name, np.zeros_like(value))

    def cast(self, dtype):
        """Convert all parameters and gradients to dtype, and return the layer.

        dtype: np.float32 or np.float64, or ValueError is raised. Another dtype means
        other arrays, and the old ones become read-only: so an optimiser or an average
        that was made before says that it holds them, in place of learning nothing.
        """
        dtype = check.dtype("dtype", dtype)
        for _, layer in self.walk():
            for name in layer.param_names:
                for kind in (name, "d" + name):
                    old = getattr(layer, kind)
                    if old.dtype != dtype:
                        setattr(layer, kind, old.astype(dtype))
                        old.flags.writeable = False
                        vars(layer).pop("cache", None)  # is of the other dtype
        return self

    def load(self, params):
        """Copy a dict like `named_params()` into this layer's parameters.

        Raises ValueError, and changes nothing, if a name is missing or unknown, a shape
        differs, or one is no array of floats.
        """
        own = self.named_params()
        for name in sorted(own.keys() ^ check.arrays("params", params).keys()):
            where = "is missing" if name in own else "is not a parameter here"
            raise ValueError(f"params: {name!r} {where}")
        for name, value in params.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"params[{name!r}] has shape {value.shape}, "
                    f"expected {own[name].shape}"
                )
        for name, value in params.items():
            own[name][...] = value
        return self


class Linear(Layer):
    """y = x w + b, with w drawn from N(0, 1/n_in) and b zero (or absent).

    Raises ValueError if x has another shape than (N, n_in) or another dtype than w.
    """

    def __init__(self, n_in, n_out, *, rng, bias=True):
        check.generator("rng", rng)
        n_in, n_out = check.width("n_in", n_in), check.width("n_out", n_out)
        self.add_param("w", rng.standard_normal((n_in, n_out)) / np.sqrt(n_in))
        if check.flag("bias", bias):
            self.add_param("b", np.zeros(n_out))

    @turn
    def forward(self, x):  # (N, n_in) -> (N, n_out)
        x = check.array("x", x, ("N", self.w.shape[0]), self.w.dtype)
        self.cache = x
        y = (x[:, None] @ self.w)[:, 0]  # row by row: BLAS sums other N in other orders
        return y + self.b if "b" in self.param_names else y

    @turn
    def backward(self, dy):  # (N, n_out) -> (N, n_in)
        dy = check.array("dy", dy, (len(self.cache), self.w.shape[1]), self.w.dtype)
        np.matmul(self.cache.T, dy, out=self.dw)
        if "b" in self.param_names:
            np.sum(dy, axis=0, out=self.db)
        return dy @ self.w.T


class SiLU(Layer):
    """y = x * sigmoid(x), for arrays of any shape (Elfwing et al. 2017)."""

    def forward(self, x):
        x = check.array("x", x)
        # exp(-x) may overflow to infinity, which is right: sigmoid is 0 there.
        with np.errstate(over="ignore"):
            sigmoid = 1 / (1 + np.exp(-x))
        self.cache = x, sigmoid
        return x * sigmoid

    def backward(self, dy):
        x, sigmoid = self.cache
        dy = check.array("dy", dy, x.shape, x.dtype)
        return dy * sigmoid * (1 + x * (1 - sigmoid))


class Conv2d(Layer):
    """y[k] = b[k] + sum_c,r,s w[k, c, r, s] x[c, shifted by r, s], zeros outside.

    The sums, and how the gradients follow from them, are in `plain.py`. kernel 3
    (padding 1) or 1 (no padding), stride 1 or 2: H' = ceil(H / stride). `skip`, of the
    result's shape, is added to it in the same pass over memory; its gradient is dy, so
    backward need not return it. `dskip` is added to dx: the gradient that reaches x
    past this layer. Without bias b is zero. Raises ValueError for another kernel or
    stride, and if the shape or dtype of x, skip, dy or dskip does not fit.
    """

    up = False  # whether every pixel is repeated 2x2 first

    def __init__(self, c_in, c_out, kernel=3, stride=1, *, rng, bias=True):
        check.generator("rng", rng)
        c_in, c_out = check.width("c_in", c_in), check.width("c_out", c_out)
        kernel = check.choice("kernel", kernel, (1, 3))
        stride = check.choice("stride", stride, (1, 2))
        shape = (c_out, c_in, kernel, kernel)
        self.add_param("w", rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
        if check.flag("bias", bias):
            self.add_param("b", np.zeros(c_out))
        self.stride = stride

    def forward(self, x, skip=None):  # (N, C_in, H, W) -> (N, C_out, H', W')
        x = check.array("x", x, ("N", self.w.shape[1], "H", "W"), self.w.dtype)
        if skip is not None:
            skip = check.array("skip", skip, self.size(x), x.dtype)
        self.cache = x
        b = self.b if "b" in self.param_names else np.zeros(len(self.w), x.dtype)
        return functions.conv2d(x, self.w, b, self.stride, self.up, skip)

    def backward(self, dy, dskip=None):  # (N, C_out, H', W') -> (N, C_in, H, W)
        x, how = self.cache, (self.stride, self.up)
        dy = check.array("dy", dy, self.size(x), x.dtype)
        if dskip is not None:
            dskip = check.array("dskip", dskip, x.shape, x.dtype)
        self.dw[...], db = functions.conv2d_dw(x, dy, self.w, *how)
        if "b" in self.param_names:
            self.db[...] = db
        return functions.conv2d_dx(dy, self.w, x.shape[2:], *how, dskip)

    def size(self, x):
        """The shape of the output, (N, C_out, H', W')."""
        N, _, H, W = check.array("x", x, ("N", "C_in", "H", "W")).shape
        if self.up:
            return N, len(self.w), 2 * H, 2 * W
        return N, len(self.w), -(-H // self.stride), -(-W // self.stride)


class Downsample(Conv2d):
    """A 3x3 convolution of stride 2: it halves H and W."""

    def __init__(self, c_in, c_out, *, rng):
        super().__init__(c_in, c_out, stride=2, rng=rng)


class Upsample(Conv2d):
    """Nearest-neighbour upsampling to (2H, 2W), then a 3x3 convolution, in one."""

    up = True

    def __init__(self, c_in, c_out, *, rng):
        super().__init__(c_in, c_out, rng=rng)


class GroupNorm(Layer):
    """y = gamma * (x - mean) / std + beta, over groups of channels of one image.

    `silu` makes it y * sigmoid(y) in the same pass over memory; `dskip` is added to dx,
    as in Conv2d. A second input of shape (N, 2 C) is added to gamma and beta of each
    image: so an embedding modulates the features (Wu, He 2018, arXiv 1803.08494;
    Dhariwal, Nichol 2021, arXiv 2105.05233). The sums are in `plain.py`. Raises
    ValueError if groups does not divide channels, and if the shape or dtype of an input
    does not fit.
    """

    tiny = 1e-5

    def __init__(self, channels, groups=8, silu=False):
        channels = check.width("channels", channels)
        self.groups = check.divisor("groups", groups, channels)
        self.silu = check.flag("silu", silu)
        self.add_param("gamma", np.ones(channels))
        self.add_param("beta", np.zeros(channels))

    def forward(self, x, modulation=None):  # (N, C, H, W), (N, 2 C) -> (N, C, H, W)
        C = len(self.gamma)
        x = check.array("x", x, ("N", C, "H", "W"), self.gamma.dtype)
        scale, shift = np.empty((2, len(x), C), x.dtype)
        scale[...], shift[...] = self.gamma, self.beta
        if modulation is not None:
            modulation = check.array("modulation", modulation, (len(x), 2 * C), x.dtype)
            scale += modulation[:, :C]
            shift += modulation[:, C:]
        y, mean, rstd = functions.group_norm(
            x, scale, shift, self.groups, self.tiny, self.silu
        )
        self.cache = x, scale, shift, mean, rstd, modulation is not None
        return y

    def backward(self, dy, dskip=None):  # -> dx, or (dx, dmodulation) if there was one
        x, scale, shift, mean, rstd, modulated = self.cache
        dy = check.array("dy", dy, x.shape, x.dtype)
        if dskip is not None:
            dskip = check.array("dskip", dskip, x.shape, x.dtype)
        dx, dscale, dshift = functions.group_norm_backward(
            dy, x, scale, shift, mean, rstd, self.silu, dskip
        )
        np.sum(dscale, axis=0, out=self.dgamma)
        np.sum(dshift, axis=0, out=self.dbeta)
        dmodulation = np.concatenate([dscale, dshift], axis=1)
        return (dx, dmodulation) if modulated else dx


def _layers_in(value, path):
    """Yield (path, layer) for a layer, or for each of a list or tuple of them."""
    if isinstance(value, Layer):
        yield path, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _layers_in(item, f"{path}.{i}")
