"""scikit-learn's own suite of estimator checks: all of them, and a few around every cell."""

import pytest
import torch
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skspectral import (
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
)


def cell(kind, **options):
    """A small layer with fixed weights, which reads univariate sequences."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(1, 8, batch_first=True, **options)


# The checks give a few sequences alone.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* too few to estimate:UserWarning"),
    pytest.mark.usefixtures("little_training"),
]

# Those in which the layer itself runs, is kept, or is copied.
CHECKS_OF_A_MODULE = [
    estimator_checks.check_estimators_pickle,
    estimator_checks.check_fit2d_1sample,
    estimator_checks.check_fit_idempotent,
    estimator_checks.check_methods_sample_order_invariance,
    estimator_checks.check_methods_subset_invariance,
    estimator_checks.check_transformer_general,
]
OTHERS = {
    "tanh": SpectralRNNPruner(cell(nn.RNN), trajectory_fit=0),
    "relu": SpectralRNNPruner(cell(nn.RNN, nonlinearity="relu"), trajectory_fit=0),
    "lstm": SpectralRNNPruner(cell(nn.LSTM), trajectory_fit=0),
    "cv": SpectralRNNPrunerCV(cell(nn.GRU), [0.5, 1.0], cv=2, trajectory_fit=0),
}

# The hash of a module differs from that of its deep copy, by which the check tells a changed
# parameter; that the weights are not changed is tested in test_pruner.py.
MODULE_HASH = {
    "check_estimators_overwrite_params": "joblib.hash(module) differs from that of its deep copy"
}


@parametrize_with_checks(
    [
        SpectralRNNPruner(trajectory_fit=5),
        SpectralRNNPrunerCV(ms=(0.5, 1.0), cv=2, trajectory_fit=5),
        NeuronSelectionPruner(training=1),
        RNNClassifier(hidden_size=32, max_epochs=20),
        RNNRegressor(hidden_size=32, lr=0.02),
    ]
)
def test_estimator_that_trains(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [SpectralRNNPruner(cell(nn.GRU), trajectory_fit=0)],
    expected_failed_checks=lambda _: MODULE_HASH,
)
def test_pruner_around_a_module(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", CHECKS_OF_A_MODULE)
@pytest.mark.parametrize("name", OTHERS)
def test_pruner_around_another_module(name, check):
    check(type(OTHERS[name]).__name__, OTHERS[name])
