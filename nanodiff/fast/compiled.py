"""How the loops are compiled, and where that is kept."""

import hashlib
import warnings
from pathlib import Path

import numba
from numba.extending import intrinsic

# fastmath without "nnan" and "ninf": a NaN must stay visible to the training loop.
# Contraction makes multiply-adds. Without "reassoc" sums keep their order, also in code
# that is loaded from disk, which is optimised once more.
OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}

# A function that only compiled ones call: without wrappers it compiles in less time.
compiled = numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)

# Numba compiles a function anew when its file has changed. Here any file of the folder
# counts, since loops of one are compiled into those of another.
STAMP = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


def in_threads(function):
    """Decorate a loop over `prange`, called from Python and kept on disk."""
    options = OPTIONS | {"parallel": True, "no_cfunc_wrapper": True}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba may write neither beside this file nor at home
        warnings.warn(  # Python says it once
            "nanodiff compiles its loops in every process anew (about 15 seconds): "
            "Numba finds no folder to keep them in; set NUMBA_CACHE_DIR to one",
            RuntimeWarning,
            stacklevel=1,
        )
        return numba.njit(**options)(function)
    # The name is private. If a Numba has no such name, a function is compiled anew only
    # when its own file changes.
    index = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = STAMP
    return made


def full_vectors():
    """Let the function that calls this use vectors of 512 bits, where there are any.

    For Intel's processors LLVM prefers 256 bits, as some early ones slowed down. It is
    called inside `prange`, since the body becomes a function of its own.
    """


if not numba.config.DISABLE_JIT:

    @intrinsic
    def full_vectors(typing_context):  # noqa: F811, the same where it is compiled
        def generate(context, builder, signature, args):
            # set.add: llvmlite's own `add` refuses a name that it does not know
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            return context.get_dummy_value()

        return numba.types.void(), generate
