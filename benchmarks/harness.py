"""Timing that can be trusted on a noisy machine: in turn, medians, ratios by round.

Any benchmark takes `--isa avx2`, which holds both sides to what most laptops have.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

ISAS = {  # for Numba, oneDNN, PyTorch's own kernels, OpenBLAS; read when they load
    "avx2": {
        "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "",
        "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}  # fmt: skip


def hold_to_isa():
    """With --isa among the arguments: run the script again, with its switches set."""
    if "--isa" not in sys.argv:
        return
    at = sys.argv.index("--isa")
    isa, rest = sys.argv[at + 1 :][:1], sys.argv[:at] + sys.argv[at + 2 :]
    if not isa or isa[0] not in ISAS:
        raise SystemExit(f"--isa is {isa}, expected one of {list(ISAS)}")
    with tempfile.TemporaryDirectory() as cache:  # Numba's, for this processor only
        env = os.environ | ISAS[isa[0]] | {"NUMBA_CACHE_DIR": cache}
        print(f"held to {isa[0]}", flush=True)
        done = subprocess.run([sys.executable, *rest], env=env, check=False)
    raise SystemExit(done.returncode)


hold_to_isa()  # before Numba and PyTorch are loaded

import numba  # noqa: E402
import numpy as np  # noqa: E402
from threadpoolctl import threadpool_info  # noqa: E402

try:
    import torch
except ImportError as error:
    hint = "the benchmarks compare with PyTorch: pip install torch==2.13.0"
    raise SystemExit(hint) from error

PAUSE = 0.02  # seconds between two sides, so that spinning BLAS threads fall asleep


def alternate(sides, rounds=15, warmup=3, repeats=1):
    """Run the sides {name: function} in turn, A B A B ..., and return {name: seconds}.

    Each value is an array of `rounds` times; the first `warmup` rounds are not counted.
    repeats: calls in a row, of which the mean counts, but for one before them: for what
    takes few milliseconds, of which the threads' waking up would be a good part.
    """
    times = {name: [] for name in sides}
    for i in range(warmup + rounds):
        for name, run in sides.items():
            time.sleep(PAUSE)
            if repeats > 1:
                run()
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            if i >= warmup:
                times[name].append((time.perf_counter() - start) / repeats)
    return {name: np.array(values) for name, values in times.items()}


def report(title, times, ours="nanodiff"):
    """Print medians, and the ratio of ours to the best of the others, by round."""
    print(f"\n{title}")
    for name, values in times.items():
        print(f"  {name:26s} {np.median(values) * 1e3:9.2f} ms")
    others = {name: np.median(v) for name, v in times.items() if name != ours}
    best = min(others, key=others.get)
    ratio = times[ours] / times[best]
    low, middle, high = np.percentile(ratio, [10, 50, 90])
    print(f"  {ours} / {best}: {middle:.2f} ({low:.2f} to {high:.2f})")
    return middle


def machine():
    """Print what this was measured on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = {line.split(":")[1].strip() for line in file if "model name" in line}
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "numba", "torch"))
    blas = {f"{b['internal_api']} {b.get('architecture')}" for b in threadpool_info()}
    print(f"{', '.join(names)}; Python {platform.python_version()}, {packages}")
    print(f"threads: numba {numba.get_num_threads()}, torch {torch.get_num_threads()}")
    print(f"BLAS: {', '.join(sorted(blas))}; {time.strftime('%Y-%m-%d')}")
