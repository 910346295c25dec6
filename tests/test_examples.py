"""The examples run as a reader runs them, and the kernels without their compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(*args, **environment):
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | environment, timeout=300,
    )  # fmt: skip


def test_train_resume_and_sample(tmp_path):
    train = [ROOT / "examples/train_mnist.py", "--quick", "--out", tmp_path]
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
    for sampler in ("ddim", "ddpm"):
        picture = tmp_path / f"{sampler}-digits.png"
        result = python(
            ROOT / "examples/sample_mnist.py", "--quick", "--sampler", sampler,
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


def test_toy_points_and_convergence(tmp_path):
    for name, made in {
        "toy_points": {"points.png", "fields.png"},
        "convergence": {"orders.png", "inversion.png"},
    }.items():
        out = tmp_path / name
        result = python(ROOT / f"examples/{name}.py", "--quick", "--out", out)
        assert result.returncode == 0, result.stderr
        assert {path.name for path in out.iterdir()} == made
    assert "DDIM: slope -0.9" in result.stdout and "Heun: slope -1.9" in result.stdout


@pytest.mark.parametrize("options, words", [
    (["--digits", "12a"], "--digits is '12a', expected digits"),
    (["--model", "nowhere.npz"], "path is 'nowhere.npz', expected a checkpoint"),
])  # fmt: skip
def test_bad_options_are_named(options, words):
    result = python(ROOT / "examples/sample_mnist.py", *options)
    assert result.returncode and words in result.stderr


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
gradcheck(unet.mid, x_mid, emb, rng=rng)
assert unet.cast(np.float32)(x.astype('f'), 3, context).dtype == np.float32
gradcheck(unet.grow1, rng.standard_normal((1, 4, 2, 3)), rng=rng)
gradcheck(unet.pool1, rng.standard_normal((1, 4, 3, 2)), rng=rng)
"""
    result = python("-c", code, NUMBA_DISABLE_JIT="1")
    assert result.returncode == 0, result.stderr
