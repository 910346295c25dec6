"""Each kernel against PyTorch's, the machine's own sgemm and its memory.

    pip install torch==2.13.0
    python benchmarks/kernels.py

Rates of convolutions count the multiply-adds of the plain one, twice: Winograd's does
3 / 7 of a 3x3's, and upsampling here 4 / 9, so a rate may pass sgemm's. The rates of
norms count each array once, beside those of a copy. Results are compared before they
are timed. nanodiff gets its arrays as its layers hand them on, channels last in memory.
"""

import harness
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from nanodiff.engine import functions
from nanodiff.fast.memory import aligned
from nanodiff.layers import Conv2d, Downsample, GroupNorm, Upsample

N = 128
CONVOLUTIONS = {
    "3x3": (Conv2d, lambda x, w, b: F.conv2d(x, w, b, padding=1)),
    "1x1": (
        lambda c, k, rng: Conv2d(c, k, kernel=1, rng=rng),
        lambda x, w, b: F.conv2d(x, w, b),
    ),
    "stride 2": (Downsample, lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1)),
    "upsampling": (
        Upsample,
        lambda x, w, b: F.conv2d(F.interpolate(x, scale_factor=2.0), w, b, padding=1),
    ),
}
SHAPES = [
    ("3x3", 32, 28), ("3x3", 64, 28), ("3x3", 32, 14), ("3x3", 64, 14), ("3x3", 64, 7),
    ("1x1", 32, 14), ("stride 2", 32, 28), ("stride 2", 64, 14),
    ("upsampling", 64, 7), ("upsampling", 64, 14),
]  # fmt: skip


def channels_last(x):
    """The same images as layers hand them on: a pixel's channels together, aligned."""
    y = aligned(x.transpose(0, 2, 3, 1).shape, x.dtype)
    y[...] = x.transpose(0, 2, 3, 1)
    return y.transpose(0, 3, 1, 2)


def theirs(f, arrays, dy, last):
    """PyTorch's output and its gradients as functions, in one memory format."""
    form = {"memory_format": torch.channels_last if last else torch.contiguous_format}
    x, w, dy = (torch.from_numpy(a).to(**form) for a in (arrays[0], arrays[1], dy))
    b = torch.from_numpy(arrays[2])
    x.requires_grad_()
    w.requires_grad_()
    y = f(x, w, b)

    def forward():
        with torch.no_grad():
            return f(x, w, b)

    return {
        "forward": forward,
        "input": lambda: torch.autograd.grad(y, x, dy, retain_graph=True)[0],
        "weight": lambda: torch.autograd.grad(y, w, dy, retain_graph=True)[0],
    }


def passes(kind, C, H):
    """({pass: {side: function}}, multiply-adds), results compared."""
    rng, (make, f) = np.random.default_rng(0), CONVOLUTIONS[kind]
    layer, x = make(C, C, rng=rng), rng.standard_normal((N, C, H, H), dtype=np.float32)
    dy = rng.standard_normal(layer(x).shape, dtype=np.float32)
    w, how = layer.w, (layer.stride, layer.up)
    own_x, own_dy = channels_last(x), channels_last(dy)
    ours = {
        "forward": lambda: layer.forward(own_x),
        "input": lambda: functions.conv2d_dx(own_dy, w, (H, H), *how),
        "weight": lambda: functions.conv2d_dw(own_x, own_dy, w, *how)[0],
    }
    arrays = x, layer.w, layer.b
    nchw, cl = (theirs(f, arrays, dy, last) for last in (False, True))
    for name, run in ours.items():
        want = nchw[name]().detach().numpy()
        error = np.abs(run() - want).max() / np.abs(want).max()
        assert error < 1e-4, f"{name} of {kind} differs by {error:.1e}"
    table = {
        name: {"ours": ours[name], "PyTorch": nchw[name], "channels_last": cl[name]}
        for name in ours
    }
    return table, dy.size * layer.w[0].size


def norms(C, H):
    """({pass: {side: function}}, arrays that each pass must move), compared."""
    rng, norm = np.random.default_rng(0), GroupNorm(C, silu=True)
    x, dy = rng.standard_normal((2, N, C, H, H), dtype=np.float32)
    tx, tdy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    scale, shift = (torch.from_numpy(a) for a in (norm.gamma, norm.beta))

    def forward():
        return F.silu(F.group_norm(tx, norm.groups, scale, shift, norm.tiny))

    y = forward()
    np.testing.assert_allclose(norm(x), y.detach().numpy(), atol=1e-4)
    dx = torch.autograd.grad(y, tx, tdy, retain_graph=True)[0]
    np.testing.assert_allclose(norm.backward(dy), dx.numpy(), atol=1e-3)
    own_x, own_dy = channels_last(x), channels_last(dy)
    norm(own_x)
    return {
        "forward": ({"ours": lambda: norm.forward(own_x), "PyTorch": forward}, 2),
        "backward": (
            {"ours": lambda: norm.backward(own_dy),
             "PyTorch": lambda: torch.autograd.grad(y, tx, tdy, retain_graph=True)},
            3,
        ),
    }  # fmt: skip


def timed(sides):
    with threadpool_limits(1, "blas"):  # as in the U-Net: see unet.py
        times = harness.alternate(sides, rounds=9, warmup=2, repeats=6)
    best = np.minimum.reduce([t for name, t in times.items() if name != "ours"])
    return times, np.median(times["ours"] / best)


def main():
    harness.machine()
    a, b = np.random.default_rng(0).standard_normal((2, 2048, 2048), dtype=np.float32)
    print(f"\nrates in GF; sgemm is of 2048 x 2048 matrices, {N} images a batch")
    print("| kernel | pass | nanodiff | of sgemm | PyTorch | channels_last | ratio |")
    print("|---" * 7 + "|")
    for kind, C, H in SHAPES:
        table, work = passes(kind, C, H)
        gemm = harness.alternate({"sgemm": lambda: a @ b}, rounds=3, warmup=1)["sgemm"]
        for name, sides in table.items():
            times, ratio = timed(sides)
            rates = [2 * work / np.median(t) / 1e9 for t in times.values()]
            share = rates[0] * np.median(gemm) * 1e9 / (2 * 2048**3)
            print(f"| {kind}, {C} channels {H}x{H} | {name} | {rates[0]:.0f} | "
                  f"{share:.2f} | {rates[1]:.0f} | {rates[2]:.0f} | {ratio:.2f} |",
                  flush=True)  # fmt: skip
    line = np.zeros(N * 32 * 28 * 28 * 4, np.uint8)  # as large as what a norm reads
    target = line.copy()
    copy = harness.alternate({"copy": lambda: np.copyto(target, line)})["copy"]
    copy = 2 * line.nbytes / np.median(copy) / 1e9
    print(f"\na copy by one thread moves {copy:.0f} GB/s")
    for name, (sides, arrays) in norms(32, 28).items():
        times, ratio = timed(sides)
        rate = arrays * line.nbytes / np.median(times["ours"]) / 1e9
        print(f"norm and SiLU, 32 channels 28x28, {name}: {rate:.0f} GB/s, "
              f"{rate / copy:.2f} of the copy; time / PyTorch {ratio:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
