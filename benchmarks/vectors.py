"""Which vector registers the loops of nanodiff use: xmm, ymm or zmm.

    python benchmarks/vectors.py                          for this processor
    python benchmarks/vectors.py --target sapphirerapids  for another: compiled, not run

Of each compiled loop: the multiply-adds in its assembly on whole vectors (packed), by
the width of their registers, 128, 256 or 512 bits. Those on single numbers, which serve
what is left over at the end of a row, are counted apart. LLVM names the targets.
"""

import argparse
import os
import re
import tempfile
from collections import Counter

LOOPS = {"kernels": ("correlate", "correlate_weight"),
         "norms": ("normalise", "normalise_backward")}  # fmt: skip


def compile_only(dispatcher):
    """In place of a loop: compile it for the arguments, and do not run it."""

    def call(*args):
        dispatcher.compile(tuple(numba.typeof(arg) for arg in args))

    return call


def compiled_loops():
    """{name: the dispatcher of a loop}, compiled for float32 and not run."""
    found = {}
    for module, names in LOOPS.items():
        module = getattr(fast, module)
        for name in names:
            found[name] = getattr(module, name)
            setattr(module, name, compile_only(found[name]))
    rng = np.random.default_rng(0)
    x = np.zeros((4, 8, 8, 8), np.float32)
    conv, norm = Conv2d(8, 8, rng=rng), GroupNorm(8, 2, silu=True)
    with np.errstate(all="ignore"):  # no loop writes its result
        conv(x), conv.backward(x), norm(x), norm.backward(x)
    return found


def assembly(dispatcher):
    """The text of a loop's parallel part, which holds what is inlined into it."""
    (compiled,) = dispatcher.overloads.values()
    return "".join(
        part.get_asm_str() for part in compiled.library._linking_libraries
        if part.name.startswith("__numba_parfor_gufunc")
    )  # fmt: skip


def count(text):
    """Counters of packed multiply-adds by register, and of those on single numbers."""
    packed, single = Counter(), 0
    for kind, operands in re.findall(r"\tvfn?m(?:add|sub)\d+([ps])s\s+(.*)", text):
        if kind == "s":
            single += 1
        else:
            packed[re.search(r"[xyz]mm", operands).group()] += 1
    return packed, single


def show():
    print(f"target {numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()}")
    print("| loop | zmm | ymm | xmm | single |")
    print("|---|---|---|---|---|")
    for name, dispatcher in compiled_loops().items():
        packed, single = count(assembly(dispatcher))
        cells = [packed[register] for register in ("zmm", "ymm", "xmm")]
        print(f"| {name} | {' | '.join(map(str, cells))} | {single} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", help="such as sapphirerapids, znver4, haswell")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:  # what is loaded has no assembly
        os.environ["NUMBA_CACHE_DIR"] = cache
        if args.target:  # no features: those of the target, not of this processor
            os.environ.update(NUMBA_CPU_NAME=args.target, NUMBA_CPU_FEATURES="")
        import llvmlite.binding
        import numba
        import numpy as np

        from nanodiff import fast
        from nanodiff.layers import Conv2d, GroupNorm

        show()
