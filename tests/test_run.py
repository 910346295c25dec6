"""A run that Ctrl-C stopped, taken up again, ends where an unbroken one does."""

import json
import signal

import numpy as np
import pytest

from nanodiff import checkpoint, files, trained
from nanodiff.optim import Muon
from nanodiff.run import Run, Stopped
from nanodiff.sampling import sample
from nanodiff.schedule import sigmoid
from nanodiff.toy import MLP
from nanodiff.train import Recipe

SMALL = {"channels": [4, 4], "features": 4, "groups": 2, "context_features": 2}


def start():
    return Run(Recipe(steps=6, batch=2, warmup=2), T=25, seed=3, **SMALL)


@pytest.fixture
def digits(rng):
    images = rng.standard_normal((8, 1, 4, 4)).astype(np.float32)
    return images, np.eye(2, dtype=np.float32)[rng.integers(2, size=8)]


def interrupted_at(step):
    """What to call while it draws: a Ctrl-C, once, after so many steps."""
    return lambda run: len(run.losses) == step and signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_and_a_resumed_run_is_the_same_to_the_bit(digits, tmp_path):
    path, whole = tmp_path / "run.npz", start()
    drawn = []
    whole.learn(*digits, path, 2, lambda run: drawn.append(len(run.losses)))
    assert drawn == [2, 4, 6] and len(whole.losses) == 6
    run = start()
    with pytest.raises(KeyboardInterrupt, match="saved .*run.npz after step 3"):
        run.learn(*digits, path, 2, interrupted_at(2))
    assert len(run.losses) == 3  # the step in which it was noticed is not lost
    again = Run.resume(path)
    assert again.losses == run.losses
    again.learn(*digits, path, 2, lambda run: None)
    assert again.losses == whole.losses
    for group in ("model", "trained"):
        one, other = (
            (run.model if group == "model" else run.trained().model).named_params()
            for run in (again, whole)
        )
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_run_begins_with_the_average_of_another(digits, tmp_path):
    first = Run(Recipe(2, 2, warmup=0), T=25, seed=3, **(SMALL | {"channels": [8, 8]}))
    first.learn(*digits, tmp_path / "run.npz", 2, lambda run: None)
    recipe = Recipe(2, 2, warmup=0, focus=(0.5, 2, 20), optimizer="muon")
    second = Run.beginning_with(first.trained(), recipe, seed=9)
    assert second.schedule.T == 25 and second.losses == [] and second.optimizer.k == 0
    for name, average in first.ema.average.items():
        np.testing.assert_array_equal(second.model.named_params()[name], average)
        np.testing.assert_array_equal(second.ema.average[name], average)
    path = tmp_path / "second.npz"
    second.learn(*digits, path, 2, lambda run: None)
    again = Run.resume(path)
    assert again.recipe == recipe and again.optimizer.k == 2
    assert isinstance(again.optimizer, Muon) and again.optimizer.hidden
    for name, m in second.optimizer.m.items():
        np.testing.assert_array_equal(again.optimizer.m[name], m)


def test_a_run_can_begin_with_more_middle_blocks_than_the_other_had(digits, tmp_path):
    first, path = start(), tmp_path / "run.npz"
    first.learn(*digits, path, 6, lambda run: None)
    recipe = Recipe(2, 2, warmup=0, optimizer="muon")
    second = Run.beginning_with(first.trained(), recipe, seed=9, middle=2)
    xt, t = digits[0][:2], np.array([3, 20])
    first.model.load(first.ema.average)
    assert first.model(xt, t).any()
    np.testing.assert_array_equal(second.model(xt, t), first.model(xt, t))
    second.learn(*digits, path, 2, lambda run: None)
    assert second.model.middle[1].conv2.w.any()
    third = Run.beginning_with(second.trained(), recipe, seed=9)
    assert third.model.config["middle"] == 2 == Run.resume(path).model.config["middle"]
    with pytest.raises(ValueError, match="'middle.1.* is not a parameter here"):
        Run.beginning_with(second.trained(), recipe, seed=9, middle=1)


def test_a_run_can_begin_with_a_network_that_learns_to_see_its_guess(digits, tmp_path):
    first, path = start(), tmp_path / "run.npz"
    first.learn(*digits, path, 6, lambda run: None)
    recipe = Recipe(4, 2, warmup=0, optimizer="muon")
    second = Run.beginning_with(first.trained(), recipe, seed=9, self_condition=True)
    xt, t = digits[0][:2], np.array([3, 20])
    first.model.load(first.ema.average)
    np.testing.assert_array_equal(second.model(xt, t, None, xt), first.model(xt, t))
    second.learn(*digits, path, 2, lambda run: None)
    assert second.model.conv_x0.w.any()
    found = trained.pretrained(path)
    fresh, after = found.model(xt, t), found.model(xt, t - 1)  # as a sampler asks
    np.testing.assert_array_equal(fresh, found.network(xt, t))
    assert (after != found.network(xt, t - 1)).any()
    third = Run.beginning_with(second.trained(), recipe, seed=9)
    assert third.model.self_condition and Run.resume(path).model.self_condition


def test_a_run_can_begin_with_attention(digits, tmp_path):
    first, path = start(), tmp_path / "run.npz"
    first.learn(*digits, path, 6, lambda run: None)
    recipe = Recipe(4, 2, warmup=0, optimizer="muon")
    second = Run.beginning_with(first.trained(), recipe, seed=9, attention=2)
    xt, t = digits[0][:2], np.array([3, 20])
    first.model.load(first.ema.average)
    np.testing.assert_array_equal(second.model(xt, t), first.model(xt, t))
    second.learn(*digits, path, 2, lambda run: None)
    assert second.model.attention.out.w.any() and second.model.attention.q.dw.any()
    third = Run.beginning_with(second.trained(), recipe, seed=9)
    again = Run.resume(path, attention=2)
    assert third.model.attention.heads == again.model.attention.heads == 2
    for heads in (4, 0):
        with pytest.raises(ValueError, match=f"attention is {heads}, expected .*, 2"):
            Run.beginning_with(second.trained(), recipe, seed=9, attention=heads)


def test_a_checkpoint_from_before_attention_and_weights_goes_on(digits, tmp_path):
    path, run = tmp_path / "run.npz", start()
    with pytest.raises(KeyboardInterrupt):
        run.learn(*digits, path, 2, interrupted_at(2))
    arrays, about = files.read_npz(path, "damaged")
    del about["config"]["settings"]["attention"], about["config"]["recipe"]["min_snr"]
    files.write_npz(path, arrays, about)
    again, whole = Run.resume(path, attention=0, min_snr=None), start()
    for each in (again, whole):
        each.learn(*digits, path, 6, lambda run: None)
    assert again.losses == whole.losses
    for name, w in whole.model.named_params().items():
        np.testing.assert_array_equal(again.model.named_params()[name], w)


def test_the_parameters_of_a_schedule_go_where_the_run_goes(digits, tmp_path):
    parameters, path = {"start": -2, "end": 4.5}, tmp_path / "run.npz"
    run = Run(Recipe(2, 2, warmup=0), 25, "sigmoid", parameters, seed=3, **SMALL)
    run.learn(*digits, path, 1, lambda run: None)
    beta, found = sigmoid(25, -2, 4.5).beta, trained.pretrained(path)
    second = Run.beginning_with(found, Recipe(2, 2, warmup=0), seed=9)
    second.save(tmp_path / "second.npz")
    for schedule in (
        run.schedule, found.schedule, found.network.schedule, Run.resume(path).schedule,
        second.schedule, trained.pretrained(tmp_path / "second.npz").schedule,
    ):  # fmt: skip
        np.testing.assert_array_equal(schedule.beta, beta)


# All arrays of a U-Net with three levels and two middle blocks, as in format 1.
OF_A_BLOCK = [
    f"{layer}.{w}" for layer, names in (
        ("norm1", ("gamma", "beta")), ("conv1", "wb"), ("modulate", "wb"),
        ("norm2", ("gamma", "beta")), ("conv2", "wb"),
    ) for w in names
]  # fmt: skip
OLD_NAMES = [
    "embed.time1.w", "embed.time1.b", "embed.time2.w", "embed.time2.b",
    "embed.context.w", "conv_in.w", "conv_in.b", "pool1.w", "pool1.b",
    *(f"down2.{name}" for name in OF_A_BLOCK), "pool2.w", "pool2.b",
    *(f"down3.{name}" for name in OF_A_BLOCK),
    *(f"mid.{name}" for name in OF_A_BLOCK),
    *(f"mid2.{name}" for name in OF_A_BLOCK), "grow2.w", "grow2.b",
    *(f"up2.{name}" for name in OF_A_BLOCK), "grow1.w", "grow1.b",
    *(f"up1.{name}" for name in OF_A_BLOCK),
    "norm_out.gamma", "norm_out.beta", "conv_out.w", "conv_out.b",
]  # fmt: skip


def as_format_1(path, run):
    """Write a checkpoint's file again, in format 1."""
    old = dict(zip(run.model.named_params(), OLD_NAMES, strict=True))
    with np.load(path) as file:
        about, arrays = json.loads(file["about"].item()), dict(file)
    del about["config"]["schedule_parameters"], arrays["about"]
    about["format"] = "nanodiff checkpoint 1"
    pairs = [(*key.split("/"), array) for key, array in arrays.items()]
    renamed = {f"{group}/{old[name]}": array for group, name, array in pairs}
    np.savez(path, about=np.array(json.dumps(about)), **renamed)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_checkpoint_of_format_1_is_read_and_resumed(digits, tmp_path, optimizer):
    more = SMALL | {"channels": [8, 8, 8], "middle": 2}
    run = Run(Recipe(4, 2, warmup=0, optimizer=optimizer), 25, seed=3, **more)
    path, old = tmp_path / "run.npz", tmp_path / "old.npz"
    with pytest.raises(Stopped):
        run.learn(*digits, path, 1, interrupted_at(1))
    old.write_bytes(path.read_bytes())
    as_format_1(old, run)
    found = trained.pretrained(old).network.named_params()
    for name, average in run.ema.average.items():
        np.testing.assert_array_equal(found[name], average)
    resumed, whole = Run.resume(old), Run.resume(path)
    for r in (resumed, whole):
        r.learn(*digits, tmp_path / "end.npz", 9, lambda run: None)
    assert resumed.losses == whole.losses and len(whole.losses) == 4
    for name, w in whole.model.named_params().items():
        np.testing.assert_array_equal(resumed.model.named_params()[name], w)


def test_a_second_ctrl_c_stops_at_once_and_the_handler_is_put_back(digits, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start().learn(*digits, tmp_path / "run.npz", 2, twice)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(Run.resume(tmp_path / "run.npz").losses) == 2


def test_a_network_without_a_context_learns_too(digits, tmp_path):
    run = Run(Recipe(1, 2, warmup=0), 25, seed=0, **(SMALL | {"context_features": 0}))
    run.learn(digits[0], None, tmp_path / "run.npz", 1, lambda run: None)
    assert Run.resume(tmp_path / "run.npz").data == run.data


def test_other_data_are_refused_before_a_step(digits, tmp_path):
    images, context = digits
    path = tmp_path / "run.npz"
    with pytest.raises(Stopped):
        start().learn(images, context, path, 2, interrupted_at(2))
    run = Run.resume(path)
    with pytest.raises(ValueError, match="images and context have the checksum"):
        run.learn(images, context[::-1].copy(), path, 2, lambda run: None)
    assert len(run.losses) == 3


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="schedule is 'steep', expected one of"):
        Run(Recipe(), 25, "steep", seed=0, **SMALL)
    found = start().trained()
    with pytest.raises(ValueError, match="predicts 'v', expected .* for, 'eps'"):
        Run.beginning_with(found, Recipe(predicts="v"), seed=0)
    run, path = start(), tmp_path / "run.npz"
    config = {"T": 25, "unet": run.model.config}
    checkpoint.save(path, step=0, config=config, **run._parts())
    with pytest.raises(ValueError, match=r"about has no \['recipe', 'schedule'\]"):
        Run.resume(path)


def of_vectors(network=MLP, seed=3):
    options = {"features": 5, "context_features": 2, "width": 8, "time_size": 4}
    return Run(
        Recipe(6, 4, warmup=0, predicts="v"), 25, seed=seed, network=network,
        shape=(5,), classes=["a", "b"], **options,
    )  # fmt: skip


class OwnNetwork(MLP):
    """A network of the reader's own, which no list knows."""


@pytest.mark.parametrize("network", [MLP, OwnNetwork])
def test_any_network_is_saved_resumed_averaged_and_sampled(tmp_path, rng, network):
    x0 = rng.standard_normal((9, 5)).astype(np.float32)
    context = np.eye(2, dtype=np.float32)[rng.integers(2, size=9)]
    whole, run, path = of_vectors(network), of_vectors(network), tmp_path / "run.npz"
    whole.learn(x0, context, tmp_path / "whole.npz", 9)
    with pytest.raises(Stopped):
        run.learn(x0, context, path, 2, interrupted_at(2))
    again = Run.resume(path, network)
    again.learn(x0, context, path, 9)
    assert again.losses == whole.losses and type(again.model) is network
    found = trained.pretrained(path, network)
    made = sample(found, ["a", "b+a"], 2, 1, 25, rng=np.random.default_rng(0))
    of_whole = sample(whole.trained(), ["a", "b+a"], 2, 1, 25,
                      rng=np.random.default_rng(0))  # fmt: skip
    assert made.shape == (4, 5) and np.isfinite(made).all()
    np.testing.assert_array_equal(made, of_whole)
    second = Run.beginning_with(found, Recipe(1, 2, warmup=0, predicts="v"), seed=0)
    assert type(second.model) is network and second.classes == ["a", "b"]


def test_a_checkpoint_of_an_unknown_network_asks_for_its_class(tmp_path):
    of_vectors(OwnNetwork).save(tmp_path / "run.npz")
    for read in (Run.resume, trained.pretrained):
        with pytest.raises(
            ValueError, match="network is None, expected the class 'Own"
        ):
            read(tmp_path / "run.npz")
        with pytest.raises(
            ValueError, match="network is 'MLP', expected the class 'Ow"
        ):
            read(tmp_path / "run.npz", MLP)


def test_a_run_of_pictures_keeps_their_shape_classes_and_losses(tmp_path, rng):
    images = rng.uniform(-1, 1, (6, 3, 8, 4)).astype(np.float32)
    options = {"channels": [8, 8], "features": 8, "seed": 0}
    run = Run.of_pictures(images, ["cat", "dog"], steps=1, batch=2, **options)
    run.held_out.append((1, 0.25))
    context = np.eye(2, dtype=np.float32)[[0, 1] * 3]
    run.learn(images, context, tmp_path / "run.npz", 1)
    again, found = Run.resume(tmp_path / "run.npz"), run.trained()
    for kept in (again, found):
        assert kept.shape == (3, 8, 4) and kept.classes == ["cat", "dog"]
    assert again.held_out == [[1, 0.25]] and again.recipe.predicts == "v"
    assert sample(found, ["dog"], 2, steps=1, rng=rng).shape == (2, 3, 8, 4)
    assert "['cat', 'dog']" in repr(found) and "1 of 1 steps" in repr(run)
    with pytest.raises(ValueError, match="expected .* with H and W divisible by 8"):
        Run.of_pictures(images, ["cat"], channels=[8] * 4, seed=0)
