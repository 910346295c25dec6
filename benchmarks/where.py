"""Where a training step of the default U-Net spends its time, layer by layer.

python benchmarks/where.py [--batch 128]

And what two threads gain over one.
"""

import argparse
import time

import numba
import numpy as np

from nanodiff.layers import Layer
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

    def seconds(rounds):
        times = []
        for _ in range(rounds + 2):
            start = time.perf_counter()
            unet.backward(unet(xt, t, context))
            times.append(time.perf_counter() - start)
        return np.median(times[2:])

    threads, by_threads = numba.get_num_threads(), {}
    for n in range(1, threads + 1):
        numba.set_num_threads(n)
        by_threads[n] = seconds(args.rounds)
        print(f"{n} threads: {by_threads[n] * 1e3:.0f} ms, "
              f"{by_threads[1] / by_threads[n]:.2f} times as fast as one")  # fmt: skip

    spent = {}
    for path, layer in list(unet.walk()):
        if not any(isinstance(child, Layer) for child in vars(layer).values()):
            watch(layer, path.rstrip("."), spent)
    whole = seconds(args.rounds)
    rows = {key: np.median(values) for key, values in spent.items()}
    print(f"\nbatch {args.batch}: {whole * 1e3:.0f} ms forward and backward")
    for path in dict.fromkeys(path for path, _ in rows):
        both = [rows[path, kind] for kind in ("forward", "backward")]
        if sum(both) > 0.003 * whole:
            print(f"{path:16s} {both[0] * 1e3:7.2f} {both[1] * 1e3:7.2f} ms"
                  f" {sum(both) / whole:6.1%}")  # fmt: skip
    print(f"all layers{'':19s} {sum(rows.values()) / whole:12.1%}")


if __name__ == "__main__":
    main()
