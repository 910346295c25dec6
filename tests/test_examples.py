"""The examples run as a reader runs them, and the kernels without their compiler."""

import os
import runpy
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanodiff import checkpoint, data
from tests.test_files import write_idx

ROOT = Path(__file__).parent.parent


def python(*args, **environment):
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | environment, timeout=300,
    )  # fmt: skip


def test_train_resume_and_sample(tmp_path):
    script = ROOT / "examples/train_mnist.py"
    noise = ["--schedule", "cosine", "offset=0.02"]
    more = ["--self-condition", "--attention", 2, "--min-snr", 5]
    train = [script, "--quick", *more, *noise, "--out", tmp_path]
    result = python(*train)
    assert result.returncode == 0, result.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"checkpoint.npz", "loss.png", "ddim.png", "ddpm.png", "ddim.gif"}
    before = (tmp_path / "checkpoint.npz").read_bytes()
    result = python(*train)
    assert result.returncode and "go on with --resume" in result.stderr
    result = python(*train, "--resume")  # nothing is left to do
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    for sampler in ("ddim", "ddpm", "dpm", "flow"):
        picture = tmp_path / f"{sampler}-digits.png"
        result = python(
            ROOT / "examples/sample.py", "--quick", "--sampler", sampler,
            "--model", tmp_path / "checkpoint.npz", "--out", picture,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert picture.read_bytes().startswith(b"\x89PNG")
    result = python(
        ROOT / "examples/honest_loss.py", "--quick",
        "--model", tmp_path / "checkpoint.npz",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "floor:" in result.stdout and "all:" in result.stdout


@pytest.mark.parametrize("name, made, words", [
    ("toy_points", "fields.png points.png", "ring: loss"),
    ("convergence", "inversion.png orders.png", "DDIM: slope -0.9"),
    ("convergence", "inversion.png orders.png", "Heun: slope -2.0"),
    ("convergence", "inversion.png orders.png", "DPM-Solver++(2M): slope -1.9"),
    ("flow_paths", "paths.png", "one point: crookedness 0.0000"),
    ("check_a_sampler", "steps.png", "nothing is broken"),
    ("check_a_sampler", "steps.png", "joins      BROKEN"),
    ("train_judge", "trained_judge.npz", "of 2000 test digits"),
    ("train_sprites", "checkpoint.npz free.png kinds.gif kinds.png loss.png mixed.png",
     "are as asked, w = 1"),
    ("compare_samplers", "cells.npz quality.png samplers.png",
     "| DDIM, eta 1 = DDPM, beta_tilde |"),
    ("explore_latents", "consistency.png inversion.png slerp.gif slerp.png",
     "to x_T and back in 4 steps"),
])  # fmt: skip
def test_an_example_makes_its_pictures_and_says_so(tmp_path, name, made, words):
    result = python(ROOT / f"examples/{name}.py", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == made.split()
    assert words in result.stdout


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
    run = [ROOT / "examples/compare_samplers.py", "--quick", "--out", tmp_path]
    first = python(*run)
    made = (tmp_path / "cells.npz").stat().st_mtime_ns
    again = python(*run)
    assert first.returncode == again.returncode == 0
    tables = [text.partition("a call of the network takes") for text in
              (first.stdout, again.stdout)]  # fmt: skip
    assert tables[0][0] == tables[1][0] and tables[0][1] == tables[1][1] != ""
    assert (tmp_path / "cells.npz").stat().st_mtime_ns == made
    other = python(*run, "--seed", 1)
    assert other.returncode and "is of other settings" in other.stderr


def test_digits_are_scored_and_mixed(tmp_path):
    result = python(ROOT / "examples/score_digits.py", "--quick")
    assert result.returncode == 0 and "| w | distance |" in result.stdout
    picture = tmp_path / "mixed.png"
    result = python(
        ROOT / "examples/sample.py", "--quick", "--classes", "3,3+8", "--w", 1,
        "--out", picture,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_on_a_gpu_is_sampled_and_goes_on_in_numpy(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    run = ["--quick", "--out", tmp_path]
    result = python(ROOT / "examples/train_on_gpu.py", *run)
    assert result.returncode == 0, result.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"checkpoint.npz", "loss.png", "ddim.png"}
    result = python(ROOT / "examples/train_on_gpu.py", *run)
    assert result.returncode and "go on with --resume" in result.stderr
    for script in ("train_mnist", "train_on_gpu"):
        steps = len(checkpoint.load(tmp_path / "checkpoint.npz").config["losses"]) + 2
        more = ["--resume", "--out", tmp_path, "--steps", steps]
        result = python(ROOT / f"examples/{script}.py", *more)
        assert result.returncode == 0, result.stderr
        found = checkpoint.load(tmp_path / "checkpoint.npz")
        assert found.step == steps
    result = python(
        ROOT / "examples/sample.py", "--quick", "--out", tmp_path / "a.png",
        "--model", tmp_path / "checkpoint.npz",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("words", [[], ["--model", "sprites", "--half"]])
def test_a_file_is_written_and_drawn_from(tmp_path, words):
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    script = ROOT / "examples/export_onnx.py"
    result = python(script, "--quick", "--out", tmp_path, *words)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"network.onnx", "onnx.png"}


def test_own_pictures_are_drawn_trained_resumed_and_sampled(tmp_path):
    shapes, out, path = tmp_path / "shapes", tmp_path / "out", tmp_path / "samples.png"
    result = python(ROOT / "examples/draw_shapes.py", "--n", 40, "--out", shapes)
    assert result.returncode == 0, result.stderr
    (shapes / "star" / "broken.png").write_bytes(b"")
    train = [ROOT / "examples/train_pictures.py", shapes, "--out", out, "--quick",
             "--size", 16, "--flips", "--attention", 2, "--min-snr", 5]  # fmt: skip
    result = python(*train)
    assert result.returncode == 0, result.stderr
    assert "broken.png" in result.stderr and "about" in result.stdout
    assert "40 pictures, 3 x 16 x 16: 10 circle, 10 square" in result.stdout
    assert "held out" in result.stdout.split("step 8: loss")[1]
    made = {file.name for file in out.iterdir()}
    assert made == {"checkpoint.npz", "film.gif", "loss.png", "sheet.png"}
    result = python(*train, "--resume")
    assert result.returncode == 0, result.stderr
    result = python(*train, "--resume", "--lr", 1)
    assert result.returncode and "lr is 1.0, expected what the run" in result.stderr
    result = python(
        ROOT / "examples/sample.py", "--model", out / "checkpoint.npz", "--classes",
        "circle,star+circle", "--w", 1, "--quick", "--out", path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    with Image.open(path) as image:
        assert image.size == (2 * 2 * 18, 2 * 18)
    judge = "--judge", out / "checkpoint.npz", "--each", 2, "--steps", 2
    result = python(ROOT / "examples/draw_shapes.py", *judge)
    assert result.returncode == 0 and "of 8 read as asked" in result.stdout


def test_the_rule_reads_every_drawn_shape(rng, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    script = runpy.run_path(str(ROOT / "examples/draw_shapes.py"))
    labels = rng.integers(4, size=200)
    names = list(script["CORNERS"])
    drawn = [np.asarray(script["shape"](names[k], 32, rng)) for k in labels]
    images, _, _ = data.pictures(np.stack(drawn))
    assert names == sorted(names) and (script["read"](images) == labels).all()


@pytest.mark.parametrize("script, options, words", [
    ("sample", "--classes 12a", "error: classes has '12a', expected one of ['0', '1'"),
    ("sample", "--model nowhere.npz", "error: path is 'nowhere.npz', expected a check"),
    ("sample", "--sampler ddpm --eta 0.5", "error: eta is 0.5, expected 0: ddpm has"),
    ("sample", "--steps 2000", "error: steps is 2000, expected 1..T = 1..1000"),
    ("train_pictures", "nowhere", "error: source is 'nowhere', expected a folder or"),
    ("train_mnist", "--schedule steep", "--schedule: schedule is 'steep', expected"),
    ("train_mnist", "--focus 2 1 5", "error: focus is (2.0, 1, 5), expected (share"),
    ("train_mnist", "--channels 30 60", "error: groups is 8, expected a divisor of 30"),
    ("train_mnist", "--schedule cosine offset", "'offset', expected such as offset="),
    ("train_mnist", "--schedule cosine start=1", "'cosine' has no 'start', expected"),
])  # fmt: skip
def test_bad_options_are_named(script, options, words):
    result = python(ROOT / f"examples/{script}.py", *options.split())
    assert result.returncode and words in result.stderr
    assert "Traceback" not in result.stderr


def test_an_out_that_is_no_folder_is_refused_at_once(tmp_path):
    out = tmp_path / "file"
    out.write_text("precious")
    result = python(ROOT / "examples/train_mnist.py", "--quick", "--out", out)
    assert (
        result.returncode and "expected a folder that can be written" in result.stderr
    )
    assert out.read_text() == "precious"


def test_kernels_are_right_without_the_compiler():
    code = """
import numpy as np
from nanodiff.unet import UNet
from nanodiff.gradcheck import gradcheck
rng = np.random.default_rng(0)
unet = UNet(1, 2, channels=(4, 4), features=4, groups=2, rng=rng)
x, context = rng.standard_normal((2, 1, 4, 2)), rng.standard_normal((2, 2))
x_mid, emb = rng.standard_normal((2, 4, 2, 2)), rng.standard_normal((2, 4))
gradcheck(unet.middle[0], x_mid, emb, rng=rng)
assert unet.cast(np.float32)(x.astype('f'), 3, context).dtype == np.float32
gradcheck(unet.ups[0].grow, rng.standard_normal((1, 4, 2, 3)), rng=rng)
gradcheck(unet.downs[0].pool, rng.standard_normal((1, 4, 3, 2)), rng=rng)
"""
    result = python("-c", code, NUMBA_DISABLE_JIT="1")
    assert result.returncode == 0, result.stderr


def test_a_run_takes_no_other_options_and_more_steps_with_a_word(tmp_path):
    out = tmp_path / "with a space"
    train = [ROOT / "examples/train_mnist.py", "--quick", "--out", out]
    first = python(*train)
    assert first.returncode == 0 and f"--model '{out}/checkpoint.npz'" in first.stdout
    before = (out / "checkpoint.npz").read_bytes()
    for options, words in (
        (["--predicts", "x0"], "predicts is x0, expected what the run began with, v"),
        (["--seed", 1], "seed is 1, expected what the run began with, 0"),
        (["--schedule", "cosine"], "schedule is cosine, expected what the run began"),
    ):
        result = python(*train, "--resume", *options)
        assert result.returncode == 1 and words in result.stderr
        assert "Traceback" not in result.stderr
    assert (out / "checkpoint.npz").read_bytes() == before
    bare = [train[0], "--resume", "--out", out, "--steps"]
    result = python(*bare, 7)
    assert result.returncode == 1 and "steps is 7, expected what" in result.stderr
    result = python(*bare, 10)
    assert result.returncode == 0, result.stderr
    assert "goes on after step 8, to 10; the learning rate is now 0.0" in result.stdout


def namespace(name, *options, monkeypatch):
    """What a script defines, ready to be run with these options by its `main`."""
    script = str(ROOT / f"examples/{name}.py")
    monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return runpy.run_path(script)


def test_ctrl_c_tells_how_to_go_on(tmp_path, monkeypatch, capsys):
    for name in ("train_mnist", "train_sprites"):
        out = tmp_path / f"{name} there"
        found = namespace(name, "--quick", "--out", out, monkeypatch=monkeypatch)

        def stop(*given):
            signal.raise_signal(signal.SIGTERM)

        found["main"].__globals__["draw"] = stop
        with pytest.raises(SystemExit) as end:
            found["main"]()
        assert end.value.code == 128 + signal.SIGTERM
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith("python ") and f"--resume --out '{out}'" in told
        monkeypatch.setattr(sys, "argv", shlex.split(told)[1:] + ["--every", "4"])
        found["main"].__globals__["draw"] = lambda *given: None
        found["main"]()


def test_earlier_pictures_stay_if_new_ones_fail(tmp_path, monkeypatch):
    (tmp_path / "consistency.png").write_text("precious")
    found = namespace(
        "explore_latents", "--quick", "--out", tmp_path, monkeypatch=monkeypatch
    )
    found["main"].__globals__["inversion"] = lambda *given: 1 / 0
    with pytest.raises(ZeroDivisionError):
        found["main"]()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [
        ("consistency.png", "precious")
    ]


def test_a_judge_is_not_trained_if_it_cannot_be_tested(tmp_path, monkeypatch):
    write_idx(tmp_path)  # a training set alone
    found = namespace(
        "train_judge", "--quick", "--out", tmp_path, "--data", tmp_path,
        monkeypatch=monkeypatch,
    )  # fmt: skip
    found["main"].__globals__["learn"] = lambda *given: 1 / 0
    with pytest.raises(FileNotFoundError, match="expected t10k-images"):
        found["main"]()
