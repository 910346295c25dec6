"""Laws for everybody: check any schedule and any sampler, without reading its code.

`check_sampler` and `check_step` run a loop with a model and noise of their own and read
off what each step does; `check_schedule` looks at tables. Each returns a `Report`,
whose `check` raises `Broken`. `parametrize` makes tests of them for pytest. To read:
`impulse.py` (the method), `steps.py` (the theory), `evidence.py` (what is measured) and
`verdicts.py` (the laws); apart from these `schedules.py`.
"""

from nanodiff.laws.report import Broken, Report, case, parametrize, steps_to_try
from nanodiff.laws.samplers import (
    check_inversion,
    check_predictions,
    check_sampler,
    check_step,
)
from nanodiff.laws.schedules import check_schedule

__all__ = [
    "Broken", "Report", "case", "check_inversion", "check_predictions", "check_sampler",
    "check_schedule", "check_step", "parametrize", "steps_to_try",
]  # fmt: skip
