"""The same U-Net in PyTorch, layer by layer, and the proof that it is the same.

    pip install torch==2.13.0          (CPU build; only the benchmarks need it)

`TorchUNet` reads its weights from a nanodiff UNet. `compare` feeds both the same batch
and compares the output, the loss and every gradient; nothing is timed before that.
"""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nanodiff.unet import UNet, time_features

TOLERANCE = {np.float32: 1e-4, np.float64: 1e-9}  # of the largest entry


class TorchResBlock(nn.Module):
    def __init__(self, c_in, c_out, features, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulate = nn.Linear(features, 2 * c_out)
        self.norm2 = nn.GroupNorm(groups, c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        if c_in != c_out:
            self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        # (gamma + scale) xhat + beta + shift, as nanodiff's GroupNorm modulates
        scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)
        norm = self.norm2
        xhat = F.group_norm(h, norm.num_groups, eps=norm.eps)
        h = (norm.weight[:, None, None] + scale) * xhat
        h = h + (norm.bias[:, None, None] + shift)
        return self.conv2(F.silu(h)) + (self.skip(x) if hasattr(self, "skip") else x)


class TorchEmbedding(nn.Module):
    def __init__(self, features, context_features):
        super().__init__()
        self.time1 = nn.Linear(features, features)
        self.time2 = nn.Linear(features, features)
        self.context = nn.Linear(context_features, features, bias=False)

    def forward(self, features, context):
        emb = self.time2(F.silu(self.time1(features)))
        return F.silu(emb + self.context(context))


class TorchDown(TorchResBlock):
    def __init__(self, c_in, c_out, features, groups):
        super().__init__(c_in, c_out, features, groups)
        self.pool = nn.Conv2d(c_in, c_in, 3, stride=2, padding=1)

    def forward(self, x, emb):
        return super().forward(self.pool(x), emb)


class TorchUp(TorchResBlock):
    def __init__(self, c_in, c_out, features, groups):
        super().__init__(c_out, c_out, features, groups)
        self.grow = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x, skip, emb):
        h = self.grow(F.interpolate(x, scale_factor=2.0))
        return super().forward(h + skip, emb)


class TorchUNet(nn.Module):
    """The mirror of a UNet with a context and one middle block, and its weights."""

    def __init__(self, unet):
        super().__init__()
        config = unet.config
        channels, groups = config["channels"], config["groups"]
        features, C = config["features"], config["image_channels"]
        sizes, levels = (features, groups), list(itertools.pairwise(channels))
        self.embed = TorchEmbedding(features, config["context_features"])
        self.conv_in = nn.Conv2d(C, channels[0], 3, padding=1)
        self.downs = nn.ModuleList(TorchDown(c, wider, *sizes) for c, wider in levels)
        middle = TorchResBlock(channels[-1], channels[-1], *sizes)
        self.middle = nn.ModuleList([middle])
        self.ups = nn.ModuleList(TorchUp(wider, c, *sizes) for c, wider in levels[::-1])
        self.norm_out = nn.GroupNorm(groups, channels[0])
        self.conv_out = nn.Conv2d(channels[0], C, 3, padding=1)
        mine = dict(self.named_parameters())
        with torch.no_grad():
            for name, w in unet.named_params().items():
                target = mine.pop(torch_name(name))
                target.copy_(torch.from_numpy(w.T.copy() if w.ndim == 2 else w))
        assert not mine, f"parameters that nanodiff has not: {list(mine)}"

    def forward(self, xt, features, context):
        """eps_hat, from xt, `time_features(t)` and the context."""
        emb = self.embed(features, context)
        h, skips = self.conv_in(xt), []
        for block in self.downs:
            skips.append(h)
            h = block(h, emb)
        h = self.middle[0](h, emb)
        for block in self.ups:
            h = block(h, skips.pop(), emb)
        return self.conv_out(F.silu(self.norm_out(h)))


def torch_name(name):
    """PyTorch's name of a nanodiff parameter: weight for w and gamma, bias for b."""
    path, _, last = name.rpartition(".")
    return f"{path}.{'weight' if last in ('w', 'gamma') else 'bias'}"


def random_unet(seed=0, **config):
    """A nanodiff UNet for digits in which no parameter is zero, as after training."""
    rng = np.random.default_rng(seed)
    unet = UNet(**{"context_features": 10} | config, rng=rng)
    for w in unet.named_params().values():
        w += 0.05 * rng.standard_normal(w.shape)
    return unet


def random_batch(N, unet, seed=0, dtype=np.float32):
    """xt, t, context and eps as training would give them."""
    rng = np.random.default_rng(seed)
    xt, eps = rng.standard_normal((2, N, 1, 28, 28)).astype(dtype)
    context = np.eye(10, dtype=dtype)[rng.integers(10, size=N)]
    return xt, rng.integers(1, 501, size=N), context, eps


def torch_batch(xt, t, context, eps, features):
    """The batch as tensors, the times as their features."""
    arrays = xt, time_features(t, features, xt.dtype), context, eps
    return [torch.from_numpy(array) for array in arrays]


def compare(dtype, N=8):
    """Raise AssertionError unless output, loss and all gradients are the same."""
    unet = random_unet().cast(dtype)
    batch = random_batch(N, unet, dtype=dtype)
    peer = TorchUNet(unet).to(getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():  # again, now that it has the dtype
        for name, w in unet.named_params().items():
            mine = peer.get_parameter(torch_name(name))
            mine.copy_(torch.from_numpy(w.T.copy() if w.ndim == 2 else w))
    xt, features, context, eps = torch_batch(*batch, unet.config["features"])
    theirs = peer(xt, features, context)
    loss = F.mse_loss(theirs, eps)
    loss.backward()

    ours = unet(*batch[:3])
    error = ours - batch[3]
    unet.backward(2 / error.size * error)
    pairs = {"output": (ours, theirs.detach().numpy())}
    pairs["loss"] = np.mean(error * error), np.float64(loss.item())
    for name, dw in unet.named_grads().items():
        grad = peer.get_parameter(torch_name(name)).grad.numpy()
        pairs[name] = dw, grad.T if dw.ndim == 2 else grad
    worst = {
        name: np.abs(a - b).max() / np.abs(b).max() for name, (a, b) in pairs.items()
    }
    name = max(worst, key=worst.get)
    limit = TOLERANCE[dtype]
    assert worst[name] <= limit, f"{name} differs by {worst[name]:.1e}, over {limit}"
    return name, worst[name]
