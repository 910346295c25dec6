"""Laws for everybody: check any schedule and any sampler, without reading its code."""

from nanodiff.laws.report import Broken, Report, case, parametrize, steps_to_try
from nanodiff.laws.schedules import check_schedule
from nanodiff.laws.samplers import check_sampler, check_step

__all__ = [
    "Broken",
    "Report",
    "case",
    "check_sampler",
    "check_schedule",
    "check_step",
    "parametrize",
    "steps_to_try",
]
