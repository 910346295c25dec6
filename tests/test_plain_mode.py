"""Without Numba everything works, only slower: the digits and every example."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanodiff import data, ddim, engine, layers, plain, trained
from nanodiff.guidance import guide
from nanodiff.run import Run
from nanodiff.train import Recipe

ROOT = Path(__file__).parent.parent
NEEDS = {"limits": None, "export_onnx": "onnxruntime", "train_on_gpu": "torch"}
EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*.py")
    if path.stem not in NEEDS or NEEDS[path.stem] and find_spec(NEEDS[path.stem])
)  # fmt: skip


@pytest.fixture(scope="module")
def without_numba(tmp_path_factory):
    """The environment of a Python that finds no Numba."""
    folder = tmp_path_factory.mktemp("hidden")
    hide = 'import sys\nsys.modules["numba"] = None\n'
    (folder / "sitecustomize.py").write_text(hide)
    path = f"{folder}{os.pathsep}{ROOT}"
    return os.environ | {"PYTHONPATH": path, "NANODIFF_PLAIN": ""}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A checkpoint that is sampled in a moment."""
    path = tmp_path_factory.mktemp("model") / "checkpoint.npz"
    small = {"channels": [8, 8], "features": 8, "context_features": 10}
    Run(Recipe(1, 1, warmup=0), 25, seed=0, **small).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of two classes of six pictures."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(12):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_without_numba(
    path, without_numba, small_model, pictures, tmp_path
):
    text = path.read_text(encoding="utf-8")
    command = [sys.executable, path, *(["--quick"] if '"--quick"' in text else [])]
    if '"--out"' in text:
        out = "made.png" if 'suffix != ".png"' in text else "made"
        command += ["--out", tmp_path / out]
    command += [pictures] if 'add("folder"' in text else []
    if 'add("--model"' in text and path.stem != "sample":
        command += ["--model", small_model]
    found = subprocess.run(
        command, cwd=ROOT, env=without_numba, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("pip install numba") == 1
    assert found.stdout and bool(list(tmp_path.iterdir())) == ('"--out"' in text)


@pytest.mark.skipif(engine.PLAIN, reason="there is nothing to compare with")
def test_the_digits_of_the_package_are_the_same_to_rounding(monkeypatch):
    found, digits = trained.pretrained("mnist"), data.one_hot([2, 0, 2, 6])
    rng = np.random.default_rng(0)
    xT = rng.standard_normal((4, 1, 28, 28)).astype(np.float32)

    def made():
        model = guide(found.model, digits, w=1)
        *_, (_, x0) = ddim.sample(model, found.schedule, xT, 8, clip=1.0)
        return x0

    fast = made()
    monkeypatch.setattr(layers, "functions", plain)
    slow = made()
    assert slow.dtype == np.float32
    np.testing.assert_allclose(slow, fast, rtol=0, atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_plain_networks_may_be_used_before_and_after_a_fork():
    code = """
import os, numpy as np
from nanodiff.unet import UNet
unet = UNet(channels=(8, 8), rng=np.random.default_rng(0))
x = np.ones((2, 1, 8, 8), np.float32)
unet(x, 1)
if os.fork() == 0:
    print(unet(x, 1).shape, flush=True)
    os._exit(0)
os.wait()
"""
    environment = os.environ | {"NANODIFF_PLAIN": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert found.stdout.strip() == "(2, 1, 8, 8)", found.stderr
