"""Hypothesis: no deadline, the same examples on every run, shrinking where it is quick.

A failing example is shrunk to the smallest one that still fails, except in the files
whose properties run compiled loops: there each trial of a new shape takes too long.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.playground_tools import address, browser, visit  # noqa: F401 fixtures

COMPILED = [
    "test_export", "test_fast", "test_gradcheck", "test_layers", "test_trained",
    "test_unet",
]  # fmt: skip

COMMON = settings(
    deadline=None,  # the first call may compile
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
settings.register_profile("compiled", COMMON)
settings.register_profile("nanodiff", COMMON, phases=[*COMMON.phases, Phase.shrink])
settings.load_profile("nanodiff")


def pytest_collectstart(collector):
    """Load a file's profile before the file: `given` keeps the one that it finds."""
    if isinstance(collector, pytest.Module):
        compiled = collector.path.stem in COMPILED
        settings.load_profile("compiled" if compiled else "nanodiff")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
