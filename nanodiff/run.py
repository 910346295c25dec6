"""A training that can be stopped at any step and taken up again, bit for bit.

It adds to `train` what a long one needs: a checkpoint, a progress bar, Ctrl-C.
"""

import signal
import zlib
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
from tqdm.auto import tqdm

from nanodiff import checkpoint
from nanodiff.optim import EMA, OPTIMIZERS
from nanodiff.schedule import named
from nanodiff.self_conditioning import WithFirstGuess
from nanodiff.train import Recipe, check_data, train
from nanodiff.trained import build, settings
from nanodiff.unet import UNet


class Run:
    """A network with its optimiser, averaged weights, random numbers and losses so far.

    recipe: a `Recipe`. T: steps of noise. schedule: one of `schedule.NAMED`, with its
    schedule_parameters, a dict such as {"offset": 0.02} for cosine. seed: of the
    weights, the batches and the noise. network: its class, `UNet` or another with the
    same interface, which is called as network(**options, rng=rng). shape: of a picture,
    (C, H, W), and classes: names, are kept with it, for `sample`. Raises ValueError as
    `schedule.named` does.

    >>> run = Run(Recipe(steps=2, batch=1, warmup=0), T=25, seed=0, channels=[8, 8])
    >>> run.trained().schedule.T
    25
    """

    def __init__(
        self, recipe, T, schedule="linear", schedule_parameters=None, *, seed,
        network=UNet, shape=None, classes=None, **options,
    ):  # fmt: skip
        self.recipe, self.schedule_name = recipe, schedule
        parameters = schedule_parameters or {}
        self.schedule = named(schedule, T, **parameters)
        self.schedule_parameters = {name: float(v) for name, v in parameters.items()}
        self.losses, self.data, self.rng = [], None, np.random.default_rng(seed)
        self.held_out = []  # (step, loss) of pictures that it does not learn from
        self.shape = None if shape is None else tuple(map(int, shape))
        self.classes = None if classes is None else [str(name) for name in classes]
        self.model = network(**options, rng=self.rng)
        self.options = getattr(self.model, "config", options)
        params = self.model.named_params()
        self.optimizer, self.ema = OPTIMIZERS[recipe.optimizer](params), EMA(params)

    @classmethod
    def of_pictures(
        cls, images, names, steps=2000, batch=32, lr=2e-3, T=500, *, seed, **options
    ):
        """Return a new run that fits pictures, with settings that work.

        images: (n, C, H, W) and names, as `data.pictures` returns them. It predicts v
        and is moved by Muon. options: of the UNet, such as channels. Raises ValueError
        if there are no pictures, or if their sides cannot be halved as often as the
        network does.
        """
        check_data(images, None)
        halved = 2 ** (len(options.get("channels", (32, 64, 64))) - 1)
        if np.ndim(images) != 4 or any(side % halved for side in images.shape[2:]):
            raise ValueError(
                f"images has shape {images.shape}, expected (n, C, H, W) with H and W "
                f"divisible by {halved}"
            )
        recipe = Recipe(
            steps, batch, lr, min(50, steps // 2), predicts="v", optimizer="muon"
        )
        options |= {"image_channels": images.shape[1], "context_features": len(names)}
        options |= {"shape": images.shape[1:], "classes": names}
        return cls(recipe, T, seed=seed, **options)

    @classmethod
    def beginning_with(cls, found, recipe, *, seed, **more):
        """Return a new run of the network, noise and weights of a `Pretrained`.

        more: settings of the UNet that are to grow: `middle`, `self_condition`. What is
        new changes nothing at first. Raises ValueError if the network has what is not
        wanted, if the recipe predicts something else than the network does, or if what
        the network was trained with is not known.
        """
        kind = type(found.network.network)
        *noise, network, options, before = settings(found.about, kind)
        if recipe.predicts != before["predicts"]:
            raise ValueError(
                f"recipe predicts {recipe.predicts!r}, expected what the network was "
                f"trained for, {before['predicts']!r}"
            )
        about = {key: found.about.get(key) for key in ("shape", "classes")}
        options = options | about | more
        run = cls(recipe, *noise, seed=seed, network=network, **options)
        params = run.model.named_params()
        run.model.load(params | found.network.named_params())
        run.ema = EMA(params)  # of these weights, not of the random ones
        return run

    @classmethod
    def resume(cls, path, network=None):
        """Return the run that was saved in a checkpoint.

        network: its class, if it is none of `trained.NETWORKS`. Raises
        FileNotFoundError for a missing one, and ValueError for one that is damaged or
        that `save` did not write.
        """
        found = checkpoint.load(path)
        *noise, network, options, recipe = settings(found.config, network)
        about = {key: found.config.get(key) for key in ("shape", "classes")}
        options = options | about
        run = cls(Recipe(**recipe), *noise, seed=0, network=network, **options)
        checkpoint.restore(found, **run._parts())
        run.losses, run.data = found.config["losses"], found.config.get("data")
        run.held_out = found.config.get("held_out", [])
        return run

    def save(self, path):
        """Write a checkpoint."""
        checkpoint.save(
            path, step=len(self.losses), config=self._config(), **self._parts()
        )

    def trained(self):
        """Return the network with its averaged weights, as `pretrained` does."""
        return build(self.ema.average, self._config(), type(self.model))

    def averaged(self):
        """Return a copy of the network, with its averaged weights."""
        network = type(self.model)(**self.options, rng=np.random.default_rng(0))
        return network.load(self.ema.average)

    def __repr__(self):
        return (
            f"Run({len(self.losses)} of {self.recipe.steps} steps, "
            f"T={self.schedule.T}, {self.schedule_name}, {self.recipe.predicts}, "
            f"{self.model!r})"
        )

    def learn(self, images, context, path, every, draw=lambda run: None):
        """Train to the end of the recipe.

        Every so many steps, and at the end, the run is saved to `path` and draw(run) is
        called. Ctrl-C saves and raises SystemExit; a second one stops at once. images,
        context: as for `train`, which may raise FloatingPointError. Raises ValueError
        if they are not those that the run began with, and as `train.check_data` does.
        """
        check_data(images, context)
        context_bytes = b"" if context is None else context.tobytes()
        data = zlib.crc32(context_bytes, zlib.crc32(images.tobytes()))
        if self.data not in (None, data):
            raise ValueError(
                f"images and context have the checksum {data}, expected those that the "
                f"run began with, {self.data}"
            )
        self.data = data
        loop = train(
            self._learner(), self.schedule, images, context, self.recipe,
            rng=self.rng, optimizer=self.optimizer, ema=self.ema,
            first=len(self.losses),
        )  # fmt: skip
        steps, done = self.recipe.steps, len(self.losses)
        bar = tqdm(loop, "compiling kernels", steps, initial=done, unit="step")
        with _interrupts() as interrupts:
            for step, loss in bar:
                self.losses.append(loss)
                bar.set_description("training", refresh=False)
                speed = (bar.format_dict["rate"] or 0) * self.recipe.batch
                recent = np.mean(self.losses[-100:])
                about = f"loss {recent:.4f}, {speed:.0f} images/s"
                bar.set_postfix_str(about, refresh=False)  # once a step is enough
                if interrupts:
                    self.save(path)
                    raise SystemExit(f"\nsaved {path}; go on with --resume")
                if (step + 1) % every == 0 and step + 1 < steps:
                    self.save(path)
                    draw(self)
        self.save(path)
        draw(self)

    def _learner(self):
        """The network, shown its own guess if it has self-conditioning."""
        if not getattr(self.model, "self_condition", False):
            return self.model
        return WithFirstGuess(self.model, self.schedule, self.recipe.predicts, self.rng)

    def _parts(self):
        return {
            "model": self.model, "optimizer": self.optimizer,
            "ema": self.ema, "rng": self.rng,
        }  # fmt: skip

    def _config(self):
        return {
            "T": self.schedule.T, "schedule": self.schedule_name,
            "schedule_parameters": self.schedule_parameters,
            "network": type(self.model).__name__, "settings": self.options,
            "recipe": asdict(self.recipe), "shape": self.shape, "classes": self.classes,
            "losses": self.losses, "held_out": self.held_out, "data": self.data,
        }  # fmt: skip


@contextmanager
def _interrupts():
    """A list that has the first Ctrl-C, which so takes effect between two steps."""
    caught = []

    def handle(*given):
        if caught:
            signal.default_int_handler(*given)
        caught.append(True)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)
