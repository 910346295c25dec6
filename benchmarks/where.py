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

    spent = {}
    for path, layer in list(unet.walk()):
        if not any(isinstance(child, Layer) for child in vars(layer).values()):
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


if __name__ == "__main__":
    main()
