"""How the loops are compiled, where that is kept, and who may call them when."""

import contextlib
import functools
import hashlib
import os
import threading
import warnings
from pathlib import Path

import numba
from threadpoolctl import ThreadpoolController

# fastmath without "nnan" and "ninf": a NaN must stay visible to the training loop.
# Contraction makes multiply-adds. Reassociation lets the sum of a row run in vector
# lanes; it is for such sums only, since code that goes to disk is optimised once more
# than what runs at first, and would add in another order.
ORDERED = {"contract", "nsz"}
SUMS = ORDERED | {"reassoc"}

# Numba compiles a function anew when its file has changed. Here any file of the folder
# counts, since loops of one are compiled into those of another.
STAMP = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


def compiled(function=None, **options):
    """Decorate a function for Numba, with more of `numba.njit`'s options."""
    if function is None:
        return functools.partial(compiled, **options)
    options = {"fastmath": ORDERED, "error_model": "numpy"} | options
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba may write neither beside this file nor at home
        _say_that_nothing_is_kept()
        return numba.njit(**options)(function)
    # no public name: a Numba that has it elsewhere watches each function's file only
    index = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = STAMP
    return made


@functools.cache  # once
def _say_that_nothing_is_kept():
    warnings.warn(
        "nanodiff compiles its loops in every process anew (about 15 seconds): Numba "
        "finds no folder to keep them in; set NUMBA_CACHE_DIR to one",
        RuntimeWarning,
        stacklevel=2,
    )


class Turn(contextlib.ContextDecorator):
    """`with TURN:` or `@TURN`: one Python thread at a time, and one BLAS thread.

    One Python thread, since the loops use all cores anyhow, and share Numba's threads
    and their scratch. One BLAS thread, since OpenBLAS shares out even small products
    and its threads then spin on the cores that the loops need: that made a training
    step 2.3 times slower. A turn within a turn is the same turn. Raises RuntimeError in
    a process forked from one that had a turn: Numba's threads are not there.
    """

    def __init__(self):
        self.lock, self.depth, self.used, self.lost = threading.RLock(), 0, False, False
        self.blas = ThreadpoolController()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self):
        self.lock, self.depth, self.lost = threading.RLock(), 0, self.used

    def __enter__(self):
        if self.lost:
            raise RuntimeError(
                "this process was forked after nanodiff had computed, so its threads "
                "are lost; start it by the 'spawn' method of multiprocessing"
            )
        self.lock.acquire()
        self.depth, self.used = self.depth + 1, True
        if self.depth == 1:
            self.limit = self.blas.limit(limits=1, user_api="blas")

    def __exit__(self, *error):
        self.depth -= 1
        if self.depth == 0:
            self.limit.restore_original_limits()
        self.lock.release()


TURN = Turn()
