"""The networks of the package, and the wrapper that makes each of them say eps."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import data, ddim, trained
from nanodiff.evaluate import look
from nanodiff.gradcheck import gradcheck
from nanodiff.guidance import guide
from nanodiff.prediction import KINDS, split
from nanodiff.run import Run
from nanodiff.schedule import linear
from nanodiff.self_conditioning import WithLastGuess
from nanodiff.train import Recipe
from nanodiff.unet import UNet
from tests.strategies import seeds

SMALL = {"channels": (4, 8), "features": 8, "groups": 2, "context_features": 3}


def small(predicts, seed=0):
    """A network that says eps, and the same one saying what it was trained to say."""
    rng, schedule = np.random.default_rng(seed), linear(100)
    model = trained.Eps(UNet(**SMALL, rng=rng), schedule, predicts).cast(np.float64)
    for w in model.named_params().values():
        w[...] = rng.standard_normal(w.shape) * 0.3
    plain = UNet(**SMALL, rng=rng).cast(np.float64).load(model.named_params())
    return model, plain, schedule, rng


@given(st.sampled_from(KINDS), seeds)
def test_it_says_the_eps_of_what_the_network_says(predicts, seed):
    model, plain, schedule, rng = small(predicts, seed)
    xt, context = rng.standard_normal((2, 1, 4, 4)), rng.random((2, 3))
    t = rng.integers(1, 101, size=2)
    want = split(schedule, xt, t, plain(xt, t, context), predicts)[1]
    np.testing.assert_allclose(model(xt, t, context), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("predicts", KINDS)
def test_its_backward_pass_is_its_derivative(predicts):
    model, _, _, rng = small(predicts)
    gradcheck(
        model, rng.standard_normal((2, 1, 4, 4)), np.array([3, 90]), rng.random((2, 3)),
        rng=rng,
    )  # fmt: skip


@given(seeds, st.integers(1, 4))
def test_a_file_of_weights_is_read_as_it_was_written(tmp_path_factory, seed, n):
    path = tmp_path_factory.mktemp("weights") / "file.npz"
    w = np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32)
    trained.write(path, {"a.w": w}, {"T": 7})
    params, about = trained.read(path)
    assert about == {"T": 7} and params["a.w"].dtype == np.float32
    np.testing.assert_allclose(params["a.w"], w, rtol=2**-11, atol=1e-7)
    assert [file.name for file in path.parent.iterdir()] == ["file.npz"]


def ship(*checkpoints):
    """Run tools/ship.py as its command line does."""
    tool = Path(__file__).parents[1] / "tools" / "ship.py"
    words = "mnist --command made --seed 1 --seconds 2 --score good".split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(tool), *map(str, checkpoints), *words])
        runpy.run_path(str(tool), run_name="__main__")


def test_the_mean_of_finished_runs_is_shipped_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "FOLDER", tmp_path)
    images, labels = np.zeros((4, 1, 4, 4), np.float32), np.eye(4, 3, dtype=np.float32)
    runs = [Run(Recipe(1, 2, warmup=0), T=25, seed=k, **SMALL) for k in range(3)]
    paths = [tmp_path / f"{k}.npz" for k in range(3)]
    for run, path in zip(runs[:2], paths, strict=False):
        run.learn(images, labels, path, 1, lambda run: None)
    runs[2].save(paths[2])
    with pytest.raises(SystemExit):
        ship(*paths[::-1])  # the first of them is not finished
    assert not (tmp_path / "trained_mnist.npz").exists()
    ship(*paths[:2])
    params, about = trained.read(tmp_path / "trained_mnist.npz")
    assert about["command"] == "made" and about["T"] == 25
    for name, w in params.items():
        mean = (runs[0].ema.average[name] + runs[1].ema.average[name]) / 2
        np.testing.assert_allclose(w, mean, rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize("name", ["judge", *trained.NAMES])
def test_a_file_of_the_package_is_small_and_says_how_it_was_made(name):
    path = trained.FOLDER / f"trained_{name}.npz"
    _, about = trained.read(path)
    assert path.stat().st_size <= 3_000_000
    assert about["command"].startswith("python examples/train_")
    assert {"seed", "date", "seconds"} <= about.keys() and "%" in about["score"]
    assert f"--seed {about['seed']}" in about["command"]
    for option in ("steps", "batch"):
        if option in about.get("recipe", {}):
            value = about["recipe"][option]
            assert f"--{option} {value}" in about["command"]


def test_the_model_shows_the_network_its_guess_if_it_was_trained_for_it():
    digits, sprites = trained.pretrained("mnist"), trained.pretrained("sprites")
    assert isinstance(digits.model, WithLastGuess)
    assert digits.model.network is digits.network and digits.network.self_condition
    assert sprites.model is sprites.network and not sprites.network.self_condition


def test_twenty_digits_of_the_package_are_read_as_asked():
    found = trained.pretrained("mnist")
    labels = np.repeat(np.arange(10), 2)
    rng = np.random.default_rng(0)
    xT = rng.standard_normal((20, 1, 28, 28)).astype(np.float32)
    model = guide(found.model, data.one_hot(labels), w=1)
    *_, (_, x0) = ddim.sample(model, found.schedule, xT, 15, clip=1.0)
    _, read = look(trained.judge(), x0)
    assert (read == labels).sum() >= 19


@pytest.mark.parametrize("name, error, words", [
    ("cifar", ValueError, r"name is 'cifar', expected one of \['mnist', 'sprites'\]"),
    ("nowhere.npz", FileNotFoundError, "path is 'nowhere.npz', expected a checkpoint"),
])  # fmt: skip
def test_bad_input_is_named(name, error, words):
    with pytest.raises(error, match=words):
        trained.pretrained(name)


def test_what_cannot_be_stored_or_built_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"params\['w'\] has 70000.0, beyond float16"):
        trained.write(tmp_path / "file.npz", {"w": np.array([7e4])}, {})
    assert not list(tmp_path.iterdir())
    missing = r"about has no \['network', 'recipe', 'schedule', 'settings'\]"
    with pytest.raises(ValueError, match=missing):
        trained.build({}, {"T": 100})


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "trained.npz"
    path.write_bytes((trained.FOLDER / "trained_judge.npz").read_bytes()[:1000])
    with pytest.raises(ValueError, match="trained.npz' is damaged"):
        trained.read(path)
