"""The number of threads that torch works with."""

import numpy as np
import pytest
import torch
from test_batch_forms import Net, X

from skspectral import Distillation, RNNClassifier, SpectralRNNPruner
from skspectral.utils.threads import FEW_WEIGHTS, enough_threads


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def used(monkeypatch):
    """The numbers of threads with which weights were updated."""
    found = set()
    step = torch.optim.Adam.step

    def watched(self, *args, **kwargs):
        found.add(torch.get_num_threads())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    return found


def test_small_networks_are_trained_on_one_thread(used):
    RNNClassifier(4, max_epochs=1).fit(X, np.arange(len(X)) % 2)
    assert used == {1}
    assert torch.get_num_threads() == 2


def test_small_networks_are_repaired_on_one_thread(used):
    distill = Distillation(max_epochs=1)
    SpectralRNNPruner(Net(), 4, trajectory_fit=2, distill=distill).fit(X)
    assert used == {1}
    assert torch.get_num_threads() == 2


def test_large_networks_keep_the_number_of_threads():
    with enough_threads(FEW_WEIGHTS):
        assert torch.get_num_threads() == 2


def test_the_number_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), enough_threads(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2
