"""Cold start and peak memory, each side in processes of its own.

    pip install torch==2.13.0
    python benchmarks/start_and_memory.py [--batch 128]

Seconds to import, to the end of the first training step (with an empty Numba cache, and
with a full one), and the peak memory after five steps.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
OURS = """
import resource, time
start = time.perf_counter()
import nanodiff
print("import", time.perf_counter() - start)
import numpy as np
from nanodiff.optim import Adam
from nanodiff.unet import UNet
rng = np.random.default_rng(0)
unet = UNet(context_features=10, rng=rng)
adam, grads = Adam(unet.named_params()), unet.named_grads()
xt, eps = rng.standard_normal((2, {N}, 1, 28, 28), dtype=np.float32)
t, context = rng.integers(1, 501, {N}), np.eye(10, dtype=np.float32)[[3] * {N}]
def step():
    error = unet(xt, t, context) - eps
    unet.backward(2 / error.size * error)
    adam.step(grads, 1e-3)
"""
THEIRS = """
import resource, sys, time
sys.path.insert(0, {here!r})
start = time.perf_counter()
import torch
print("import", time.perf_counter() - start)
import peer, training_step
unet = peer.random_unet()
step = training_step.torch_step(unet, peer.random_batch({N}, unet), {last})
"""
REST = """
step()
print("first_step", time.perf_counter() - start)
for _ in range(4):
    step()
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def run(code, cache):
    """The figures that a fresh process prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
    )  # fmt: skip
    rows = (line.split() for line in result.stdout.splitlines())
    return {name: float(value) for name, value in rows}


def main():
    if importlib.util.find_spec("torch") is None:
        sys.exit("this compares with PyTorch: pip install torch==2.13.0")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    N, here = parser.parse_args().batch, str(HERE)
    with tempfile.TemporaryDirectory() as cache:
        runs = {"nanodiff, cold": run(OURS.format(N=N) + REST, cache)}
        for _ in range(2):
            runs["nanodiff, warm"] = run(OURS.format(N=N) + REST, cache)
        for name, last in (("PyTorch eager", False), ("PyTorch channels_last", True)):
            code = THEIRS.format(N=N, here=here, last=last) + REST
            runs[name] = [run(code, cache) for _ in range(2)][-1]
    print(f"batch {N}{'':14s} import  first step done  peak memory")
    for name, found in runs.items():
        print(f"{name:22s} {found['import']:6.2f} s {found['first_step']:12.2f} s"
              f"{found['memory']:12.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
