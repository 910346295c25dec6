"""Each convolution pass against PyTorch's and against the machine's own sgemm.

    pip install torch==2.13.0
    python benchmarks/kernels.py

Rates count the multiply-adds of the plain 3x3 convolution, twice: Winograd's does half
of them, so a rate may pass sgemm's. Results are compared before they are timed.
"""

import harness
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from nanodiff import strings

SHAPES = [(32, 28), (64, 28), (32, 14), (64, 14), (64, 7)]
N = 128


def passes(C, H):
    """The three passes of both sides, as {pass: {side: function}}, compared."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, N, C, H, H), dtype=np.float32)
    w = rng.standard_normal((C, C, 3, 3), dtype=np.float32) / np.float32(3 * C**0.5)
    b, none, plan = np.ones(C, np.float32), np.zeros(C, np.float32), strings.tiled()
    cl = {"memory_format": torch.channels_last}
    tx, tdy, tw, tb = (torch.from_numpy(a) for a in (x, dy, w, b))
    lx, ldy, lw = tx.to(**cl), tdy.to(**cl), tw.to(**cl)

    def grad(x, dy, w, which):
        mask = [which == "x", which == "w", which == "w"]
        return torch.ops.aten.convolution_backward(
            dy, x, w, [C], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
        )

    size = (H, H)
    table = {
        "forward": {
            "nanodiff": lambda: strings.correlate(x, w, b, plan, size),
            "PyTorch": lambda: F.conv2d(tx, tw, tb, padding=1),
            "PyTorch channels_last": lambda: F.conv2d(lx, lw, tb, padding=1),
        },
        "input gradient": {
            "nanodiff": lambda: strings.correlate(
                dy, w.swapaxes(0, 1), none, plan.transposed, size
            ),
            "PyTorch": lambda: grad(tx, tdy, tw, "x")[0],
            "PyTorch channels_last": lambda: grad(lx, ldy, lw, "x")[0],
        },
        "weight gradient": {
            "nanodiff": lambda: strings.correlate_weight(x, dy, plan)[0],
            "PyTorch": lambda: grad(tx, tdy, tw, "w")[1],
            "PyTorch channels_last": lambda: grad(lx, ldy, lw, "w")[1],
        },
    }
    for name, sides in table.items():
        ours, theirs = sides["nanodiff"](), sides["PyTorch"]().numpy()
        ours = ours.reshape(theirs.shape)
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error < 1e-4, f"{name} of {C} channels differs by {error:.1e}"
    return table


def main():
    harness.machine()
    a, b = np.random.default_rng(0).standard_normal((2, 2048, 2048), dtype=np.float32)
    line = np.zeros(64 << 20, np.uint8)
    print(f"\nrates in GF; sgemm is of 2048 x 2048 matrices, {N} images a batch")
    print(" " * 28, "sgemm nanodiff  share  PyTorch  channels_last  ratio to best")
    for C, H in SHAPES:
        for name, sides in passes(C, H).items():
            with threadpool_limits(1, "blas"):  # as in the U-Net: see unet.py
                times = harness.alternate(sides, rounds=9, warmup=2)
            gemm = harness.alternate({"sgemm": lambda: a @ b}, rounds=3, warmup=1)
            gemm = 2 * 2048**3 / np.median(gemm["sgemm"]) / 1e9
            work = 2 * N * C * C * 9 * H * H / 1e9
            mine, nchw, last = (work / np.median(times[side]) for side in sides)
            best = np.minimum(times["PyTorch"], times["PyTorch channels_last"])
            ratio = np.median(times["nanodiff"] / best)
            rates = f"{gemm:6.0f}{mine:9.0f}{mine / gemm:7.2f}{nchw:9.0f}{last:15.0f}"
            print(f"{C:3d} channels {H:2d}x{H:<2d} {name:15s}{rates}{ratio:12.2f}")
    copy = harness.alternate({"copy": line.copy}, rounds=9)["copy"]
    print(f"copying memory: {2 * line.nbytes / np.median(copy) / 1e9:.0f} GB/s")


if __name__ == "__main__":
    main()
