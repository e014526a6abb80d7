"""Fixtures that several files share."""

import numpy as np
import pytest
import torch
from hypothesis import settings

from skspectral.pruners import dense_network

settings.register_profile("same everywhere", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("same everywhere")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=[1, 2])
def n_threads(request):
    """Threads of torch, of which there must be as many afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == request.param


@pytest.fixture
def little_training(monkeypatch):
    """Make the network that ``estimator=None`` trains small; some tests train it many times."""
    default = dense_network.default_estimator
    small = {"hidden_size": 16, "max_epochs": 4}
    monkeypatch.setattr(
        dense_network, "default_estimator", lambda y: default(y).set_params(**small)
    )


@pytest.fixture(autouse=True)
def _torch_seed():
    """Every test starts from the same weights, and leaves the global state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
