"""Signals, a full disk, a folder that is gone, two at once: what is kept, and the word.

Signals between processes are sent for real, at times that a seed chooses.
"""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nanodiff import checkpoint, files, progress, viz
from nanodiff.layers import Linear
from nanodiff.optim import EMA, Adam
from nanodiff.run import Run, Stopped
from nanodiff.train import Recipe

ROOT = Path(__file__).parent.parent
SMALL = {"channels": [4], "features": 4, "groups": 2}
STOPS = [n for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
PICTURE = np.zeros((1, 1, 4, 4), np.float32)


@pytest.fixture(autouse=True)
def no_signal_is_ignored():
    """Under nohup SIGHUP is, and so it stays for a run."""
    before = {n: signal.signal(getattr(signal, n), signal.SIG_DFL) for n in STOPS[2:]}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def images(rng):
    return rng.standard_normal((8, 1, 4, 4)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def start(steps=4):
    return Run(Recipe(steps, 2, warmup=0), 25, seed=3, **SMALL)


def learn(run, images, path, draw=lambda run: None, every=2):
    run.learn(images, None, path, every, draw)
    return run


def weights(run):
    return {name: w.tobytes() for name, w in run.model.named_params().items()}


def whole(images, steps=4):
    """The weights of a run that nothing disturbs."""
    with tempfile.TemporaryDirectory() as folder:
        return weights(learn(start(steps), images, Path(folder) / "run.npz"))


def there(path):
    return sorted(file.name for file in path.parent.iterdir())


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("place", ["step", "draw", "save", "last save", "last draw"])
def test_a_signal_anywhere_saves_and_the_run_goes_on(
    images, path, monkeypatch, name, place
):
    number, before = getattr(signal, name), signal.getsignal(getattr(signal, name))
    run, write = start(), files.write_npz

    def at(here, step):
        if (place, len(run.losses)) == (here, step):
            signal.raise_signal(number)

    def watched(*arguments):
        at("save", 2)
        write(*arguments)
        at("last save", 4)

    def draw(run):
        at("draw", 2)
        at("last draw", 4)

    class Step(type(run.optimizer)):
        def step(self, *arguments):
            super().step(*arguments)
            at("step", 0)

    run.optimizer.__class__ = Step
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_npz", watched)
        with pytest.raises(Stopped, match="saved .*run.npz after step") as stop:
            learn(run, images, path, draw)
    assert stop.value.signal == number and signal.getsignal(number) is before
    assert there(path) == ["run.npz"]
    again = Run.resume(path)
    assert again.losses == run.losses and len(again.losses) >= 1
    assert weights(learn(again, images, path)) == whole(images)


def test_sigterm_twice_does_not_stop_a_save(images, path):
    def draw(run):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        learn(start(), images, path, draw)
    assert len(Run.resume(path).losses) == 3


def test_a_run_learns_in_any_thread(images, path):
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=learn, args=(start(), images, path))
    thread.start()
    thread.join()
    assert weights(Run.resume(path)) == whole(images)
    assert signal.getsignal(signal.SIGINT) is before


SCRIPT = """
import sys
import numpy as np
from nanodiff.run import Run
from nanodiff.train import Recipe
path, steps = sys.argv[1:3]
images = np.random.default_rng(0).standard_normal((8, 1, 4, 4)).astype(np.float32)
try:
    run = Run.resume(path)
except FileNotFoundError:
    recipe = Recipe(int(steps), 2, warmup=0)
    run = Run(recipe, 25, seed=3, channels=[4], features=4, groups=2)
print(len(run.losses), flush=True)
run.learn(images, None, path, 1, lambda run: None)
"""  # fmt: skip


def process(path, steps=100_000):
    """A process that learns, and is at it."""
    found = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(steps)], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert found.stdout.readline(), found.stderr.read()
    return found


@pytest.mark.skipif(os.name == "nt", reason="signals between processes")
def test_killed_again_and_again_a_run_ends_where_an_unbroken_one_does(images, path):
    rng, done = np.random.default_rng(0), 0
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        learner = process(path)
        while not path.exists() or len(Run.resume(path).losses) < done + 2:
            assert learner.poll() is None, learner.stderr.read()
            time.sleep(0.05)
        time.sleep(rng.random() / 10)
        learner.send_signal(number)
        _, words = learner.communicate(timeout=60)
        assert learner.returncode, words
        run = Run.resume(path)
        assert len(run.losses) >= done + 2, words
        assert number == signal.SIGKILL or "Stopped: saved " in words
        done = len(run.losses)
    with pytest.raises(Stopped):
        other = path.with_name("unbroken.npz")
        learn(start(100_000), images, other, stop, every=done)
    assert Run.resume(path).losses == Run.resume(other).losses[:done]
    with files.alone(path):
        pass
    assert there(path) == ["run.npz", "unbroken.npz"]  # whatever the killed ones left


def stop(run):
    signal.raise_signal(signal.SIGTERM)


def test_two_runs_do_not_write_to_one_path(images, path):
    refused = []

    def draw(run):
        for second in (start(), Run.resume(path)):
            with pytest.raises(ValueError, match="run.npz', to which another run is"):
                learn(second, images, path)
            refused.append(len(second.losses))
        learn(start(), images, path.with_name("other.npz"))  # is another path

    learn(start(), images, path, draw)
    assert refused == [0, 2, 0, 4]
    assert there(path) == ["other.npz", "run.npz"]


def test_writers_of_one_path_do_not_meet(path):
    """Each file that is read is one of those written, whole."""
    stop = threading.Event()

    def write(k):
        while not stop.is_set():
            files.write_npz(path, {"a": np.full(10_000, k)}, {"k": k})

    files.write_npz(path, {"a": np.full(10_000, 0)}, {"k": 0})
    writers = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(100):
            arrays, about = files.read_npz(path, "damaged")
            assert (arrays["a"] == about["k"]).all()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert there(path) == ["run.npz"]


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_with_a_full_disk_the_run_goes_on_and_the_old_file_stays(
    images, path, monkeypatch
):
    learn(start(2), images, path)
    before, run, tries = path.read_bytes(), start(6), []

    def draw(run):
        tries.append(path.read_bytes() == before)
        monkeypatch.undo()

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="after step 2: .*No space .*run.npz'; the"):
        learn(run, images, path, draw)
    assert tries[0] and weights(Run.resume(path)) == weights(run) == whole(images, 6)
    assert there(path) == ["run.npz"]


def test_at_its_end_a_run_that_cannot_be_saved_is_saved_elsewhere(
    images, path, tmp_path_factory, monkeypatch
):
    spare = tmp_path_factory.mktemp("spare")
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    gone = path.parent / "gone" / "run.npz"
    gone.parent.mkdir()
    words = r"No such file.*; the run is saved in '.*spare.*run.npz', not in: '.*gone"
    with pytest.raises(FileNotFoundError, match=words):
        learn(start(), images, gone, lambda run: shutil.rmtree(gone.parent), every=3)
    (kept,) = spare.glob("*/run.npz")
    assert weights(Run.resume(kept)) == whole(images)


def test_if_nothing_can_be_written_the_error_names_the_path(images, path, monkeypatch):
    learn(start(2), images, path)
    before, run = path.read_bytes(), start()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '.*run.npz'"):
        learn(run, images, path, every=9)
    assert path.read_bytes() == before and there(path) == ["run.npz"]
    monkeypatch.undo()
    run.save(path)  # it is still there
    assert weights(Run.resume(path)) == whole(images)


def test_what_a_killed_writer_left_is_removed_in_time(path):
    """By the next run there at once, by any other writer when it is an hour old."""
    left, other = (path.with_name(f".part-{'0' * 16}-{name}") for name in
                   ("run.npz", "other.npz"))  # fmt: skip

    def kill(age):
        for part in (left, other):
            part.write_bytes(b"half")
            os.utime(part, (time.time() - age,) * 2)

    kill(files.LEFT - 60)
    files.write(path, b"whole")
    assert left.exists()  # its writer may be at it
    kill(files.LEFT + 60)
    files.write(path, b"whole")
    assert not left.exists() and other.exists()  # of another path
    kill(0)
    with files.alone(path):
        assert not left.exists() and other.exists()
    assert path.read_bytes() == b"whole"


def says_nan_at(step, run):
    """Let the run's network say NaN at a step."""

    class Ill(type(run.model)):
        def forward(self, *inputs):
            return super().forward(*inputs) * (np.nan if len(run.losses) == step else 1)

    Ill.__name__ = type(run.model).__name__
    run.model.__class__ = Ill


def weights_after(step, images):
    """Those of an unbroken run of six steps after so many."""
    found = {}

    def draw(run):
        found[len(run.losses)] = weights(run)

    with tempfile.TemporaryDirectory() as folder:
        learn(start(6), images, Path(folder) / "run.npz", draw, every=1)
    return found[step]


@pytest.mark.parametrize("every, step", [(2, 2), (9, 3)])
def test_a_loss_that_is_not_finite_names_the_last_save(images, path, every, step):
    run = start(6)
    says_nan_at(3, run)
    words = f"at step 3 the loss is nan.*; the last save, .*run.npz', is of step {step}"
    with pytest.raises(FloatingPointError, match=words):
        learn(run, images, path, every=every)
    again = Run.resume(path)
    assert there(path) == ["run.npz"] and len(run.losses) == 3
    assert again.losses == run.losses[:step]
    assert weights(again) == weights_after(step, images)
    if step == 2:  # all of the run is in it, so it ends as if nothing had been
        assert weights(learn(again, images, path)) == whole(images, 6)


def test_weights_that_are_not_finite_are_not_saved(images, path):
    run = start(6)

    class Ill(type(run.optimizer)):
        def step(self, grads, lr):
            super().step(grads, lr)
            self.params["conv_in.w"][...] = np.nan

    run.optimizer.__class__ = Ill
    words = "at step 1 the loss is nan.*; nothing is saved, since the weights are not"
    with pytest.raises(FloatingPointError, match=words):
        learn(run, images, path)
    assert there(path) == []


def test_where_windows_locks_a_second_run_is_refused_too(path, monkeypatch):
    """By `msvcrt`, here one that does as its documentation says."""
    locked = set()

    def locking(fd, mode, size):
        assert (mode, size, os.lseek(fd, 0, os.SEEK_CUR)) == ("LK_NBLCK", 1, 0)
        here = os.fstat(fd).st_ino
        if here in locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        locked.add(here)

    windows = SimpleNamespace(locking=locking, LK_NBLCK="LK_NBLCK")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    unlink = Path.unlink

    def removed(self, **more):
        if self.name.startswith(".lock"):
            raise PermissionError(errno.EACCES, "it is open")
        unlink(self, **more)

    monkeypatch.setattr(Path, "unlink", removed)
    with (
        files.alone(path),
        pytest.raises(ValueError, match="to which another run is writing"),
        files.alone(path),
    ):
        pass
    locked.clear()  # as the end of the process or the file's does
    with files.alone(path):
        pass
    assert there(path) == [".lock-run.npz"]


LIMITED = """
import resource, sys, numpy as np
from nanodiff import files, viz
path = sys.argv[1]
files.write_npz(path + ".npz", {"a": np.zeros(9)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
noise = np.random.default_rng(0).uniform(-1, 1, (4, 3, 64, 64))
for write in (
    lambda: files.write_npz(path + ".npz", {"a": np.zeros(9000)}, {}),
    lambda: viz.save_sheet(path + ".png", noise, columns=2),
    lambda: viz.save_film(path + ".gif", [noise] * 3, columns=2),
    lambda: viz.save_loss(path + ".loss.png", [1.0, 2.0]),
):
    try:
        write()
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_every_writer_that_is_cut_off_names_its_path_and_leaves_nothing(path):
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True,
        text=True,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and len(lines) == 4, result.stderr
    for line, end in zip(lines, ("npz", "png", "gif", "loss.png"), strict=True):
        assert line.endswith(f"run.npz.{end}'") and "File too large" in line
    assert there(path) == ["run.npz.npz"]
    assert files.read_npz(f"{path}.npz", "damaged")[0]["a"].shape == (9,)


def test_a_path_that_cannot_be_written_is_found_before_a_step(images, path):
    path.write_text("precious")
    folder = path.parent / "folder"
    folder.mkdir()
    for bad in (path / "run.npz", path.parent / "none" / "run.npz", folder):
        run = start()
        state = run.rng.bit_generator.state
        with pytest.raises(ValueError, match="path is '.*', expected a"):
            learn(run, images, bad)
        assert run.losses == [] and run.rng.bit_generator.state == state
    assert path.read_text() == "precious" and there(path) == ["folder", "run.npz"]


def test_settings_of_numpy_are_those_of_python(images, path):
    recipe = Recipe(np.int64(4), np.int32(2), np.float32(2e-3), warmup=np.int8(0),
                    focus=(np.float64(0.5), 2, 9), min_snr=np.float32(5))  # fmt: skip
    more = {"channels": np.array([4]), "features": np.int16(4), "groups": np.uint8(2)}
    run = Run(recipe, np.int64(25), "cosine", {"offset": np.float32(0.5)},
              seed=np.int64(3), self_condition=np.bool_(True), attention=np.int8(2),
              **more)  # fmt: skip
    learn(run, images, path)
    again = Run.resume(path)
    assert again.recipe == run.recipe and again.model.config == run.model.config
    assert (again.schedule.beta == run.schedule.beta).all()
    assert weights(again) == weights(run)


def test_settings_that_cannot_be_saved_are_refused_at_once():
    with pytest.raises(TypeError, match=r"channels cannot be saved: \{1\}, expected"):
        Run(Recipe(), 25, seed=0, **SMALL | {"channels": [{1}]})
    other = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(ValueError, match=r"seed is Generator\(MT19937\).*, expected"):
        Run(Recipe(), 25, seed=other, **SMALL)


GENERATORS = [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]


def parts(kind, seed=0, n=3):
    rng = np.random.Generator(kind(seed))
    layer = Linear(n, 2, rng=rng)
    params = layer.named_params()
    return {"model": layer, "optimizer": Adam(params), "ema": EMA(params), "rng": rng}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_checkpoint_holds_any_generator_of_numpy(path, kind):
    one, other = parts(kind), parts(kind, 9)
    checkpoint.save(path, step=3, config={}, **one)
    checkpoint.restore(checkpoint.load(path), **other)
    assert (one["rng"].integers(99, size=9) == other["rng"].integers(99, size=9)).all()


def damage(found, how):
    w = found.params["w"]
    if how == "shape":
        found.m["b"] = np.zeros((1, 2), np.float32)  # would be broadcast
    elif how == "dtype":
        found.v["b"] = found.v["b"].astype(np.float16)
    elif how == "name":
        found.average["c"] = found.average.pop("b")
    elif how == "rng":
        found.rng = {"bit_generator": "MT19937", "state": {}}
    elif how == "state":
        found.rng["state"]["inc"] = "x"
    elif how == "params":
        found.params["w"] = w.astype(np.complex64)


@pytest.mark.parametrize("how", ["shape", "dtype", "name", "rng", "state", "params"])
def test_restore_changes_everything_or_nothing(path, how):
    checkpoint.save(path, step=3, config={}, **parts(np.random.PCG64))
    found, into = checkpoint.load(path), parts(np.random.PCG64, 9)
    damage(found, how)
    before = repr(into["model"].named_params()), into["rng"].bit_generator.state
    with pytest.raises(ValueError, match="expected|is not a parameter|is missing"):
        checkpoint.restore(found, **into)
    after = repr(into["model"].named_params()), into["rng"].bit_generator.state
    assert after == before and into["optimizer"].k == 0
    assert not into["optimizer"].m["w"].any()


@pytest.mark.parametrize("value", [
    np.zeros((2, 1)), np.zeros(2, complex), np.array(["1", "2"]), [None, 1], "text",
])  # fmt: skip
def test_load_changes_everything_or_nothing(rng, value):
    layer = Linear(3, 2, rng=rng)
    before = layer.w.copy()
    with pytest.raises(ValueError, match=r"params\['b'\] (is|has)"):
        layer.load({"w": np.ones((3, 2)), "b": value})
    np.testing.assert_array_equal(layer.w, before)
    assert (layer.load({"w": before, "b": np.ones(2)}).b == 1).all()


def test_a_resumed_run_takes_no_setting_without_a_word(images, path):
    learn(start(), images, path)
    same = {"steps": 4, "batch": 2, "T": 25, "schedule": "linear", "channels": (4,)}
    assert Run.resume(path, **same, seed=3, schedule_parameters={}).recipe.steps == 4
    for name, value in {
        "batch": 3, "T": 50, "channels": [4, 4], "seed": 4, "lr": 1e-3, "steps": 3,
        "predicts": "v", "focus": (0.5, 1, 2), "size": 3,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} is .*, expected what the run"):
            Run.resume(path, **{name: value})
    longer = Run.resume(path, steps=np.int64(6))
    assert longer.recipe == Recipe(6, 2, warmup=0)
    assert len(learn(longer, images, path).losses) == 6
    assert Run.resume(path).recipe.steps == 6


def lines(monkeypatch, every, n=50):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "EVERY", every)
    assert sum(progress.progress(range(n), "adding", miniters=1)) == n * (n - 1) // 2
    return stream.getvalue()


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch):
    text = lines(monkeypatch, 3600)
    assert "\r" not in text and text.endswith("\n") and "adding: 100%" in text
    assert len(text.splitlines()) == 2  # the start and the end
    assert 50 <= len(lines(monkeypatch, 0).splitlines()) <= 53  # each step, if asked


def test_a_picture_is_written_under_a_name_of_its_own(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(os, "replace", lambda part, path: names.append(part.name))
    for _ in range(2):
        viz.save_sheet(tmp_path / "a.png", PICTURE, columns=1)
    assert len(set(names)) == 2 and not list(tmp_path.iterdir())
