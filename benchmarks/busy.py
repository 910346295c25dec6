"""A forward pass and a training step, alone and beside a busy process.

    pip install onnx onnxruntime          for its column; without, it is left out
    python benchmarks/busy.py

Milliseconds, medians: of the digits of the package with 1, 16 and 64 images, then of a
training step of the default network with 32. Each row is a process of its own, with
other settings of the threads: nanodiff's, and what OpenMP does by itself. Then the same
beside one process that uses a core without pause, and the ratio of the two.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial

import numpy as np

ROWS = {
    "nanodiff": {},
    "OpenMP's own waiting": {"GOMP_SPINCOUNT": "300000"},  # libgomp's default
    "asleep at once": {"OMP_WAIT_POLICY": "passive"},
    "ONNX Runtime": {"engine": "onnx"},
}
SIZES = (1, 16, 64)


def median(call, seconds):
    """The median time of a call in milliseconds, of as many as fit, at least five."""
    times, end = [], time.perf_counter() + seconds
    for _ in range(3):
        call()
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def inputs(N):
    rng = np.random.default_rng(0)
    xt = rng.standard_normal((N, 1, 28, 28), dtype=np.float32)
    return xt, np.full(N, 300), np.eye(10, dtype=np.float32)[np.arange(N) % 10]


def forward_passes(engine):
    """Functions that run the digits' network on 1, 16 and 64 images."""
    from nanodiff import pretrained

    found = pretrained("mnist")
    if engine != "onnx":
        return [partial(found.network, *inputs(N)) for N in SIZES]
    import tempfile
    from pathlib import Path

    import onnxruntime

    from nanodiff.export import to_onnx

    path = Path(tempfile.mkdtemp()) / "mnist.onnx"
    to_onnx(found, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    calls = []
    for xt, t, context in map(inputs, SIZES):
        named = {"xt": xt, "t": t, "context": context, "x0_hat": 0 * xt}
        calls.append(partial(session.run, None, named))
    return calls


def training_step():
    from nanodiff import UNet

    net, given = UNet(1, 10, rng=np.random.default_rng(0)), inputs(32)
    return lambda: net.backward(net(*given))


def measure(engine, seconds):
    """Print the medians, as JSON: this is what the child processes do."""
    found = [median(call, seconds) for call in forward_passes(engine)]
    if engine != "onnx":
        found.append(median(training_step(), 2 * seconds))
    print(json.dumps(found))


def child(settings, seconds):
    env = {name: value for name, value in os.environ.items()
           if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}  # fmt: skip
    engine = settings.get("engine", "nanodiff")
    done = subprocess.run(
        [sys.executable, __file__, "--engine", engine, "--seconds", str(seconds)],
        env=env | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout), ""


def table(seconds):
    print("| | alone: 1, 16, 64; step of 32 | beside a busy process | ratio |")
    print("|---|---|---|---|")
    for name, settings in ROWS.items():
        alone, why = child(settings, seconds)
        if alone is None:
            print(f"| {name} | left out: {why} | | |")
            continue
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside, _ = child(settings, seconds)
        finally:
            busy.kill()
        ratio = np.array(beside) / alone
        cells = (", ".join(f"{v:.1f}" for v in values) for values in (alone, beside))
        ratio = ", ".join(f"{v:.1f}" for v in ratio)
        print(f"| {name} | {' | '.join(cells)} | {ratio} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number")
    args = parser.parse_args()
    if args.engine:
        measure(args.engine, args.seconds)
    else:
        table(args.seconds)
