"""The information loss as a selection problem."""

import numpy as np
import pytest
from oracles import residual

from skspectral import InformationLoss
from skspectral.pruners.parameters import as_objective
from skspectral.selection.objective import OBJECTIVES, Objective

N_NODES = 6
NAMES = ("input", "output", "recurrent", "sensitivity")
# Each term alone, and all of them together.
WEIGHTS = [*np.eye(4).tolist(), (2.5, 0.4, 1.0, 7.0), (0.3, 1.7, 6.0, 0.9)]


@pytest.fixture
def layer(rng):
    """Σ, ``weight_hh`` of three gates, two readers, and G."""
    states = rng.normal(size=(40, N_NODES)) * rng.uniform(0.5, 2.0, size=N_NODES)
    readers = [rng.normal(size=(2, N_NODES)), rng.normal(size=(5, N_NODES))]
    gradients = rng.normal(size=(30, N_NODES)) * rng.uniform(0.5, 2.0, size=N_NODES)
    recurrent = rng.normal(size=(3 * N_NODES, N_NODES))
    return states.T @ states / 40, recurrent, readers, gradients.T @ gradients / 30


def terms(layer, E):
    """The losses of a residual, each row of each weight on its own."""
    _, recurrent, readers, G = layer
    rows = [row for reader in readers for row in reader]
    output, hidden = (sum(w @ E @ w for w in weights) for weights in (rows, recurrent))
    sensitivity = sum(G[i, j] * E[j, i] for i in range(N_NODES) for j in range(N_NODES))
    losses = (np.trace(E), output, hidden, sensitivity)
    return dict(zip(NAMES, losses, strict=True))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("support", [[], [2], [0, 3, 5]])
def test_loss_is_the_weighted_sum_of_relative_terms(layer, weights, support):
    problem = InformationLoss(*weights).problem(*layer)
    lost = terms(layer, residual(layer[0], problem.ridge, support))
    whole = terms(layer, layer[0])
    parts = zip(weights, NAMES, strict=True)
    expected = sum(weight * lost[name] / whole[name] for weight, name in parts)
    np.testing.assert_allclose(problem.loss(support), expected, rtol=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_names_stand_for_their_terms(layer, name):
    chosen = {
        "combined": (1.0, 1.0, 1.0, 200.0),
        "one-step": (1.0, 1.0, 1.0, 0.0),
        "input": (1.0, 0.0, 0.0, 0.0),
    }[name]
    problem = as_objective(name).problem(*layer)
    lost = terms(layer, residual(layer[0], problem.ridge, [1, 4]))
    whole = terms(layer, layer[0])
    parts = zip(chosen, NAMES, strict=True)
    expected = sum(weight * lost[term] / whole[term] for weight, term in parts)
    np.testing.assert_allclose(problem.loss([1, 4]), expected, rtol=1e-9)
    assert problem.total == pytest.approx(sum(chosen))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    ("states", "recurrent", "readers"), [(1e-3, 1, 1), (1, 1e3, 1), (1, 1, 1e-4), (50, 7, 1e-2)]
)
def test_weights_have_no_unit(layer, name, states, recurrent, readers):
    covariance, weight_hh, outside, G = layer
    objective = as_objective(name)
    problem = objective.problem(covariance, weight_hh, outside, G)
    scaled = objective.problem(
        states**2 * covariance,
        recurrent * weight_hh,
        [readers * reader for reader in outside],
        G / states**2,
    )
    for support in ([0], [1, 5], [0, 2, 3, 4]):
        np.testing.assert_allclose(scaled.loss(support), problem.loss(support), rtol=1e-7)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weight_is_symmetric_positive_semidefinite(layer, name):
    weight = as_objective(name).problem(*layer).weight
    np.testing.assert_allclose(weight, weight.T, rtol=1e-12)
    assert np.linalg.eigvalsh(weight).min() >= -1e-12 * np.trace(weight)


@pytest.mark.parametrize("tau", [0.0, 1e-6, 0.5])
def test_ridge_is_a_fraction_of_the_mean_variance(layer, tau):
    problem = InformationLoss(tau=tau).problem(*layer)
    np.testing.assert_allclose(problem.ridge, tau * np.trace(layer[0]) / N_NODES)


def test_without_readers_the_output_is_the_state_itself(layer):
    covariance, recurrent, _, _ = layer
    bare = InformationLoss(0.0, 1.0, 0.0, 0.0).problem(covariance, recurrent, [])
    same = as_objective("input").problem(covariance, recurrent, [])
    np.testing.assert_allclose(bare.weight, same.weight, rtol=1e-12)


def test_readers_may_be_stacked_or_not(layer):
    covariance, recurrent, readers, _ = layer
    apart = InformationLoss().problem(covariance, recurrent, readers)
    stacked = InformationLoss().problem(covariance, recurrent, [np.vstack(readers)])
    np.testing.assert_allclose(apart.weight, stacked.weight, rtol=1e-12)


@pytest.mark.parametrize("zero", ["covariance", "recurrent", "readers"])
def test_a_term_that_is_zero_drops_out(layer, zero):
    covariance, recurrent, readers, _ = layer
    problem = InformationLoss().problem(
        covariance * (zero != "covariance"),
        recurrent * (zero != "recurrent"),
        [reader * (zero != "readers") for reader in readers],
    )
    assert np.isfinite(problem.weight).all()
    assert problem.total == pytest.approx(0.0 if zero == "covariance" else 2.0)


@pytest.mark.parametrize("name", [*NAMES, "tau"])
def test_a_weight_that_cannot_be_is_refused(layer, name):
    match = f"{name} of InformationLoss must be a finite number of at least 0; got"
    for value in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=match):
            InformationLoss(**{name: value}).problem(*layer)


@pytest.mark.parametrize("name", [*NAMES, "tau"])
def test_a_weight_of_another_type_is_refused(layer, name):
    for value in ("1", None, [1.0], 1j):
        with pytest.raises(TypeError, match=f"{name} of InformationLoss must be"):
            InformationLoss(**{name: value}).problem(*layer)


def test_no_weight_at_all_is_refused(layer):
    with pytest.raises(ValueError, match="are all 0; give at least one"):
        InformationLoss(0.0, 0.0, 0.0, 0.0).problem(*layer)


@pytest.mark.parametrize(
    ("objective", "error", "match"),
    [
        ("inptu", ValueError, "objective must be one of combined, input, one-step"),
        (3, TypeError, "objective must be one of .* or an instance of Objective"),
        (InformationLoss, TypeError, "objective must be one of .* or an instance of"),
    ],
)
def test_an_unknown_objective_is_refused(objective, error, match):
    with pytest.raises(error, match=match):
        as_objective(objective)


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        (np.eye(N_NODES) + 5.0 * np.eye(N_NODES, k=1), "a matrix that is not symmetric"),
        (-np.eye(N_NODES), "a matrix with negative eigenvalues"),
        (np.full((N_NODES, N_NODES), np.nan), "entries that are not finite numbers"),
        (np.eye(3), r"an array of shape \(3, 3\)"),
        (None, "None; set uses_sensitivity = True"),
    ],
)
def test_a_weight_that_is_no_weight_is_refused(layer, weight, found):
    class Own(Objective):
        def weight(self, covariance, recurrent, readers, sensitivity=None):
            return weight

    message = rf"weight of Own must return a symmetric positive .* \(6, 6\); got {found}"
    with pytest.raises(ValueError, match=message):
        Own().problem(*layer)


def test_a_weight_of_low_rank_or_zero_is_accepted(layer):
    class Own(Objective):
        def weight(self, covariance, recurrent, readers, sensitivity=None):
            return self.scale * recurrent[:2].T @ recurrent[:2]

    for Own.scale in (0.0, 1e-9, 1e9):
        assert Own().problem(*layer).n_nodes == N_NODES


def test_a_solver_cannot_change_the_problem(layer):
    covariance = layer[0]
    problem = InformationLoss().problem(*layer)
    with pytest.raises(ValueError, match="read-only"):
        problem.covariance[:] = 0.0
    covariance[0, 0] = 1.0  # the array that was given stays writable
