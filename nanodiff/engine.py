"""Which convolutions and norms run: those of `fast`, or those of `plain`.

`fast` if Numba can be imported, else `plain`, with a warning. `NANODIFF_PLAIN=1` in the
environment chooses `plain`: for a debugger, or to read along. They are the same
functions and agree to rounding; `plain` is about ten times slower.
"""

import importlib.util
import os
import warnings

PLAIN = os.environ.get("NANODIFF_PLAIN", "0") not in ("", "0")
if not PLAIN and importlib.util.find_spec("numba") is None:
    PLAIN = True
    warnings.warn(
        "Numba is not installed, so convolutions and norms run about ten times slower; "
        "pip install numba, or set NANODIFF_PLAIN=1 to choose this",
        RuntimeWarning,
        stacklevel=2,
    )
if PLAIN:
    from nanodiff import plain as functions

    def turn(function):
        """Decorate what calls many of the functions: here it changes nothing."""
        return function

else:
    from nanodiff import fast as functions
    from nanodiff.fast import TURN as turn  # noqa: N811
