"""How many nodes each layer keeps."""

import itertools

import numpy as np
import pytest
import torch
from networks import N_FEATURES
from torch import nn

from skspectral import SpectralRNNPruner, SpectralRNNPrunerCV
from skspectral.pruners.allocation import convex_hull, count_by_layer, shared_budget

X = np.random.default_rng(0).normal(size=(60, 8, N_FEATURES)).astype(np.float32)
SIZES = {"rnn.l0": 10, "rnn.l1": 4}


def network(n_nodes=12, n_levels=2):
    torch.manual_seed(0)
    return nn.GRU(N_FEATURES, n_nodes, n_levels, batch_first=True)


@pytest.mark.parametrize(
    ("m", "counts"),
    [
        (3, [3, 3]),
        (0.5, [5, 2]),
        (0.01, [1, 1]),
        ({"rnn.l0": 3}, [3, 4]),
        ({"rnn.l1": 0.25, "rnn.l0": 0.3}, [3, 1]),
    ],
)
def test_m_is_for_every_layer_or_by_name(m, counts):
    assert list(count_by_layer(m, SIZES).values()) == counts


@pytest.mark.parametrize(
    ("m", "error", "message"),
    [
        (5, ValueError, r"m must be an int from 1 to 4, the hidden size"),
        ({"rnn.l2": 3}, ValueError, r"'rnn.l2', which is no layer .* has 'rnn.l0', 'rnn.l1'"),
        ({"rnn.l1": 5}, ValueError, r"m\['rnn.l1'\] must be an int from 1 to 4"),
        ({"rnn.l1": "a"}, TypeError, r"m\['rnn.l1'\] must be"),
    ],
)
def test_bad_counts_are_named(m, error, message):
    with pytest.raises(error, match=message):
        count_by_layer(m, SIZES)


def test_the_pruner_names_them_before_it_runs():
    with pytest.raises(ValueError, match=r"m\['rnn.l0'\] must be"):
        SpectralRNNPruner(network(), m={"rnn.l0": 0}, trajectory_fit=0).fit(X)
    with pytest.raises(ValueError, match="allocation must be one of global, uniform; got 'all'"):
        SpectralRNNPruner(network(), allocation="all", trajectory_fit=0).fit(X)


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_is_spent_as_well_as_any_on_convex_losses(seed):
    rng = np.random.default_rng(seed)
    paths = {
        name: np.append(np.cumsum(np.sort(rng.exponential(size=size)))[::-1], 0.0)
        for name, size in (("a", 4), ("b", 3), ("c", 5))
    }
    for total in range(3, 13):
        counts = shared_budget(paths, total)
        assert sum(counts.values()) == total
        found = sum(paths[name][n] for name, n in counts.items())
        every = itertools.product(*(range(1, len(path)) for path in paths.values()))
        best = min(
            sum(path[n] for path, n in zip(paths.values(), ns, strict=True))
            for ns in every
            if sum(ns) == total
        )
        assert found == pytest.approx(best)


def test_the_hull_is_convex_and_below(rng):
    path = np.sort(rng.random(30))[::-1]
    hull = convex_hull(path)
    assert (np.diff(hull, 2) >= -1e-12).all()
    assert (hull <= path + 1e-12).all()
    assert hull[[0, -1]].tolist() == path[[0, -1]].tolist()


def test_a_global_budget_gives_layers_what_they_need():
    dull = network()
    with torch.no_grad():  # few directions in the second level
        dull.weight_hh_l1[:, 3:] = 0.0
        dull.weight_ih_l1[3:12] = dull.weight_ih_l1[:9].clone()
    pruner = SpectralRNNPruner(dull, m=12, allocation="global", trajectory_fit=0).fit(X)
    assert sum(pruner.m_.values()) == 12
    uniform = SpectralRNNPruner(dull, m=6, trajectory_fit=0).fit(X)
    spent, even = (sum(each.information_loss_.values()) for each in (pruner, uniform))
    assert spent <= even
    assert pruner.m_["l0"] != pruner.m_["l1"]


@pytest.mark.parametrize(
    ("m", "message"),
    [
        (1, "m=1 leaves 1 nodes to 2 layers; give at least one for each"),
        ({"l0": 3}, "m must be a number for allocation='global'; got a dict"),
        (25, "m must be an int from 1 to 24"),
    ],
)
def test_bad_budgets_are_named(m, message):
    with pytest.raises(ValueError, match=message):
        SpectralRNNPruner(network(), m=m, allocation="global", trajectory_fit=0).fit(X)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_cross_validation_over_several_layers(allocation):
    search = SpectralRNNPrunerCV(
        network(), ms=[0.25, 0.5, 1.0], cv=2, allocation=allocation, trajectory_fit=0
    )
    scores = search.fit(X).cv_results_["mean_test_score"]
    assert (np.diff(scores) >= 0.0).all()
    assert search.best_index_ == 2
    assert search.transform(X).shape == (60, 12)


def test_attributes_are_by_layer():
    pruner = SpectralRNNPruner(network(), m={"l0": 4, "l1": 3}, trajectory_fit=0).fit(X)
    assert pruner.m_ == {"l0": 4, "l1": 3}
    for name in ("support_", "ranking_", "covariance_", "loss_path_", "reconstruction_"):
        assert getattr(pruner, name).keys() == {"l0", "l1"}
    assert pruner.get_support()["l1"].sum() == 3
    names = [f"l1.h{node}" for node in pruner.support_["l1"]]
    assert pruner.get_feature_names_out().tolist() == names
    assert pruner.transform(X).shape == (60, 3)
    halves = (
        SpectralRNNPruner(network(), m=3, trajectory_fit=0).partial_fit(X[:20]).partial_fit(X[20:])
    )
    whole = SpectralRNNPruner(network(), m=3, trajectory_fit=0).fit(X)
    for name, covariance in whole.covariance_.items():
        np.testing.assert_allclose(halves.covariance_[name], covariance, rtol=1e-6, atol=1e-9)
