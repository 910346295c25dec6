"""Hypothesis for compiled code: no deadline, and the same examples on every run."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "nanodiff",
    deadline=None,  # the first call compiles
    derandomize=True,
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],  # shrinking compiled code takes for ever
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nanodiff")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
