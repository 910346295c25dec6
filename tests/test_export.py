"""The network in PyTorch and in ONNX says what it says in NumPy, and comes back.

A test is skipped, with its reason, where the extra that it needs is not installed.
"""

import copy
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanodiff import checkpoint, data, files, schedule
from nanodiff.export import from_torch, to_onnx, to_torch
from nanodiff.layers import Linear
from nanodiff.prediction import KINDS
from nanodiff.toy import MLP
from nanodiff.trained import Eps, Pretrained, pretrained
from nanodiff.unet import UNet
from tests.strategies import seeds

ROOT = Path(__file__).parent.parent
SMALL = {"channels": (4, 8), "features": 8, "groups": 2, "context_features": 3}


def extra(name):
    """A module that not everyone has installed."""
    return pytest.importorskip(name, reason=f"{name} is not installed")


def trained_unet(rng, **config):
    """A U-Net in which no parameter is zero, as after training."""
    unet = UNet(**SMALL | config, rng=rng)
    for w in unet.named_params().values():
        w += 0.2 * rng.standard_normal(w.shape).astype(w.dtype)
    return unet


def inputs(rng, config, N=3, blocks=(1, 2), dtype=np.float32):
    """xt, t, context and a guess, the last two None where the network has none."""
    step = 2 ** (len(config["channels"]) - 1)
    shape = N, config["image_channels"], step * blocks[0], step * blocks[1]
    M, again = config["context_features"], config["self_condition"]
    xt, guess = rng.standard_normal((2, *shape)).astype(dtype)
    context = rng.standard_normal((N, M)).astype(dtype) if M else None
    return xt, rng.integers(1, 26, N), context, guess if again else None


def in_torch(twin, arrays):
    """What a twin says, as a tensor."""
    tensor = extra("torch").from_numpy
    return twin(*(None if a is None else tensor(a) for a in arrays))


def in_onnx(path, arrays):
    """What ONNX Runtime says of a file; None is zeros of the input's shape."""
    session = extra("onnxruntime").InferenceSession(path)
    xt = arrays[0]
    given = dict(zip(("xt", "t", "context", "x0_hat"), arrays, strict=True))
    for value in session.get_inputs():
        shape = xt.shape if value.name == "x0_hat" else (len(xt), value.shape[1:])
        if given[value.name] is None:
            given[value.name] = np.zeros(shape, np.float32)
    names = [value.name for value in session.get_inputs()]
    (output,) = session.run(None, {name: given[name] for name in names})
    return output


def apart(a, b):
    """The largest difference, as a share of the largest entry."""
    return np.abs(a - b).max() / max(1e-30, np.abs(b).max())


configs = st.fixed_dictionaries({
    "channels": st.sampled_from([(4,), (4, 8), (8, 4, 4)]),
    "image_channels": st.integers(1, 3), "context_features": st.integers(0, 3),
    "middle": st.integers(1, 2), "self_condition": st.booleans(),
    "attention": st.sampled_from([0, 1, 2]),
})  # fmt: skip


@given(configs, st.sampled_from([np.float32, np.float64]), seeds)
@settings(max_examples=12)
def test_the_twin_has_the_output_the_loss_and_the_gradients(config, dtype, seed):
    torch, rng = extra("torch"), np.random.default_rng(seed)
    unet, limit = trained_unet(rng, **config), {np.float32: 1e-4, np.float64: 1e-9}
    twin, unet = to_torch(unet.cast(dtype)), unet.cast(dtype)
    arrays = inputs(rng, unet.config, dtype=dtype)
    target = rng.standard_normal(arrays[0].shape).astype(dtype)
    xt = torch.tensor(arrays[0], requires_grad=True)
    tensors = (None if a is None else torch.from_numpy(a) for a in arrays[1:])
    output = twin(xt, *tensors)
    loss = torch.nn.functional.mse_loss(output, torch.from_numpy(target))
    loss.backward()
    error = unet(*arrays) - target
    dx, _ = unet.backward(2 / error.size * error)
    assert apart(output.detach().numpy(), error + target) < limit[dtype]
    assert apart(loss.item(), np.mean(error * error)) < limit[dtype]
    assert apart(xt.grad.numpy(), dx) < limit[dtype]
    largest = max(np.abs(dw).max() for dw in unet.named_grads().values())
    for name, dw in unet.named_grads().items():
        grad = twin.get_parameter(name).grad.numpy()
        assert np.abs(grad - dw).max() / largest < limit[dtype], name


@pytest.mark.parametrize("name", ["mnist", "sprites"])
def test_the_networks_of_the_package_say_the_same_in_torch(rng, name):
    extra("torch")
    found = pretrained(name)
    twin, config = to_torch(found), found.network.network.config
    arrays = inputs(rng, config, N=3, blocks=(4, 7))
    for shown in (arrays, (*arrays[:3], None)):
        ours = found.network(*(a for a in shown if a is not None))
        assert apart(in_torch(twin, shown).detach().numpy(), ours) < 1e-4


@given(configs, st.sampled_from(KINDS), seeds)
@settings(max_examples=12)
def test_onnx_runtime_says_the_same(tmp_path_factory, config, predicts, seed):
    extra("onnx")
    rng, noise = np.random.default_rng(seed), schedule.linear(25)
    eps = Eps(trained_unet(rng, **config), noise, predicts)
    arrays = inputs(rng, eps.network.config)
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    about = {"network": "UNet", "settings": eps.network.config, "shape": None}
    to_onnx(Pretrained(eps, eps, noise, about), path)
    assert apart(in_onnx(path, arrays), eps(*arrays)) < 1e-4
    to_onnx(eps.network, path)
    assert apart(in_onnx(path, arrays), eps.network(*arrays)) < 1e-4


@pytest.mark.parametrize("name, half", [
    ("mnist", False), ("mnist", True), ("sprites", False), ("sprites", True),
])  # fmt: skip
def test_the_networks_of_the_package_say_the_same_in_onnx(tmp_path, rng, name, half):
    extra("onnx")
    found, path = pretrained(name), tmp_path / "a.onnx"
    to_onnx(found, path, half)
    assert path.stat().st_size < (1.5e6 if half else 3e6)
    config = found.network.network.config
    for N, blocks in ((1, (7, 7)), (3, (4, 5)), (16, (7, 7))):
        arrays = inputs(rng, config, N, blocks)
        assert apart(in_onnx(path, arrays), found.network(*arrays)) < 1e-4


def test_a_guess_of_zeros_is_none_for_its_image_in_onnx(tmp_path, rng):
    extra("onnx")
    unet, path = trained_unet(rng, self_condition=True), tmp_path / "a.onnx"
    to_onnx(unet, path)
    xt, t, context, guess = inputs(rng, unet.config)
    guess[1] = 0
    said, shown = in_onnx(path, (xt, t, context, guess)), unet(xt, t, context, guess)
    blind = unet(xt, t, context)
    assert apart(said[1], blind[1]) < 1e-4 < 1e-2 < apart(said[1], shown[1])
    assert apart(said[[0, 2]], shown[[0, 2]]) < 1e-4


def test_a_twin_that_was_trained_goes_back_to_numpy(rng):
    torch, unet = extra("torch"), trained_unet(rng)
    twin = to_torch(unet)
    state = twin.state_dict()
    assert {name: tuple(w.shape) for name, w in state.items()} == {
        name: w.shape for name, w in unet.named_params().items()
    }
    arrays = inputs(rng, unet.config)
    before, steps = unet(*arrays[:3]), torch.optim.SGD(twin.parameters(), lr=0.1)
    copied = copy.deepcopy(twin)
    in_torch(copied, arrays).square().mean().backward()
    assert all(w.grad is None for w in twin.parameters())
    in_torch(twin, arrays).square().mean().backward()
    steps.step()
    weights = from_torch(twin)
    unet.load(weights)
    assert apart(in_torch(twin, arrays).detach().numpy(), unet(*arrays[:3])) < 1e-4
    assert apart(before, unet(*arrays[:3])) > 1e-3
    with torch.no_grad():
        twin.conv_in.w.zero_()
    assert weights["conv_in.w"].any()  # a copy


@pytest.mark.parametrize("t", [7, np.int64(7), np.array([7, 7, 7])])
def test_a_time_is_one_for_all_or_one_for_each_image(rng, t):
    extra("torch")
    found = pretrained("mnist")
    xt = rng.standard_normal((3, 1, 28, 28), dtype=np.float32)
    said = to_torch(found)(extra("torch").from_numpy(xt), t).detach().numpy()
    assert apart(said, found.network(xt, 7)) < 1e-4


def test_a_file_knows_the_noise_the_shape_and_the_classes(tmp_path):
    onnx, found = extra("onnx"), pretrained("sprites")
    to_onnx(found, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    about = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert about["alpha_bar"] == found.schedule.alpha_bar.tolist()
    assert tuple(about["shape"]) == found.shape and about["classes"] == found.classes
    assert [value.name for value in model.graph.output] == ["eps_hat"]
    to_onnx(found.network.network, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    assert [value.name for value in model.graph.output] == ["output"]
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    for name, w in found.network.named_params().items():
        np.testing.assert_array_equal(weights[name], w)


class Doubled(Linear):
    """A layer that no engine has heard of."""


def test_an_unknown_layer_is_named_and_writes_nothing(tmp_path, rng):
    extra("torch"), extra("onnx")
    unet, path = trained_unet(rng), tmp_path / "a.onnx"
    unet.middle[0].modulate = Doubled(8, 16, rng=rng)
    for export in (to_torch, lambda found: to_onnx(found, path)):
        with pytest.raises(ValueError, match="found has a Doubled, expected layers of"):
            export(unet)
        with pytest.raises(ValueError, match="found is MLP.*, expected a UNet or a"):
            export(MLP(rng=rng))
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_named_before_any_work(tmp_path, rng):
    unet = trained_unet(rng)
    for path in (tmp_path, tmp_path / "none" / "a.onnx"):
        with pytest.raises(ValueError, match="path is .*, expected a"):
            to_onnx(unet, path)


def test_a_full_disk_leaves_the_old_file(tmp_path, rng, monkeypatch):
    extra("onnx")
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        to_onnx(trained_unet(rng), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_without_an_extra_the_error_says_how_to_get_it(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    unet = trained_unet(np.random.default_rng(0))
    words = rf"{name} is not installed: pip install 'nanodiff\[{name}\]'"
    with pytest.raises(ImportError, match=words):
        to_torch(unet) if name == "torch" else to_onnx(unet, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_bad_input_is_named(rng):
    torch = extra("torch")
    twin = to_torch(trained_unet(rng, context_features=0))
    xt = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="context is given, expected None"):
        twin(xt, 3, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="x0_hat is given, expected None"):
        twin(xt, 3, None, xt)
    with pytest.raises(ValueError, match="twin is 7, expected a module"):
        from_torch(7)


# ------------------------------------------------------- the scripts that build on them
@pytest.mark.parametrize("words", [
    "", "--optimizer adam", "--predicts eps --focus 0.5 2 9 --no-self-condition",
    "--predicts flow --schedule straight --min-snr 5 --attention 2",
])  # fmt: skip
def test_twenty_steps_in_torch_are_those_in_numpy(tmp_path, monkeypatch, words):
    extra("torch")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import train_mnist
    import train_on_gpu

    more = ["--quick", "--out", str(tmp_path), *words.split()]
    monkeypatch.setattr(sys, "argv", ["train_on_gpu.py", *more])
    args = train_mnist.options()
    args.recipe = replace(args.recipe, steps=20)
    numpy, torch = train_mnist.begin(args), train_mnist.begin(args)
    images, labels = data.mnist(n=64)
    context = data.one_hot(labels)
    learner = train_on_gpu.Learner(torch, "cpu")
    for _ in train_on_gpu.learn(torch, learner, images, context):
        pass
    learner.fetch()
    numpy.learn(images, context, tmp_path / "numpy.npz", 100)
    np.testing.assert_allclose(torch.losses, numpy.losses, rtol=1e-5)
    assert torch.rng.bit_generator.state == numpy.rng.bit_generator.state
    assert (torch.optimizer.k, torch.ema.k) == (numpy.optimizer.k, numpy.ema.k)
    for mine, theirs in (
        (torch.model.named_params(), numpy.model.named_params()),
        (torch.ema.average, numpy.ema.average),
        (torch.optimizer.m, numpy.optimizer.m), (torch.optimizer.v, numpy.optimizer.v),
    ):  # fmt: skip
        far = sum(np.square(mine[name] - theirs[name]).sum() for name in theirs)
        size = sum(np.square(w).sum() for w in theirs.values())
        assert mine.keys() == theirs.keys() and far < 1e-6 * size
    torch.save(tmp_path / "torch.npz")
    again = type(torch).resume(tmp_path / "torch.npz", steps=22)
    again.learn(images, context, tmp_path / "torch.npz", 100)
    assert len(again.losses) == 22 and again.losses[:20] == torch.losses


def test_ctrl_c_in_torch_saves_the_last_step_and_the_run_goes_on(
    tmp_path, monkeypatch, capsys
):
    extra("torch")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import train_on_gpu

    def run(out, *more):
        words = ["train_on_gpu.py", "--quick", "--every", "100", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [*words, *more])
        train_on_gpu.main()
        return checkpoint.load(out / "checkpoint.npz")

    monkeypatch.setattr(train_on_gpu, "draw", lambda *given: None)
    whole, part = run(tmp_path / "whole"), tmp_path / "part"
    step = train_on_gpu.Learner.step

    def stops(learner, *given):
        if len(learner.run.losses) == 4:  # within the fifth step
            signal.raise_signal(signal.SIGINT)
        return step(learner, *given)

    monkeypatch.setattr(train_on_gpu.Learner, "step", stops)
    with pytest.raises(SystemExit) as end:
        run(part)
    assert end.value.code == 128 + signal.SIGINT
    assert "after step 5; go on with --resume:" in capsys.readouterr().err
    assert checkpoint.load(part / "checkpoint.npz").step == 5
    again = run(part, "--resume")
    assert again.config["losses"] == whole.config["losses"]
    for name, w in whole.params.items():
        np.testing.assert_array_equal(again.params[name], w)
        np.testing.assert_array_equal(again.average[name], whole.average[name])


def test_the_benchmarks_compare_before_they_time(monkeypatch):
    extra("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import peer

    for dtype in (np.float32, np.float64):
        name, worst = peer.compare(dtype, N=2)
        assert 0 < worst <= peer.TOLERANCE[dtype]
    twin = to_torch

    def wrong(unet):
        made = twin(unet)
        made.get_parameter("conv_in.b").data += 1e-2
        return made

    monkeypatch.setattr(peer, "to_torch", wrong)
    with pytest.raises(AssertionError, match="differs by"):
        peer.compare(np.float32, N=2)
