"""The network: a U-Net that predicts the noise in an image from time and context.

    28  xt -> conv_in ------------------------> ups[1] -> norm_out -> conv_out
    14           downs[0] ---------> ups[0]
     7               downs[1] -> attention, if any -> middle

Left: pixels a side, for MNIST, of what each makes; an arrow to ups[i] is a skip. Each
block also sees one embedding of t and the context.
Composition only: every formula is in `layers.py` and `attention.py`. After Ho, Jain,
Abbeel 2020 (arXiv 2006.11239), Appendix B, thinned out where the pixels are many: a
skip is added, not concatenated, and leaves the finest level before any block, which
saves a third of the arithmetic.

A sample does not depend on the rest of its batch, to the bit.

Shapes: xt, eps_hat (N, C, H, W); t an int or (N,); context (N, features).
"""

import itertools

import numpy as np

from nanodiff import check
from nanodiff.attention import Attention
from nanodiff.engine import threads_for, turn
from nanodiff.layers import Conv2d, Downsample, GroupNorm, Layer, Linear, SiLU, Upsample


def time_features(t, size, dtype=np.float32):
    """Return cosines and sines of t at geometrically falling frequencies, (N, size).

    features[n, i] = cos(t[n] w_i), then sin(t[n] w_i), w_i = 10000^(-2 i / size)
    (Vaswani et al. 2017, arXiv 1706.03762, section 3.5). Neighbouring times get similar
    features, distant ones different features. Raises ValueError unless t is (N,)
    numbers and size is even.

    >>> time_features(np.array([0, 3]), 4).shape
    (2, 4)
    >>> time_features(np.array([0]), 4)
    array([[1., 1., 0., 0.]], dtype=float32)
    """
    size, t = check.even("size", size), check.reals("t", t, ("N",))
    angle = t[:, None] * frequencies(size)
    features = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return features.astype(check.dtype("dtype", dtype))


def frequencies(size):
    """Return the w_i of `time_features`, from 1 to nearly 1 / 10000, (size / 2,).

    >>> frequencies(4).tolist()
    [1.0, 0.01]
    """
    half = check.even("size", size) // 2
    return 10_000.0 ** (-np.arange(half) / half)


class Embedding(Layer):
    """emb = silu(time2(silu(time1(features of t))) + context w), shape (N, features).

    The context layer has no bias, so a context of zeros adds nothing: no context.
    """

    def __init__(self, features, context_features, *, rng):
        features = check.even("features", features)
        context_features = check.width("context_features", context_features, 0)
        self.time1 = Linear(features, features, rng=rng)
        self.act1 = SiLU()
        self.time2 = Linear(features, features, rng=rng)
        if context_features:
            self.context = Linear(context_features, features, rng=rng, bias=False)
        self.act2 = SiLU()

    def forward(self, t, context=None):  # (N,), (N, context_features) -> (N, features)
        features = time_features(t, self.time1.w.shape[0], self.time1.w.dtype)
        emb = self.time2(self.act1(self.time1(features)))
        self.cache = context is not None
        if context is not None:
            size = self.context.w.shape[0] if hasattr(self, "context") else 0
            context = check.array("context", context, (len(emb), size), emb.dtype)
            emb = emb + self.context(context)
        return self.act2(emb)

    def backward(self, demb):  # -> dcontext or None; t is a number, not a variable
        rows = self.time2.cache
        demb = self.act2.backward(check.array("demb", demb, rows.shape, rows.dtype))
        self.time1.backward(self.act1.backward(self.time2.backward(demb)))
        if self.cache:
            return self.context.backward(demb)  # emb = time + context(context)
        if hasattr(self, "context"):
            self.context.dw[...] = 0
        return None


class ResBlock(Layer):
    """y = skip(x) + conv2(norm2(conv1(norm1(x)), modulated by emb)), SiLU in the norms.

    skip is x itself, or a 1x1 convolution where the number of channels changes.
    """

    def __init__(self, c_in, c_out, features, groups, *, rng):
        c_in, features = (
            check.width("c_in", c_in),
            check.even("features", features),
        )
        c_out = check.width("c_out", c_out)
        self.norm1 = GroupNorm(c_in, groups, silu=True)
        self.conv1 = Conv2d(c_in, c_out, rng=rng)
        self.modulate = Linear(features, 2 * c_out, rng=rng)
        self.norm2 = GroupNorm(c_out, groups, silu=True)
        self.conv2 = Conv2d(c_out, c_out, rng=rng)
        if c_in != c_out:
            self.skip = Conv2d(c_in, c_out, kernel=1, rng=rng)

    def forward(self, x, emb):  # (N, C_in, H, W), (N, features) -> (N, C_out, H, W)
        w = self.conv1.w
        x = check.array("x", x, ("N", w.shape[1], "H", "W"), w.dtype)
        emb = check.array("emb", emb, (len(x), self.modulate.w.shape[0]), x.dtype)
        h = self.conv1(self.norm1(x))
        skip = self.skip(x) if hasattr(self, "skip") else x
        return self.conv2(self.norm2(h, self.modulate(emb)), skip)

    def backward(self, dy):  # -> dx, demb
        dh, dmodulation = self.norm2.backward(self.conv2.backward(dy))
        demb = self.modulate.backward(dmodulation)
        # h = conv1(norm1(x)); x also reaches y past the convolutions
        dskip = self.skip.backward(dy) if hasattr(self, "skip") else dy
        return self.norm1.backward(self.conv1.backward(dh), dskip), demb


class Down(ResBlock):
    """A block at half the pixels a side: x is pooled first."""

    def __init__(self, c_in, c_out, features, groups, *, rng):
        self.pool = Downsample(c_in, c_in, rng=rng)
        super().__init__(c_in, c_out, features, groups, rng=rng)

    def forward(self, x, emb):  # (N, C_in, H, W) -> (N, C_out, H / 2, W / 2)
        return super().forward(self.pool(x), emb)

    def backward(self, dy, dskip):  # -> dx, demb; dskip: what else x gets, as a skip
        dh, demb = super().backward(dy)
        return self.pool.backward(dh, dskip), demb


class Up(ResBlock):
    """A block at twice the pixels a side: x grows first, and a skip is added."""

    def __init__(self, c_in, c_out, features, groups, *, rng):
        self.grow = Upsample(c_in, c_out, rng=rng)
        super().__init__(c_out, c_out, features, groups, rng=rng)

    def forward(self, x, skip, emb):  # skip as the result, (N, C_out, 2 H, 2 W)
        return super().forward(self.grow(x, skip), emb)

    def backward(self, dy):  # -> dx, dskip, demb
        dh, demb = super().backward(dy)  # of the sum of x, grown, and the skip
        return self.grow.backward(dh), dh, demb


class UNet(Layer):
    """Predict the noise eps_hat in xt, at time t, given an optional context.

    image_channels: C of the images. context_features: width of the context vector, 0
    for none. channels: of each level, the finest first; H and W must be divisible by
    2^(levels - 1). features: size of the embedding. groups: of GroupNorm; must divide
    all channels. middle: blocks at the coarsest level, where one costs least. All after
    the first start as the identity, so a trained network can be given more of them.
    self_condition: whether it can be shown its own last guess of x0 (Chen, Zhang,
    Hinton 2022, arXiv 2208.04202), by a convolution that starts at zero, so a trained
    network can be given that, too. attention: heads of self-attention at the coarsest
    level, before the middle blocks, 0 for none; it starts as the identity. The last
    convolution starts at zero, so a new network says 0 and its first loss is the mean
    square of its target: mean(eps^2), mean(x0^2), or for v about alpha_bar +
    (1 - alpha_bar) mean(x0^2). Raises ValueError if one of them is no integer above 0
    (context_features and attention may be 0), features is odd, groups does not divide
    all channels, or attention does not divide those of the coarsest level.

    >>> unet = UNet(context_features=10, rng=np.random.default_rng(0))
    >>> sum(w.size for w in unet.named_params().values())
    509537
    """

    def __init__(
        self, image_channels=1, context_features=0, channels=(32, 64, 64), features=128,
        groups=8, middle=1, self_condition=False, attention=0, *, rng,
    ):  # fmt: skip
        channels = check.integers("channels", channels, 1, check.WIDEST).tolist()
        self.config = {
            "image_channels": check.width("image_channels", image_channels),
            "context_features": check.width("context_features", context_features, 0),
            "channels": channels,
            "features": check.even("features", features),
            "groups": check.integer("groups", groups, 1),
            "middle": check.integer("middle", middle, 1),
            "self_condition": check.flag("self_condition", self_condition),
            "attention": check.integer("attention", attention, 0),
        }
        if attention:
            check.divisor("attention", attention, channels[-1])
        self.self_condition, sizes = self.config["self_condition"], (features, groups)
        self.embed = Embedding(features, context_features, rng=rng)
        self.conv_in = Conv2d(image_channels, channels[0], rng=rng)
        if self_condition:
            self.conv_x0 = Conv2d(image_channels, channels[0], rng=rng)
            self.conv_x0.w[...] = 0
        levels = list(itertools.pairwise(channels))
        self.downs = [Down(c, wider, *sizes, rng=rng) for c, wider in levels]
        c = channels[-1]
        if attention:
            self.attention = Attention(c, attention, groups, rng=rng)
        self.middle = [ResBlock(c, c, *sizes, rng=rng) for _ in range(middle)]
        for block in self.middle[1:]:
            block.conv2.w[...] = 0  # the block is the identity
        self.ups = [Up(wider, c, *sizes, rng=rng) for c, wider in reversed(levels)]
        self.norm_out = GroupNorm(channels[0], groups, silu=True)
        self.conv_out = Conv2d(channels[0], image_channels, rng=rng)
        self.conv_out.w[...] = 0

    def __repr__(self):
        return f"UNet({', '.join(f'{k}={v}' for k, v in self.config.items())})"

    @turn
    def forward(self, xt, t, context=None, x0_hat=None):
        """Return eps_hat, shape and dtype of xt.

        t: an int, or (N,) with one time for each image. context: (N, context_features),
        or None; zeros are no context either. x0_hat: the network's own guess, of xt's
        shape, or None (see `self_conditioning`). Raises ValueError if H or W is not
        divisible by 2^(levels - 1), if a shape or dtype does not fit, or for an x0_hat
        without self_condition.
        """
        t, context = self._checked(xt, t, context, x0_hat)
        with threads_for(xt[:, 0].size * len(self.conv_in.w)):
            return self._through(xt, self.embed(t, context), x0_hat)

    def _through(self, xt, emb, x0_hat):
        h, skips = self.conv_in(xt), []
        self.shown = x0_hat is not None
        if x0_hat is not None:
            h = self.conv_x0(x0_hat, h)
        for block in self.downs:
            skips.append(h)
            h = block(h, emb)
        if hasattr(self, "attention"):
            h = self.attention(h)
        for block in self.middle:
            h = block(h, emb)
        for block in self.ups:
            h = block(h, skips.pop(), emb)
        return self.conv_out(self.norm_out(h))

    @turn
    def backward(self, d_eps):
        """Write all gradients from dL/deps_hat; return (dxt, dcontext or None)."""
        like = self.conv_out.cache
        d_eps = check.array("d_eps", d_eps, self.conv_out.size(like), like.dtype)
        dh, demb, dskips = self.norm_out.backward(self.conv_out.backward(d_eps)), 0, []
        for block in reversed(self.ups):  # the forward pass, read upward
            dh, dskip, de = block.backward(dh)
            dskips.append(dskip)
            demb = demb + de
        for block in reversed(self.middle):
            dh, de = block.backward(dh)
            demb = demb + de
        if hasattr(self, "attention"):
            dh = self.attention.backward(dh)
        for block in reversed(self.downs):
            dh, de = block.backward(dh, dskips.pop())
            demb = demb + de
        self._backward_x0(dh)
        return self.conv_in.backward(dh), self.embed.backward(demb)

    def _backward_x0(self, dh):  # x0_hat counts as a constant: it has no gradient
        if self.shown:
            self.conv_x0.backward(dh)
        elif self.self_condition:
            self.conv_x0.dw[...], self.conv_x0.db[...] = 0, 0

    def _checked(self, xt, t, context, x0_hat):
        """t as an (N,) array and the context, or ValueError."""
        xt, dtype = (
            check.array("xt", xt, dtype=self.conv_in.w.dtype),
            self.conv_in.w.dtype,
        )
        N, step, C = len(xt), 2 ** len(self.downs), self.config["image_channels"]
        if xt.ndim != 4 or xt.shape[2] % step or xt.shape[3] % step or 0 in xt.shape:
            raise ValueError(
                f"xt has shape {xt.shape}, expected (N, C, H, W) with N > 0 and with "
                f"H and W divisible by {step}"
            )
        check.array("xt", xt, (N, C, "H", "W"))
        t = check.times("t", t, N)
        if context is not None:
            size = self.config["context_features"]
            if not size:
                check.refuse("context", context, "None: context_features is 0")
            context = check.context("context", context, N, size).astype(dtype)
        if x0_hat is not None and not self.self_condition:
            check.refuse("x0_hat", x0_hat, "None without self_condition")
        if x0_hat is not None:
            check.array("x0_hat", x0_hat, xt.shape, dtype)
        return t, context
