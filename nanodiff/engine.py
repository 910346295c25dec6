"""Which convolutions and norms run, those of `fast` or `plain`, and whose turn it is.

`fast` if Numba can be imported, else `plain`, with a warning. `NANODIFF_PLAIN=1` in the
environment chooses `plain`: for a debugger, or to read along. They are the same
functions and agree to rounding; `plain` is about ten times slower.
"""

import contextlib
import importlib.util
import os
import threading
import warnings
from types import SimpleNamespace

from threadpoolctl import ThreadpoolController

from nanodiff import check

SPINS = "3000"  # turns of a loop for which a thread waits before it sleeps
LITTLE = 2**15  # numbers of an activation; 28x28 pixels of 32 channels have fewer
NAMES = "conv2d", "conv2d_dx", "conv2d_dw", "group_norm", "group_norm_backward"


class Turn(contextlib.ContextDecorator):
    """`with turn:` or `@turn`: one Python thread at a time, and one BLAS thread.

    One Python thread, since the loops of `fast` use all cores anyhow, and share their
    threads and their memory. One BLAS thread, since the bits of a product depend on
    their number, and since OpenBLAS shares out even small products and its threads then
    spin: that made a training step 2.3 times slower, and `plain` take 3 times the
    processor's time. A turn within a turn is the same turn. Unless it survives_fork,
    which only `plain` does, it raises RuntimeError in a process forked from one that
    had a turn: the threads of the loops are lost. start: called before the first turn.
    """

    def __init__(self, start, survives_fork):
        self.start = check.function("start", start, "a function without arguments")
        self.lock, self.depth, self.used, self.lost = threading.RLock(), 0, False, False
        self.survives_fork = check.flag("survives_fork", survives_fork)
        self.blas = ThreadpoolController()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self):
        self.lock, self.depth = threading.RLock(), 0
        self.lost = self.used and not self.survives_fork

    def __enter__(self):
        if self.lost:
            raise RuntimeError(
                "this process was forked after nanodiff had computed, so its threads "
                "are lost; start it by the 'spawn' method of multiprocessing"
            )
        self.lock.acquire()
        if not self.used:
            self.start()
        self.depth, self.used = self.depth + 1, True
        if self.depth == 1:
            self.limit = self.blas.limit(limits=1, user_api="blas")

    def __exit__(self, *error):
        self.depth -= 1
        if self.depth == 0:
            self.limit.restore_original_limits()
        self.lock.release()


def start_threads():
    """Load Numba's threads, which should not wait busily for long.

    Between two loops GNU's OpenMP lets a thread spin for 300,000 turns. Where another
    process has one of the cores, the thread that it waits for does not get there
    meanwhile: a training step took 1.6 times as long (benchmarks/busy.py). The number
    is read when the library is loaded. So it is set for that moment only, unless the
    user has set it, or OMP_WAIT_POLICY.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    numba.get_num_threads()
    del os.environ["GOMP_SPINCOUNT"]


PLAIN = os.environ.get("NANODIFF_PLAIN", "0") not in ("", "0")
if not PLAIN and importlib.util.find_spec("numba") is None:
    PLAIN = True
    warnings.warn(
        "Numba is not installed, so convolutions and norms run about ten times slower; "
        "pip install numba, or set NANODIFF_PLAIN=1 to choose this",
        RuntimeWarning,
        stacklevel=2,
    )
if PLAIN:
    from nanodiff import plain as functions

    turn = Turn(start=lambda: None, survives_fork=True)
else:
    import numba

    from nanodiff import fast

    turn = Turn(start_threads, survives_fork=False)
    functions = SimpleNamespace(**{name: turn(getattr(fast, name)) for name in NAMES})


def threads_for(numbers):
    """`with threads_for(n):` the loops use one thread if activations have few numbers.

    numbers: of an activation at the finest level. For one image two threads gain
    little, as they wait for each other after every loop; and beside another process
    that uses a core they take several times as long (benchmarks/busy.py).
    """
    numbers = check.integer("numbers", numbers, 0)
    few = numbers < LITTLE and not PLAIN
    return _one_thread() if few else contextlib.nullcontext()


@contextlib.contextmanager
def _one_thread():
    with turn:  # so that they are started as always
        before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def set_threads(n):
    """Let the loops of `fast`, in this Python thread, and BLAS use n threads.

    The loops use at most as many as Numba was started with, which is one for each core.
    """
    n = check.integer("n", n, 1)
    turn.blas.limit(limits=n, user_api="blas")
    if not PLAIN:
        with turn:  # so that they are started as always
            numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
