"""What docs/reliability.md promises of threads, batches, caches and installations."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import engine
from nanodiff.optim import EMA, OPTIMIZERS
from nanodiff.schedule import linear
from nanodiff.train import Recipe, train
from nanodiff.unet import UNet
from tests.strategies import seeds

ROOT = Path(__file__).parent.parent
compiled = pytest.mark.skipif(engine.PLAIN, reason="of the compiled loops only")


def network(seed, **config):
    """A small U-Net in which every weight matters."""
    rng = np.random.default_rng(seed)
    config = {"channels": (8, 12), "features": 8, "groups": 4} | config
    unet = UNet(context_features=3, **config, rng=rng)
    for w in unet.named_params().values():
        w[...] = 0.2 * rng.standard_normal(w.shape)
    return unet


def inputs(N, seed, size=8):
    rng = np.random.default_rng(seed)
    xt = rng.standard_normal((N, 1, size, size), dtype=np.float32)
    return xt, rng.integers(1, 100, size=N), rng.random((N, 3))


def test_two_networks_in_eight_threads_say_what_they_say_in_one():
    cases = [(unet, inputs(N, N, 28)) for unet in (network(0), network(1))
             for N in (1, 4, 5, 16)]  # fmt: skip
    want = [unet(*given) for unet, given in cases]

    def call(i):
        unet, given = cases[i % len(cases)]
        np.testing.assert_array_equal(unet(*given), want[i % len(cases)])

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(call, range(1000)))) == 1000


def trained_weights(seed, optimizer, steps=12):
    unet, recipe = network(seed), Recipe(steps, 4, warmup=2)
    params, rng = unet.named_params(), np.random.default_rng(seed)
    images, _, context = inputs(8, seed, 28)
    context = context.astype(np.float32)
    loop = train(
        unet, linear(100), images, context, recipe, rng=rng,
        optimizer=OPTIMIZERS[optimizer](params), ema=EMA(params),
    )  # fmt: skip
    assert len(list(loop)) == steps
    return params


def test_trainings_in_threads_end_with_the_weights_of_one():
    cases = [(0, "muon"), (1, "adam"), (2, "muon")]
    want = [trained_weights(*case) for case in cases]
    with ThreadPoolExecutor(len(cases)) as pool:
        found = list(pool.map(lambda case: trained_weights(*case), cases))
    for params, wanted in zip(found, want, strict=True):
        for name, w in params.items():
            np.testing.assert_array_equal(w, wanted[name], err_msg=name)


@compiled
@given(
    st.sampled_from([(1, 1, False), (3, 1, False), (3, 2, False), (3, 1, True)]),
    st.integers(1, 12), st.integers(1, 40), st.integers(1, 15), st.integers(1, 15),
    seeds,
)  # fmt: skip
def test_an_image_has_the_same_bits_in_any_batch(how, N, more, H, W, seed):
    rng, (kernel, *how) = np.random.default_rng(seed), how
    x = rng.standard_normal((N + more, 3, H, W), dtype=np.float32)
    w = rng.standard_normal((5, 3, kernel, kernel), dtype=np.float32)
    scale, shift = rng.standard_normal((2, N + more, 3), dtype=np.float32)

    def results(n):
        y = engine.functions.conv2d(x[:n], w, w[:, 0, 0, 0].copy(), *how)
        size = H, W
        dx = engine.functions.conv2d_dx(y, w, size, *how)
        given = scale[:n].copy(), shift[:n].copy()
        return y, dx, engine.functions.group_norm(x[:n], *given, 3, 1e-5, True)[0]

    y, dx, normed = zip(results(N), results(N + more), strict=True)
    np.testing.assert_array_equal(normed[0], normed[1][:N])
    np.testing.assert_array_equal(y[0], y[1][:N])
    np.testing.assert_array_equal(dx[0], dx[1][:N])


@compiled
@pytest.mark.parametrize("one, other", [(1, 2), (1, 64), (13, 64), (4, 16), (12, 13)])
def test_a_sample_of_a_network_has_the_same_bits_in_any_batch(one, other):
    unet, (xt, t, context) = network(0), inputs(other, 0)
    found = unet(xt[:one], t[:one], context[:one])
    np.testing.assert_array_equal(found, unet(xt, t, context)[:one])


def run(code, before=(), **environment):
    """Run Python code in a process of its own, and return what it prints and warns.

    before: words of the command before Python. An environment variable that is None is
    taken away.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    found = subprocess.run(
        [*before, sys.executable, "-c", code], cwd="/", text=True, capture_output=True,
        env={name: v for name, v in environment.items() if v is not None}, timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.strip(), found.stderr


TRAINING = """
import hashlib
import numpy as np
from nanodiff.run import Run
from nanodiff.train import Recipe

images = np.random.default_rng(0).standard_normal((8, 1, 8, 8)).astype(np.float32)
context = np.eye(2, dtype=np.float32)[np.arange(8) % 2]
recipe = Recipe(6, 6, warmup=2, optimizer="muon")
small = {"channels": [8, 12], "features": 8, "groups": 4, "context_features": 2}

def stop(run):
    if len(run.losses) == STOP:
        raise SystemExit

run = Run.resume(PATH) if RESUME else Run(recipe, 25, seed=3, **small)
run.learn(images, context, PATH, 3, stop)
weights = [w.tobytes() for w in run.model.named_params().values()]
print(hashlib.sha256(b"".join(weights)).hexdigest(), *run.losses)
"""


@compiled
@pytest.mark.slow
def test_a_run_begun_cold_and_resumed_warm_is_an_unbroken_one(tmp_path):
    def process(name, stop, resume, cache):
        values = f"PATH, STOP, RESUME = {str(tmp_path / name)!r}, {stop}, {resume}\n"
        return run(values + TRAINING, NUMBA_CACHE_DIR=str(tmp_path / cache))[0]

    assert process("run.npz", 3, False, "cache") == ""  # compiles; saved after step 3
    assert list((tmp_path / "cache").rglob("*.nbc"))
    resumed = process("run.npz", None, True, "cache")
    assert resumed == process("whole.npz", None, False, "cache")
    assert len(resumed.split()) == 1 + 6


@compiled
@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_installed_read_only_with_a_home_that_is_too_it_works_with_a_word(tmp_path):
    # root may write everywhere, unless it gives that up
    root = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    if root and not shutil.which(root[0]):
        pytest.skip("run by root, and there is no setpriv")
    folder, ignore = tmp_path / "site", shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nanodiff", folder / "nanodiff", ignore=ignore)
    code = """
import numpy as np
import nanodiff
unet = nanodiff.UNet(channels=(8, 8), rng=np.random.default_rng(0))
print(nanodiff.__file__, unet(np.ones((2, 1, 8, 8), "f"), 3).shape)
"""
    try:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        found, warned = run(
            code, root, PYTHONPATH=str(folder), HOME=str(folder), XDG_CACHE_HOME=None,
            NUMBA_CACHE_DIR=None,
        )  # fmt: skip
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert found == f"{folder / 'nanodiff' / '__init__.py'} (2, 1, 8, 8)"
    assert warned.count("RuntimeWarning") == 1 and "NUMBA_CACHE_DIR" in warned
    assert not list(folder.rglob("*.nbi"))
