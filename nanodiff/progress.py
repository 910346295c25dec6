"""How far a loop is: a bar in a terminal or a notebook, else a line now and then."""

import sys

from nanodiff import check

EVERY = 30  # seconds from line to line
SILENT = False  # True in the processes of `parallel` that are not the first


class _Lines:
    """A stream to which tqdm writes: each state of its bar becomes a line."""

    def write(self, text):
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self):
        sys.stderr.flush()


def progress(loop=None, desc=None, total=None, leave=True, **more):
    """Return tqdm's bar around a loop; see there for more.

    Where stderr is a file or a pipe it writes a line at the start, every half minute
    and at the end; without `leave` only if the loop takes longer than half a minute.
    Raises ValueError for a loop, desc, total or leave that is none.

    >>> sum(progress([1, 2, 3], "adding", leave=False))
    6
    """
    try:
        iter(() if loop is None else loop)
    except TypeError:
        check.refuse("loop", loop, "what can be iterated")
    if desc is not None:
        check.instance("desc", desc, str)
    if total is not None:
        total = check.integer("total", total, 0, 2**62)
    leave = check.flag("leave", leave)
    from tqdm.auto import tqdm  # here, since it loads asyncio: 20 ms

    notebook = any(c.__module__ == "tqdm.notebook" for c in tqdm.__mro__)
    if not (notebook or sys.stderr.isatty()):
        more |= {
            "file": _Lines(), "mininterval": EVERY, "maxinterval": EVERY,
            "delay": 0 if leave else EVERY, "ncols": 80,
        }  # fmt: skip
    if SILENT:  # else TQDM_DISABLE of the environment decides
        more["disable"] = True
    return tqdm(loop, desc, total, leave, **more)
