"""The method: anybody's loop, run with our model and our noise, and measured.

The model says x0_hat = 0, but for one number of the batch at one call; the noise is 0,
but for one number at one draw. So each number of the batch answers one question, and
    noise[m, k]   what draw k has become at call m
    signal[m, n]  what the x0_hat said at call n has become at call m
follow exactly; the last row is the output. No Monte Carlo, no clip that acts, no
knowledge of the code.
"""

import dataclasses
import itertools
import sys
import warnings

import numpy as np
from numpy.random import default_rng  # the real one, while a run has another

from nanodiff.laws.randomness import Draws, replaced

SAID = 0.5  # the x0_hat of an impulse: inside [-1, 1], so that no clip acts
NOISELESS = 1e-6  # below this b, x_t is the data and eps says nothing

ENCODE = {
    "eps": lambda x0, eps, a, b: eps,
    "x0": lambda x0, eps, a, b: x0,
    "v": lambda x0, eps, a, b: a * eps - b * x0,
    "flow": lambda x0, eps, a, b: eps - x0,
    "score": lambda x0, eps, a, b: -eps / b if b > 0 else 0 * eps,
}


def encoder(predicts):
    """The function from (x0, eps, a, b) to what a model of this kind says."""
    if not callable(predicts) and predicts not in ENCODE:
        raise ValueError(f"predicts is {predicts!r}, expected one of {list(ENCODE)}")
    return predicts if callable(predicts) else ENCODE[predicts]


class Model:
    """What the loop gets as its network, and what it saw.

    rule(n, x, a, b) is its x0_hat at call n; without a rule it says anything, and needs
    no levels. size: numbers in one x_t, of which the first `keep` are kept.
    """

    device, dtype, training = "cpu", None, False

    def __init__(self, draws, encode=None, level=None, rule=None, size=None, keep=None):
        super().__init__()
        self.draws, self.encode, self.level, self.rule = draws, encode, level, rule
        self.size, self.keep, self.before = size, keep, None
        self.times, self.x = [], []  # of each call, and of the output
        self.calls, self.seen = 0, ()  # with those that ask twice; the shape of x_t

    def __call__(self, *args, **kwargs):
        x, t, *_ = [*args, *kwargs.values()]
        if np.size(as_numpy(t)) > np.size(as_numpy(x)):
            x, t = t, x  # model(t, x)
        flat, time = as_numpy(x).reshape(-1), as_numpy(t).reshape(-1)
        if not len(time) or not np.allclose(time, time[0]):
            raise ValueError(f"t is {time[:5]}, expected one time for the whole batch")
        size, self.seen = self.size or flat.size, self.seen or tuple(x.shape)
        if flat.size % size:
            shape = f"{tuple(x.shape)}, {flat.size} numbers"
            raise ValueError(f"xt has shape {shape}, expected a multiple of {size}")
        said = self._says(float(time[0]), flat[:size])
        # a doubled batch is told the same twice
        return like(x, np.tile(said, flat.size // size).reshape(x.shape))

    def _says(self, t, x):
        self.calls += 1
        if self.times[-1:] != [t] or not np.array_equal(x, self.before):
            self.times.append(t)  # guidance may ask twice about the same
            self.before = x.copy()
            self.x.append(self.before[: self.keep])
            self.draws.calls = len(self.times)
        n = len(self.times) - 1
        if self.rule is None:
            return 0.1 * default_rng(n).standard_normal(x.size)
        a, b = self.level(t)
        if b <= NOISELESS:
            return self.encode(x / a, 0 * x, a, b)
        x0 = self.rule(n, x, a, b)
        return self.encode(x0, (x - a * x0) / b, a, b)

    def _itself(self, *args, **kwargs):  # what loops ask of a network besides
        return self

    eval = train = to = cpu = cuda = half = float = double = requires_grad_ = _itself

    def parameters(self, *args, **kwargs):
        torch = sys.modules.get("torch")
        yield np.zeros(1, np.float32) if torch is None else torch.zeros(1)


def silent(n, x, a, b):
    """The rule of a model that says x0_hat = 0."""
    return 0 * x


def play(sample, shape, draws, undo=None, **options):
    """Run the loop once and return its `Model`, with the output as the last x."""
    kind = Model
    if (torch := sys.modules.get("torch")) is not None:  # so that modules may hold it
        parts = {"dtype": torch.float32, "device": torch.device("cpu")}
        kind = type("Model", (Model, torch.nn.Module), parts)
    model = kind(draws, **options)
    with replaced(draws, sample), np.errstate(all="ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = last_array(sample(model, shape))
    if not model.times:
        raise ValueError("the model was never called")
    out = as_numpy(raw) if undo is None else as_numpy(undo(as_numpy(raw)))
    model.x.append(out.reshape(-1)[: model.keep])
    model.shape, model.whole = out.shape, "int" in str(raw.dtype)
    return model


def last_array(made):
    """The output: of a loop that yields, or returns all its steps, the last one."""
    if hasattr(made, "__next__"):
        *_, made = made
    if isinstance(made, dict):
        made = list(made.values())
    if isinstance(made, tuple | list):  # (x_0, all the steps), (t, x_t), [x_T, .., x_0]
        arrays = [m for m in made if getattr(m, "ndim", 0)] or [None]
        made = arrays[0] if isinstance(made, tuple) else arrays[-1]
    if not hasattr(made, "dtype"):
        raise ValueError(f"sample returned {type(made).__name__}, expected an array")
    return made


def as_numpy(x):
    """A float64 array of a NumPy array, a tensor or a number."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().double().numpy()
    return np.asarray(x, np.float64)


def like(x, array):
    """The array as what x is: a tensor, or an array of x's dtype."""
    if hasattr(x, "detach"):
        torch = sys.modules["torch"]
        dtype = x.dtype if x.dtype.is_floating_point else torch.float32
        return torch.from_numpy(np.ascontiguousarray(array)).to(x.device, dtype)
    kind = x.dtype if np.issubdtype(x.dtype, np.floating) else np.float32
    return array.astype(kind)


def arrays_or_tensors():
    """Functions of an array that give what other code may take: it, or a tensor."""
    torch = sys.modules.get("torch")
    return [np.asarray] + ([] if torch is None else [torch.as_tensor])


@dataclasses.dataclass
class Measured:
    """The loop as one linear map of its noise and of what the model said."""

    noise: np.ndarray  # (calls + 1, draws)
    signal: np.ndarray  # (calls + 1, calls)
    level: np.ndarray  # (calls + 1,) where no noise and no x0_hat is
    uniform: np.ndarray  # (draws,)
    marks: list  # (draws,) equal after equal seeds

    @property
    def variance(self):
        return np.where(self.uniform, 1 / 12, 1.0)

    def moments(self, levels, mean, std):
        """Mean and std of the output for data N(mean, std^2), exactly.

        The best x0_hat is k (x_t - a mean) + mean with k = a std^2 / (a^2 std^2 + b^2),
        so the run is x = noise z + signal (k x + (1 - k a) mean), solved backwards.
        """
        a, b = levels.T
        k = a * std**2 / np.maximum(a**2 * std**2 + b**2, 1e-30)
        # what each x_t adds to the output, through all later outputs of the model
        y = self.signal[-1] * k
        for n in range(len(a) - 1, 0, -1):
            y[:n] += y[n] * self.signal[n, :n] * k[:n]
        given = self.level + self.signal @ ((1 - k * a) * mean)
        weights = self.noise[-1] + y @ self.noise[:-1]
        var = np.sum(weights**2 * self.variance)
        return float(given[-1] + y @ given[:-1]), float(np.sqrt(var))


class Unsteady(ValueError):
    """The loop called the model at other times in another run."""


class Loop:
    """A sampler with its options, ready to be run: the first run learns its shapes."""

    def __init__(self, sample, encode, undo=None, image=None):
        self.sample, self.encode, self.undo = sample, encode, undo
        self._learn(3, image or (1, 2, 2))  # with noise, and any output of the model
        if self.first.shape[:1] == (3,) and self.first.seen[0] == 1:
            # one image after the other: so one large image must answer all questions
            self._learn(1, image or (1, 48, 48))
        self.times, self.row = self.first.times, self.first.seen[1:]
        self.free = self.first.shape[:1] == (3,)  # does it make as many as one asks?
        self.rows = self.first.shape[0] if self.first.shape else 1
        self.numbers = max(int(np.prod(self.row)), 1)  # of one image
        each = [call for shape, call, _ in self.log if shape == self.row]
        runs = [len(list(same)) for _, same in itertools.groupby(each)]
        # does it draw for one image after the other?
        self.grouped = bool(each) and all(n % self.rows == 0 for n in runs)

    def _learn(self, rows, image):
        draws, self.image = Draws(other=default_rng(0).standard_normal), tuple(image)
        self.first = play(self.sample, (rows, *image), draws, self.undo)
        self.log = draws.log

    def play(self, level, rule, fill=None, rows=None, other=np.zeros, keep=None):
        """One run and its draws, with rows images, or with as many as the loop makes.

        rule(n, x, a, b) is x0_hat at call n, fill(k) the k-th draw.
        """
        rows = rows if self.free and rows else self.rows
        size, shape = rows * self.numbers, (rows, *self.image)
        draws = Draws(size, fill, self.row if self.grouped else None, other)
        how = {"encode": self.encode, "level": level, "rule": rule, "size": size}
        run = play(self.sample, shape, draws, self.undo, keep=keep, **how)
        if run.times != self.times:
            raise Unsteady(f"{len(run.times)} calls, {len(self.times)} at first")
        return run, draws

    def measure(self, level):
        """Put one impulse into each draw and each call; return `Measured`."""
        size = self.rows * self.numbers

        def varied(k, *_):  # so that no two calls see the same
            return np.full(size, SAID * np.cos(k))

        _, draws = self.play(level, varied, varied)
        N, K = len(self.times), len(draws.slots)
        rows = max(3, -(-(N + K + 2) // self.numbers)) if self.free else self.rows
        room = rows * self.numbers - 2  # the first stays idle, the last never repeats
        if room < 1:
            raise ValueError(f"x_t is {room + 2} numbers, expected at least 3")
        answers = np.empty((N + 1, N + K))
        for start in range(0, N + K, room):
            count = min(room, N + K - start)

            def at(k, value, mark, start=start, count=count):
                flat = np.append(np.zeros(room + 1), mark)
                if start <= k < start + count:
                    flat[1 + k - start] = value
                return flat

            def rule(n, x, a, b, at=at):
                return at(K + n, SAID, 0.0)

            def fill(k, at=at):
                return at(k, 1.0, np.cos(k))

            x = np.array(self.play(level, rule, fill, rows, keep=1 + count)[0].x)
            answers[:, start : start + count] = x[:, 1:] - x[:, :1]
        uniform, marks = zip(*draws.slots, strict=True) if K else ((), ())
        noise, signal = answers[:, :K], answers[:, K:] / SAID
        return Measured(noise, signal, x[:, 0], np.array(uniform, bool), list(marks))

    def misfit(self, level, measured, size, said):
        """How far a run with noise of `size` and x0_hat up to `said` is from linear.

        Returns one number a call, and one for the output, in units of the noise.
        """
        rng, rows = default_rng(0), 3 if self.free else self.rows
        N, K = measured.signal.shape[1], measured.noise.shape[1]
        z = size * rng.standard_normal((K, rows * self.numbers))
        x0 = said * (2 * rng.random((N, rows * self.numbers)) - 1)
        run, _ = self.play(level, lambda n, x, a, b: x0[n], lambda k: z[k], rows)
        want = measured.noise @ z + measured.signal @ x0 + measured.level[:, None]
        scale = np.maximum(1.0, np.sqrt(np.square(measured.noise).sum(1)))
        return np.abs(np.array(run.x) - want).max(1) / scale
