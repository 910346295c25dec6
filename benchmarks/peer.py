"""PyTorch's side of the benchmarks: `export.to_torch`, and the proof that it is equal.

    pip install torch==2.13.0          (CPU build; only the benchmarks need it)

`compare` feeds a U-Net and its twin the same batch and compares the output, the loss
and every gradient; nothing is timed before that.
"""

import numpy as np
import torch
from torch.nn import functional as F

from nanodiff.export import to_torch
from nanodiff.unet import UNet

TOLERANCE = {np.float32: 1e-4, np.float64: 1e-9}  # of the largest entry


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


def torch_batch(*arrays):
    """The batch as tensors."""
    return [torch.from_numpy(array) for array in arrays]


def compare(dtype, N=8):
    """Raise AssertionError unless output, loss and all gradients are the same."""
    unet = random_unet().cast(dtype)
    batch = random_batch(N, unet, dtype=dtype)
    twin = to_torch(unet)
    xt, t, context, eps = torch_batch(*batch)
    theirs = twin(xt, t, context)
    loss = F.mse_loss(theirs, eps)
    loss.backward()

    ours = unet(*batch[:3])
    error = ours - batch[3]
    unet.backward(2 / error.size * error)
    pairs = {"output": (ours, theirs.detach().numpy())}
    pairs["loss"] = np.mean(error * error), np.float64(loss.item())
    for name, dw in unet.named_grads().items():
        pairs[name] = dw, twin.get_parameter(name).grad.numpy()
    worst = {
        name: np.abs(a - b).max() / np.abs(b).max() for name, (a, b) in pairs.items()
    }
    name = max(worst, key=worst.get)
    limit = TOLERANCE[dtype]
    assert worst[name] <= limit, f"{name} differs by {worst[name]:.1e}, over {limit}"
    return name, worst[name]
