"""What the scripts of this folder share.

Options that have limits: a `type` for argparse, so a bad value ends with the usage, as
in add("--rows", type=count). Lines to run next, runs that go on, and errors that end a
script.
"""

import argparse
import shlex
import sys
from pathlib import Path

from nanodiff.optim import learning_rate


def whole(low, high):
    """Return a function that reads an integer in low..high."""
    return _reader(int, "an integer", low, high)


def number(low, high):
    """Return a function that reads a number in low..high; NaN is in no such range."""
    return _reader(float, "a number", low, high)


def _reader(kind, words, low, high):
    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r}, expected {words} in {low}..{high}"
            )
        return value

    return read


count = whole(1, 10_000)  # of images, steps of sampling, channels
steps = whole(1, 10_000_000)  # of training, and images to learn from
seed = whole(0, 2**63 - 1)
weight = number(-100, 100)  # of guidance
share = number(0, 1)
rate = number(1e-9, 1)  # of learning
gamma = number(1e-6, 1e6)  # of a min-SNR weight


def given(parser, *arguments):
    """The options that the command line names, and their values.

    arguments: any for those of the parser that are no options.
    """
    unset = dict.fromkeys(vars(parser.parse_args(arguments)))
    found = parser.parse_args(namespace=argparse.Namespace(**unset))
    return {name: value for name, value in vars(found).items() if value is not None}


def command(script, *words):
    """The line that runs a script, as this one was run: by path, or as `nanodiff`'s."""
    this, start = Path(sys.argv[0]), ["python", "-m", "nanodiff", script]
    if this.suffix == ".py":
        start[1:] = [this.with_name(f"{script}.py")]
    return shlex.join(map(str, [*start, *words]))


def goes_on(run):
    """Print where a resumed run is."""
    done, recipe = len(run.losses), run.recipe
    last = recipe.steps - 1  # of a finished run, too
    now = learning_rate(min(done, last), recipe.steps, recipe.lr, recipe.warmup)
    print(f"goes on after step {done}, to {recipe.steps}; the learning rate is now "
          f"{now:.2g} and falls to 0 as a cosine")  # fmt: skip


def stopped(stop, team, script, *words):
    """End a script whose run was stopped; say once by which line it goes on."""
    if team.first:
        processes = f"mpiexec -n {team.size} " if team.size > 1 else ""
        again = command(script, *words)
        print(f"\n{stop}; go on with --resume:\n{processes}{again}", file=sys.stderr)
    raise SystemExit(128 + stop.signal) from None


def run(main):
    """Call main(); an error of nanodiff ends the script as one of its options does."""
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: error: {error}") from error
