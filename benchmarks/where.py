"""Where a training step of the default U-Net spends its time, beside what limits it.

    python benchmarks/where.py [--batch 128] [--isa avx2]

Layer by layer, forward and backward. Then by kind: of convolutions, what their products
would take at the rate of a product of large matrices (sgemm, all cores); of norms, what
it would take to read and write their arrays once, at the rate of a copy. And what two
threads gain over one.
"""

import argparse
import time

import harness  # noqa: F401, it takes --isa
import numba
import numpy as np

from nanodiff.fast import convolve
from nanodiff.layers import Conv2d, GroupNorm, Layer
from nanodiff.unet import UNet


def watch(layer, path, spent):
    """Let a layer note its seconds under (path, "forward" or "backward")."""
    calls = {kind: getattr(layer, kind) for kind in ("forward", "backward")}
    for kind, call in calls.items():

        def timed(*args, kind=kind, call=call):
            start = time.perf_counter()
            result = call(*args)
            spent.setdefault((path, kind), []).append(time.perf_counter() - start)
            return result

        setattr(layer, kind, timed)


def products(layer):
    """Multiply-adds of a convolution in its forward and backward pass, as planned."""
    N, C, H, W = layer.cache.shape
    _, K, H_y, W_y = layer.size(layer.cache)
    plan = convolve._plan(layer.w, layer.stride, layer.up, H)

    def count(plan, high, wide):  # units of rows, of plan.up columns of pixels
        return N * -(-high // plan.m) * -(-wide // plan.up) * len(plan.fold) * C * K

    return 2 * count(plan, H_y, W_y) + count(plan.dx, H, W)


def rates():
    """Multiply-adds a second of sgemm, and bytes a second of a copy, on all cores."""
    a = np.ones((2048, 2048), np.float32)
    sgemm = min(timed(lambda: a @ a) for _ in range(9))
    images, target = np.ones((2, 128, 28 * 28 * 32), np.float32)
    copy = min(timed(lambda: copy_images(images, target)) for _ in range(9))
    return 2048**3 / sgemm, 2 * images.nbytes / copy


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@numba.njit(parallel=True)
def copy_images(images, target):
    for n in numba.prange(len(images)):
        target[n] = images[n]


def by_kind(layers, rows, whole):
    """Print a table of what the convolutions, the norms and the rest take."""
    multiply_adds, bytes_each = rates()
    kinds = {"convolutions": Conv2d, "norms": GroupNorm}
    print("\n| | ms | at their limit | |\n|---|---|---|---|")
    known = 0
    for name, kind in kinds.items():
        some = {
            path: layer for path, layer in layers.items() if isinstance(layer, kind)
        }
        took = sum(rows[path, way] for path in some for way in ("forward", "backward"))
        if kind is Conv2d:
            limit = sum(products(layers[path]) for path in some) / multiply_adds
            of = f"products at {multiply_adds / 5e8:.0f}e9 operations a second"
        else:  # x, y; x, dy, dx
            limit = (
                sum(5 * layer.cache[0].nbytes for layer in some.values()) / bytes_each
            )
            of = f"5 arrays at {bytes_each / 1e9:.0f} GB a second"
        known += took
        print(f"| {name} | {took * 1e3:.0f} | {limit * 1e3:.0f} | {of} |")
    print(f"| all else | {(whole - known) * 1e3:.0f} | | |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    unet = UNet(context_features=10, rng=rng)
    xt = rng.standard_normal((args.batch, 1, 28, 28), dtype=np.float32)
    t = rng.integers(1, 501, args.batch)
    context = np.eye(10, dtype=np.float32)[rng.integers(10, size=args.batch)]

    def seconds(threads):
        numba.set_num_threads(threads)
        start = time.perf_counter()
        unet.backward(unet(xt, t, context))
        return time.perf_counter() - start

    most = numba.get_num_threads()
    # of two in a row the second counts: the first wakes threads up, or lets them sleep
    in_turn = [
        [(seconds(n + 1), seconds(n + 1))[1] for n in range(most)]
        for _ in range(args.rounds + 2)
    ]
    times = np.array(in_turn[2:]).T
    for n, row in enumerate(times, 1):
        print(f"{n} threads: {np.median(row) * 1e3:.0f} ms, "
              f"{np.median(times[0] / row):.2f} times as fast as one")  # fmt: skip

    spent, layers = {}, {}
    for path, layer in list(unet.walk()):
        if not any(isinstance(child, Layer) for child in vars(layer).values()):
            layers[path.rstrip(".")] = layer
            watch(layer, path.rstrip("."), spent)
    whole = np.median([seconds(most) for _ in range(args.rounds + 2)][2:])
    rows = {key: np.median(values) for key, values in spent.items()}
    print(f"\nbatch {args.batch}: {whole * 1e3:.0f} ms forward and backward")
    for path in dict.fromkeys(path for path, _ in rows):
        there, back = (rows[path, kind] for kind in ("forward", "backward"))
        if there + back > 0.003 * whole:
            print(f"{path:16s} {there * 1e3:7.2f} {back * 1e3:7.2f} ms"
                  f" {(there + back) / whole:6.1%}")  # fmt: skip
    print(f"all layers{'':19s} {sum(rows.values()) / whole:12.1%}")
    by_kind(layers, rows, whole)


if __name__ == "__main__":
    main()
