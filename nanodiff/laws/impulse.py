"""The method: one run of anybody's loop, with our model and our noise, measured.

The model says x0_hat = 0, but for one number of the batch at one call; the noise is 0,
but for one number at one draw. So each number of the batch answers one question, and
    noise[m, k]   what draw k has become at call m
    signal[m, n]  what the x0_hat said at call n has become at call m
follow exactly; the last row is the output. A loop that calls the model once a step has
    x_s = c0 x0_hat + ce eps_hat + sigma z         x_t = a x0_hat + b eps_hat
three numbers a step, which are read off these rows. No Monte Carlo, no clip that acts,
no knowledge of the code.
"""

import dataclasses
import itertools
import sys
import warnings

import numpy as np
from numpy.random import default_rng  # the real one, while a run has another

from nanodiff.laws.randomness import Draws, Kept, replaced

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


@dataclasses.dataclass
class Run:
    """One run of a loop, seen from the model: numbers of x_t at each call."""

    times: list
    x: list  # at each call, the first `keep` numbers of x_t; then of the output
    calls: int
    dtype: str
    whole: bool  # is the output made of integers?
    shape: tuple  # of the output
    seen: tuple  # the shape that the model saw first


class Model:
    """What the loop gets as its network. `rule(n, x, a, b)` is its x0_hat at call n."""

    def __init__(self, level, encode, rule, draws, size=None, keep=None):
        super().__init__()
        self._level, self._encode, self._rule = level, encode, rule
        self._draws, self._size, self._keep = draws, size, keep
        self._times, self._x, self._calls, self._before = [], [], 0, None
        self._dtype, self._seen = "", None
        self.training = False

    def __call__(self, *args, **kwargs):
        x, t, *_ = [*args, *kwargs.values()]
        if np.size(as_numpy(t)) > np.size(as_numpy(x)):
            x, t = t, x  # model(t, x)
        flat, time = as_numpy(x).reshape(-1), one_time(t)
        if self._seen is None:
            self._seen, self._dtype = tuple(x.shape), str(x.dtype)
        if self._rule is None:
            self._visit(time, flat)
            anything = default_rng(self._calls).standard_normal(x.shape)
            return like(x, 0.1 * anything)
        if len(flat) % self._size:
            raise ValueError(
                f"the model was called with {tuple(x.shape)}, {len(flat)} numbers, "
                f"expected a multiple of {self._size}"
            )
        mine = flat[: self._size]  # a doubled batch says the same twice
        self._visit(time, mine)
        a, b = self._level(time)
        x0 = self._rule(len(self._times) - 1, mine, a, b)
        quiet = b <= NOISELESS
        eps = 0 * mine if quiet else (mine - a * x0) / b
        said = self._encode(mine / a if quiet else x0, eps, a, b)
        return like(x, np.tile(said, len(flat) // self._size).reshape(x.shape))

    def _visit(self, time, x):
        self._calls += 1
        if self._times and self._times[-1] == time and np.array_equal(x, self._before):
            return  # asked twice about the same, as guidance does
        self._times.append(time)
        self._before = x.copy()
        self._x.append(self._before[: self._keep])
        self._draws.calls = len(self._times)

    # what loops ask of a network besides
    def _itself(self, *args, **kwargs):
        return self

    eval = train = to = cpu = cuda = half = float = double = requires_grad_ = _itself
    device, dtype = "cpu", None

    def parameters(self, *args, **kwargs):
        torch = sys.modules.get("torch")
        yield np.zeros(1, np.float32) if torch is None else torch.zeros(1)


def play(sample, shape, level, encode, rule, draws, undo=None, size=None, keep=None):
    """Run the loop once and return its `Run`."""
    kind = Model
    if (torch := sys.modules.get("torch")) is not None:  # so that modules may hold it
        kind = type("Model", (Model, torch.nn.Module), {})
    model = kind(level, encode, rule, draws, size, keep)
    if torch is not None:
        model.dtype, model.device = torch.float32, torch.device("cpu")
    with replaced(draws, sample), np.errstate(all="ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = last_array(sample(model, shape))
    if not model._times:
        raise ValueError("the model was never called")
    out = as_numpy(raw)
    if undo is not None:
        out = np.asarray(undo(out), np.float64)
    whole = "int" in str(raw.dtype)
    x = [*model._x, out.reshape(-1)[:keep]]
    return Run(
        model._times, x, model._calls, model._dtype, whole, out.shape, model._seen
    )


def last_array(made):
    """The output: of a loop that yields, or returns all its steps, the last one."""
    if hasattr(made, "__next__"):
        *_, made = made
    if isinstance(made, dict):
        made = list(made.values())
    if isinstance(made, tuple | list):
        arrays = [m for m in made if getattr(m, "ndim", 0)]
        if not arrays:
            raise ValueError("sample returned no array, expected x_0")
        # (x_0, all the steps), or (t, x_t), or [x_T, ..., x_0]
        return arrays[0] if isinstance(made, tuple) else arrays[-1]
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


def one_time(t):
    """The time in what the model is called with: an int, (N,), (N, 1), ..."""
    t = as_numpy(t).reshape(-1)
    if not len(t) or not np.allclose(t, t[0]):
        raise ValueError(f"t is {t[:5]}, expected one time for the whole batch")
    return float(t[0])


@dataclasses.dataclass
class Measured:
    """The loop as one linear map of its noise and of what the model said."""

    times: list
    noise: np.ndarray  # (calls + 1, draws)
    signal: np.ndarray  # (calls + 1, calls)
    level: np.ndarray  # (calls + 1,) where no noise and no x0_hat is
    variance: np.ndarray  # (draws,) 1, or 1/12 of a uniform number
    uniform: np.ndarray  # (draws,)
    places: list  # (draws,) the seed and place of each draw, if they are known
    whole: bool

    def moments(self, levels, mean, std):
        """Mean and std of the output for data N(mean, std^2), exactly.

        The best x0_hat is k (x_t - a mean) + mean with k = a std^2 / (a^2 std^2 + b^2),
        so the run is x = noise z + signal (k x + (1 - k a) mean), solved backwards.
        """
        a, b = levels.T
        k = a * std**2 / np.maximum(a**2 * std**2 + b**2, 1e-30)
        N = len(a)
        # what each x_t adds to the output, through all later outputs of the model
        y = self.signal[N] * k
        for n in range(N - 1, 0, -1):
            y[:n] += y[n] * self.signal[n, :n] * k[:n]
        given = self.level + self.signal @ ((1 - k * a) * mean)
        weights = self.noise[N] + y @ self.noise[:N]
        var = np.sum(weights**2 * self.variance)
        return float(given[N] + y @ given[:N]), float(np.sqrt(var))


class Loop:
    """A sampler with its options, ready to be run: the first run learns its shapes."""

    def __init__(self, sample, encode, undo=None, image=None):
        self.sample, self.encode, self.undo = sample, encode, undo
        draws, self.image = self._first(3, image or (1, 2, 2))
        if self.first.shape[:1] == (3,) and self.first.seen[0] == 1:
            # one image after the other: so one large image must answer all questions
            draws, self.image = self._first(1, image or (1, 48, 48))
        first = self.first
        self.free = first.shape[:1] == (3,)
        rows = first.shape[0] if first.shape else 1
        self.row = first.seen[1:]  # the shape of one image, as the model sees it
        self.rows = rows
        self.log = draws.log
        self.grouped = self._is_grouped()

    def _first(self, rows, image):
        """Learn the times, the draws and the shapes, with noise and any output."""
        draws = Draws(odd=default_rng(0).standard_normal)
        shape = (rows, *image)
        self.first = play(self.sample, shape, None, None, None, draws, self.undo)
        return draws, tuple(image)

    @property
    def numbers(self):
        return max(int(np.prod(self.row)), 1)

    def _is_grouped(self):
        """Does the loop draw for one image after the other?"""
        each = [call for shape, call, *_ in self.log if shape == self.row]
        count = [len(list(same)) for _, same in itertools.groupby(each)]
        return bool(each) and all(n % self.rows == 0 for n in count)

    def play(self, level, rule, fill, rows=None, odd=0.0, keep=None):
        """One run with rows images, or with as many as the loop makes itself."""
        rows = rows if self.free and rows else self.rows
        size = rows * self.numbers
        draws = Draws(size, fill, self.row if self.grouped else None, odd)
        run = play(
            self.sample,
            (rows, *self.image),
            level,
            self.encode,
            rule,
            draws,
            self.undo,
            size,
            keep,
        )
        if run.times != self.first.times:
            raise Unsteady(f"{len(run.times)} calls, {len(self.first.times)} at first")
        return run, draws

    def slots(self):
        """(calls before it, uniform?, place) of each draw of as many numbers as x_t."""
        size = self.rows * self.numbers
        draws = Draws(size, None, self.row if self.grouped else None)
        for shape, draws.calls, uniform, place in self.log:
            draws.array(shape, uniform, Kept(place))
        return draws.slots

    def odd_draws(self):
        """Shapes of draws that are not one number for each number of x_t."""
        size, row = self.rows * self.numbers, self.row if self.grouped else None
        return [
            s
            for s, *_ in self.log
            if s != row and (not np.prod(s) or np.prod(s) % size)
        ]

    def measure(self, level):
        """Put one impulse into each draw and each call; return `Measured`."""
        slots = self.slots()
        N, K = len(self.first.times), len(slots)
        wanted = N + K
        rows = max(3, -(-(wanted + 2) // self.numbers))
        size = (rows if self.free else self.rows) * self.numbers
        room = size - 2  # number 0 stays idle, and the last keeps every x_t different
        if room < 1:
            raise ValueError(f"x_t is {size} numbers, expected at least 3")
        answers = np.empty((N + 1, wanted))
        for start in range(0, wanted, room):
            count = min(room, wanted - start)

            def at(k, value, mark=0.0, start=start, count=count):
                flat = np.zeros(size)
                flat[-1] = mark
                if start <= k < start + count:
                    flat[1 + k - start] = value
                return flat

            run, _ = self.play(
                level,
                lambda n, x, a, b, at=at: at(K + n, SAID),
                lambda k, at=at: at(k, 1.0, mark=np.cos(k)),
                rows,
                keep=1 + count,
            )
            x = np.array(run.x)
            answers[:, start : start + count] = x[:, 1:] - x[:, :1]
        uniform = np.array([u for _, u, _ in slots], bool)
        return Measured(
            self.first.times,
            answers[:, :K],
            answers[:, K:] / SAID,
            x[:, 0],
            np.where(uniform, 1 / 12, 1.0),
            uniform,
            [place for *_, place in slots],
            run.whole,
        )

    def misfit(self, level, measured, size, said):
        """How far a run with noise of `size` and x0_hat up to `said` is from linear.

        Returns one number a call, and one for the output, in units of the noise.
        """
        rng = default_rng(0)
        N, K = measured.signal.shape[1], measured.noise.shape[1]
        rows = 3 if self.free else self.rows
        E = rows * self.numbers
        z = size * rng.standard_normal((K, E))
        x0 = said * (2 * rng.random((N, E)) - 1)
        run, _ = self.play(level, lambda n, x, a, b: x0[n], lambda k: z[k], rows)
        want = measured.noise @ z + measured.signal @ x0 + measured.level[:, None]
        scale = np.maximum(1.0, np.sqrt(np.square(measured.noise).sum(1)))
        return np.abs(np.array(run.x) - want).max(1) / scale


class Unsteady(ValueError):
    """The loop called the model at other times in another run."""
