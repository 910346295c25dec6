"""Self-conditioning: a network is shown its own guess of the data.

    sampling   output = network(x_t, t, context, the x0_hat of the call before)
    training   in half of the steps the network is asked twice about the same x_t, the
               second time as network(x_t, t, context, x0_hat), with its first guess

Having seen a guess, it says more than at first sight, and sampling takes no further
call. Chen, Zhang, Hinton 2022, arXiv 2208.04202, Algorithms 1 and 2. Two wrappers turn
such a network into what samplers, guidance and the training loop know.

Shapes: xt, x0_hat are equal, (N, ...); t an int or (N,); context (N, features).
"""

import threading

import numpy as np

from nanodiff import check
from nanodiff.prediction import KINDS, split
from nanodiff.schedule import at


class WithLastGuess:
    """A network for samplers, model(xt, t, context): it remembers its last guess.

    network: a callable (xt, t, context, x0_hat), where x0_hat may be None. It is shown
    the x0_hat of its output at the call before, as `split` computes it: a sampler may
    clip its own x0_hat later, this one is not clipped. predicts: what the network says,
    one of `prediction.KINDS`. Under `guide` each half of the batch is shown its own
    guess.

    A call continues the run of the call before if t is lower, for every image, and if
    the shape and dtype of xt and the values of the context are the same. Any other call
    begins a run and is shown no guess: the first call after a run that was left half
    way, every call of `ddim.invert`, and the second call at the same t, so that every
    other call of Heun's method, in `heun` and `flow`, has no guess.

    Each Python thread has its own memory. Runs that take turns in one thread are shown
    no guess if their contexts differ. If they do not, each is shown the guess of the
    other, which is wrong: give each run its own wrapper. A loss or a bound, which is
    that of a function of xt and t, is taken of `network`.

    >>> from nanodiff.schedule import linear
    >>> def network(xt, t, context, x0_hat):
    ...     return 0 * xt if x0_hat is None else 0 * xt + 9
    >>> model, xt = WithLastGuess(network, linear(100)), np.zeros((1, 1))
    >>> [model(xt, t).item() for t in (100, 60, 20, 100, 60)]
    [0.0, 9.0, 9.0, 0.0, 9.0]
    """

    def __init__(self, network, schedule, predicts="eps"):
        self.network = check.function(
            "network", network, "a function of xt, t, context and x0_hat", takes=4
        )
        self.schedule = check.schedule(schedule)
        self.predicts = check.choice("predicts", predicts, KINDS)
        self.memory = threading.local()

    def __call__(self, xt, t, context=None):
        xt = check.array("xt", xt, ("N", ...))
        if context is not None:
            context = check.as_array("context", context, "an array (N, features)")
        x0_hat = self._last_guess(xt, t, context)
        output = self.network(xt, t, context, x0_hat)
        x0_hat, _ = split(self.schedule, xt, t, output, self.predicts)
        self.memory.last = x0_hat.copy(), np.copy(t), np.copy(context)
        return output

    def _last_guess(self, xt, t, context):
        """The x0_hat of the call before, or None if this one begins a run."""
        x0_hat, before, of = vars(self.memory).pop("last", (None, None, None))
        at(self.schedule.alpha_bar, t, xt)  # or ValueError, which ends the run
        if x0_hat is None or (x0_hat.shape, x0_hat.dtype) != (xt.shape, xt.dtype):
            return None
        return x0_hat if np.all(t < before) and np.array_equal(context, of) else None

    def __reduce__(self):  # a copy remembers nothing
        return WithLastGuess, (self.network, self.schedule, self.predicts)


class WithFirstGuess:
    """A network for training: in half of the steps it is shown its first guess.

    network: has `forward(xt, t, context, x0_hat)`, `backward` and `named_grads`.
    predicts: what it learns to say. rng: draws the steps, one number for each. The
    guess is a constant: no gradient goes through it.
    """

    def __init__(self, network, schedule, predicts, rng):
        self.network = check.thing("network", network, "a network", "forward")
        self.schedule = check.schedule(schedule)
        self.predicts = check.choice("predicts", predicts, KINDS)
        self.rng = check.generator("rng", rng, "random")

    def forward(self, xt, t, context=None):
        """Return the network's output, after a look at its first guess or without."""
        x0_hat = None
        if self.rng.random() < 0.5:
            guess = self.network.forward(xt, t, context)
            x0_hat, _ = split(self.schedule, xt, t, guess, self.predicts)
            x0_hat = x0_hat.copy()  # the network may write its output over the guess
        return self.network.forward(xt, t, context, x0_hat)

    def backward(self, dy):
        """Write the gradients of the last call of the network; return its dx."""
        return self.network.backward(dy)

    def named_grads(self):
        """Return the network's gradients."""
        return self.network.named_grads()
