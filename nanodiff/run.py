"""A training that can be stopped at any step and taken up again, bit for bit.

It adds to `train` what a long one needs: a checkpoint, a progress bar, Ctrl-C.
"""

import tempfile
import warnings
import zlib
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from nanodiff import check, checkpoint, files
from nanodiff.optim import EMA, OPTIMIZERS
from nanodiff.parallel import ALONE
from nanodiff.progress import progress
from nanodiff.schedule import named
from nanodiff.self_conditioning import WithFirstGuess
from nanodiff.signals import Signals
from nanodiff.signals import Stopped as Stopped
from nanodiff.train import Recipe, check_data, train
from nanodiff.trained import Pretrained, a_class, build, described, fit, settings
from nanodiff.unet import UNet


def _generator(seed):
    """A seed's Generator, and the seed itself if it is an integer, else None."""
    if not isinstance(seed, np.random.Generator):
        seed = check.integer("seed", seed, 0, 2**128)
        return np.random.default_rng(seed), seed
    if not isinstance(seed.bit_generator, np.random.PCG64):
        check.refuse("seed", seed, "an integer or a PCG64's Generator")
    return seed, None


class Run:
    """A network with its optimiser, averaged weights, random numbers and losses so far.

    recipe: a `Recipe`. T: steps of noise. schedule: one of `schedule.NAMED`, with its
    schedule_parameters, a dict such as {"offset": 0.02} for cosine. seed: of the
    weights, the batches and the noise. network: its class, `UNet` or another with the
    same interface, which is called as network(**options, rng=rng). shape: of a picture,
    (C, H, W), and classes: names, are kept with it, for `sample`. NumPy's numbers
    become Python's. Raises ValueError as `schedule.named` does and for a seed that is a
    Generator of another kind than `np.random.default_rng` makes, and TypeError for what
    a checkpoint cannot hold.

    >>> run = Run(Recipe(steps=2, batch=1, warmup=0), T=25, seed=0, channels=[8, 8])
    >>> run.trained().schedule.T
    25
    """

    def __init__(
        self, recipe, T, schedule="linear", schedule_parameters=None, *, seed,
        network=UNet, shape=None, classes=None, **options,
    ):  # fmt: skip
        check.instance("recipe", recipe, Recipe)
        self.recipe = replace(recipe, **files.plain(asdict(recipe), "recipe"))
        parameters = {} if schedule_parameters is None else schedule_parameters
        check.instance("schedule_parameters", parameters, dict)
        parameters = files.plain(parameters, "schedule_parameters")
        self.schedule_name = schedule
        self.schedule = named(schedule, T, **parameters)
        self.schedule_parameters = {name: float(v) for name, v in parameters.items()}
        self.losses, self.data, self.saved = [], None, None
        self.rng, self.seed = _generator(seed)
        self.held_out = []  # (step, loss) of pictures that it does not learn from
        self.shape, self.classes = described(shape, classes)
        options = {name: files.plain(value, name) for name, value in options.items()}
        self.model = a_class(network)(**options, rng=self.rng)
        self.options = files.plain(getattr(self.model, "config", options))
        params = self.model.named_params()
        self.optimizer, self.ema = OPTIMIZERS[recipe.optimizer](params), EMA(params)

    @classmethod
    def of_pictures(
        cls, images, names, steps=2000, batch=32, lr=2e-3, T=500, *, seed,
        min_snr=None, **options,
    ):  # fmt: skip
        """Return a new run that fits pictures, with settings that work.

        images: (n, C, H, W) and names, as `data.pictures` returns them. It predicts v
        and is moved by Muon. min_snr: as in `Recipe`. options: of the UNet, such as
        channels. Raises ValueError if there are no pictures, or if their sides cannot
        be halved as often as the network does.
        """
        images, _ = check_data(images, None)
        steps = check.integer("steps", steps, 1)
        if names is None:
            check.refuse("names", names, "a list of names")
        _, names = described(None, names)
        channels = check.integers("channels", options.get("channels", (32, 64, 64)), 1)
        halved = 2 ** (len(channels) - 1)
        if images.ndim != 4 or any(side % halved for side in images.shape[2:]):
            raise ValueError(
                f"images has shape {images.shape}, expected (n, C, H, W) with H and W "
                f"divisible by {halved}"
            )
        recipe = Recipe(
            steps, batch, lr, min(50, steps // 2), predicts="v", optimizer="muon",
            min_snr=min_snr,
        )  # fmt: skip
        options |= {"image_channels": images.shape[1], "context_features": len(names)}
        options |= {"shape": images.shape[1:], "classes": names}
        return cls(recipe, T, seed=seed, **options)

    @classmethod
    def beginning_with(cls, found, recipe, *, seed, **more):
        """Return a new run of the network, noise and weights of a `Pretrained`.

        more: settings of a UNet that are to grow: `middle`, `self_condition`,
        `attention`. What is new changes nothing at first. Raises ValueError if the
        network has what is not wanted, or attention of other heads, if the recipe
        predicts something else than the network does, or if what the network was
        trained with is not known.
        """
        check.instance("found", found, Pretrained)
        kind = type(found.network.network)
        *noise, network, options, before = settings(found.about, kind)
        if check.instance("recipe", recipe, Recipe).predicts != before["predicts"]:
            raise ValueError(
                f"recipe predicts {recipe.predicts!r}, expected what the network was "
                f"trained for, {before['predicts']!r}"
            )
        heads = options.get("attention", 0)
        if heads and more.get("attention", heads) != heads:
            raise ValueError(
                f"attention is {more['attention']}, expected the heads that the "
                f"network has, {heads}"
            )
        about = {key: found.about.get(key) for key in ("shape", "classes")}
        options = options | about | more
        run = cls(recipe, *noise, seed=seed, network=network, **options)
        params = run.model.named_params()
        run.model.load(params | found.network.named_params())
        run.ema = EMA(params)  # of these weights, not of the random ones
        return run

    @classmethod
    def resume(cls, path, network=None, **expected):
        """Return the run that was saved in a checkpoint.

        network: its class, if it is none of `trained.NETWORKS`. expected: settings that
        it should have begun with, by the names of Run, Recipe and the network. More
        `steps` than it had extend it: from here on the learning rate is that of a run
        of so many. Raises FileNotFoundError for a missing file, and ValueError for one
        that is damaged, that `save` did not write, or that began with another setting.
        """
        found = checkpoint.load(path)
        network = None if network is None else a_class(network)
        with files.refusing(f"path is {str(path)!r}, expected a checkpoint of a run"):
            *noise, network, options, recipe = settings(found.config, network)
            fit(network, options, found.params)
            about = {key: found.config.get(key) for key in ("shape", "classes")}
            options = {"network": network, **options, **about}
            run = cls(Recipe(**recipe), *noise, seed=0, **options)
            checkpoint.restore(found, **run._parts())
            run.losses, run.data = found.config["losses"], found.config.get("data")
            run.seed = found.config.get("seed")
            run.held_out = found.config.get("held_out") or []
            run.saved = str(path), found.step
            losses = np.asarray(run.losses)
            if losses.shape != (found.step,) or losses.dtype.kind not in "fi":
                raise ValueError(f"it has not the losses of {found.step} steps")
            if found.step > run.recipe.steps or type(run.data) not in (int, type(None)):
                raise ValueError(f"step is {found.step}, data is {run.data!r:.50}")
            if run.held_out:
                check.series("held_out", run.held_out, ("n", 2))
        run._expect(expected)
        return run

    def _expect(self, settings):
        """Compare with the settings that there are, or extend the run; see `resume`."""
        config = files.plain(self._config())
        config |= config["settings"] | config["recipe"]
        settings = {"steps": self.recipe.steps} | files.plain(settings)
        for name, value in settings.items():
            if name == "seed" and self.seed is None:
                continue  # a run of an earlier version did not keep it
            same = name in config and value == config[name]
            more = name == "steps" and type(value) is int and value > config[name]
            if not (same or more):
                raise ValueError(
                    f"{name} is {value}, expected what the run began with, "
                    f"{config.get(name)}{' or more' * (name == 'steps')}"
                )
        self.recipe = replace(self.recipe, steps=settings["steps"])

    def save(self, path):
        """Write a checkpoint."""
        step = len(self.losses)
        checkpoint.save(path, step=step, config=self._config(), **self._parts())
        self.saved = str(path), step

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

    def learn(
        self, images, context, path, every, draw=lambda run: None, team=ALONE
    ):  # fmt: skip
        """Train to the end of the recipe.

        Every so many steps, and at the end, the run is saved to `path` and draw(run) is
        called. Ctrl-C or SIGTERM saves and raises Stopped, a KeyboardInterrupt; a
        second Ctrl-C stops at once. In other threads than the main one there are no
        signals. images, context: as for `train`. If the loss is not finite it raises
        FloatingPointError and says which save is the last; if there was none, it saves.
        team: the processes that train together, see `parallel`. The first of them saves
        and draws; a signal does not wait for the end of a step, which is lost.

        Raises ValueError, before a step, if they are not those that the run began with,
        if nothing can be written to `path`, if another run is writing there, if the
        processes of a team do not have the same, and as `train.check_data` does. If a
        file cannot be written on the way, because the disk is full, say, it warns and
        goes on; at the end it raises OSError, and the run is saved in the folder of
        temporary files if it can be.
        """
        every = check.integer("every", every, 1)
        check.function("draw", draw, "a function of a run", takes=1)
        check.thing("team", team, "a Team", "rows", "share", "mean", "first")
        images, context = check_data(images, context)
        self._know(images, context)
        alone = files.alone(path) if team.first else nullcontext()
        with alone, Signals(team) as signals:
            team.agree("images and contexts", self.data)
            self._go(images, context, path, every, draw, team, signals)
            if team.first:
                self._keep(path)
            signals.raise_from_now(f"saved {path} after step {len(self.losses)}")
            if team.first:
                draw(self)

    def _go(self, images, context, path, every, draw, team, signals):
        """Train to the end, or until a signal."""
        team.agree("settings and weights", self._checksum())
        numbers = self.rng.bit_generator.state  # after the last step that is done
        try:
            team.busy = team.size == 1
            for step in self._steps(images, context, path, team):
                if signals.caught:
                    break
                if step % every == 0 and step < self.recipe.steps:
                    if team.first:
                        self._try(self.save, path)
                        self._try(draw, self)
                    team.agree("settings and weights", self._checksum())
                numbers = self.rng.bit_generator.state
                team.busy = team.size == 1
                if signals.caught and not team.busy:
                    break
        except Stopped:  # within a step, which has changed no more than these
            self.rng.bit_generator.state = numbers
        team.busy = True

    def _checksum(self):
        """A number of the settings, the losses and the weights."""
        config = self._config() | {"held_out": None}  # which is the first process's
        found = zlib.crc32(repr(config).encode())
        for w in self.model.named_params().values():
            found = zlib.crc32(np.ascontiguousarray(w), found)
        return found

    def _know(self, images, context):
        """Raise ValueError if the data are not those that the run began with."""
        context_bytes = b"" if context is None else context.tobytes()
        data = zlib.crc32(context_bytes, zlib.crc32(images.tobytes()))
        if self.data not in (None, data):
            raise ValueError(
                f"images and context have the checksum {data}, expected those that the "
                f"run began with, {self.data}"
            )
        self.data = data

    def _steps(self, images, context, path, team):
        """Train, yielding how many steps are done after each."""
        try:
            yield from self._shown(images, context, team)
        except FloatingPointError as error:
            if not team.first:
                raise
            params = self.model.named_params().values()
            if self.saved is None and all(np.isfinite(w).all() for w in params):
                self._keep(path)
            told = "nothing is saved, since the weights are not finite"
            if self.saved is not None:
                told = "the last save, {!r}, is of step {}".format(*self.saved)
            raise FloatingPointError(f"{error}; {told}") from error

    def _shown(self, images, context, team):
        """Train, yielding how many steps are done after each, and show it."""
        steps, done = self.recipe.steps, len(self.losses)
        loop = train(
            self._learner(), self.schedule, images, context, self.recipe,
            rng=self.rng, optimizer=self.optimizer, ema=self.ema, first=done, team=team,
        )  # fmt: skip
        name = "compiling kernels"
        with progress(loop, name, steps, initial=done, unit="step") as bar:
            for step, loss in bar:
                self.losses.append(loss)
                bar.set_description("training", refresh=False)
                speed = (bar.format_dict["rate"] or 0) * self.recipe.batch
                recent = np.mean(self.losses[-100:])
                words = f"loss {recent:.4f}, {speed:.0f} images/s"
                bar.set_postfix_str(words, refresh=False)
                yield step + 1

    def _try(self, write, to):
        """Write something that the run can do without until it is at its end."""
        try:
            write(to)
        except OSError as error:
            message = f"after step {len(self.losses)}: {error}; the run goes on"
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def _keep(self, path):
        """Save the run, in the folder of temporary files if `path` fails."""
        try:
            self.save(path)
        except OSError as error:
            words = error.strerror
            with suppress(OSError):
                spare = Path(tempfile.mkdtemp(prefix="nanodiff-")) / Path(path).name
                self.save(spare)
                words += f"; the run is saved in {str(spare)!r}, not in"
            raise OSError(error.errno, words, str(path)) from error

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
            "seed": self.seed,
        }  # fmt: skip
