"""Fixtures that several files share."""

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("same everywhere", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("same everywhere")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _torch_seed():
    """Every test starts from the same weights, and leaves the global state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
