"""scikit-learn's own suite of estimator checks, all of them."""

import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skspectral import (
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
)
from skspectral.pruners import dense_network


def cell(kind, **options):
    """A small layer with fixed weights, which reads univariate sequences."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(1, 8, batch_first=True, **options)


# The checks give a few sequences alone.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* too few to know:UserWarning")

CELLS = [cell(nn.RNN), cell(nn.RNN, nonlinearity="relu"), cell(nn.GRU), cell(nn.LSTM)]

# The hash of a module differs from that of its deep copy, by which the check tells a changed
# parameter; that the weights are not changed is tested in test_pruner.py.
MODULE_HASH = {
    "check_estimators_overwrite_params": "joblib.hash(module) differs from that of its deep copy"
}


@pytest.fixture(autouse=True)
def _little_training(monkeypatch):
    """What ``estimator=None`` trains is small here, for it is trained some hundred times."""
    default = dense_network.default_estimator
    small = {"hidden_size": 16, "max_epochs": 4}
    monkeypatch.setattr(
        dense_network, "default_estimator", lambda y: default(y).set_params(**small)
    )


@parametrize_with_checks(
    [
        SpectralRNNPruner(trajectory_fit=5),
        SpectralRNNPrunerCV(cv=2, trajectory_fit=5),
        NeuronSelectionPruner(training=1),
        RNNClassifier(hidden_size=32, max_epochs=20),
        RNNRegressor(),
    ]
)
def test_estimator_that_trains(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [SpectralRNNPruner(module, trajectory_fit=0) for module in CELLS]
    + [SpectralRNNPrunerCV(cell(nn.GRU), trajectory_fit=0)],
    expected_failed_checks=lambda _: MODULE_HASH,
)
def test_pruner_around_a_module(estimator, check):
    check(estimator)
