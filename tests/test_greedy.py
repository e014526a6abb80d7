"""Forward greedy selection, and the residual it works on."""

import numpy as np
import pytest
from oracles import direct_greedy, direct_loss, residual
from problems import random_problem, with_copies, with_dead

from skspectral.solvers import GreedySolver, extend
from skspectral.solvers.residual import Residual, curvature

WEIGHTS = pytest.mark.parametrize("weight", ["general", "identity"])
RIDGES = pytest.mark.parametrize("tau", [0.0, 1e-6, 1e-2])


@WEIGHTS
@RIDGES
@pytest.mark.parametrize("seed", range(5))
def test_order_is_that_of_direct_evaluation(weight, tau, seed):
    problem = random_problem(seed, n=9, tau=tau, weight=weight)
    order = GreedySolver().select(problem, 7).order
    assert order.tolist() == direct_greedy(problem, 7)


@WEIGHTS
def test_taking_what_is_left_for_the_whole_changes_nothing(weight, monkeypatch):
    problem = random_problem(2, tau=1e-6, weight=weight)
    expected = GreedySolver().select(problem, 10)
    monkeypatch.setattr("skspectral.solvers.residual.FRESH_DIGITS", 0.9)  # at most steps
    found = GreedySolver().select(problem, 10)
    assert found.order.tolist() == expected.order.tolist()
    np.testing.assert_allclose(found.loss_path, expected.loss_path, atol=1e-12 * problem.total)


def test_columns_may_be_multiplied_in_any_blocks(monkeypatch):
    problem = random_problem(2, tau=1e-6)
    expected = problem.covariance @ problem.weight @ problem.covariance
    for size in (1, 3, 5, 10, 16):
        monkeypatch.setattr("skspectral.solvers.residual.BLOCK", size)
        found = curvature(problem, problem.covariance)
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@WEIGHTS
@RIDGES
def test_order_is_nested(weight, tau):
    problem = random_problem(0, tau=tau, weight=weight)
    most = GreedySolver().select(problem, 10)
    for m in range(1, 10):
        selection, first = GreedySolver().select(problem, m), most.truncate(m)
        np.testing.assert_array_equal(selection.order, first.order)
        np.testing.assert_allclose(selection.loss_path, first.loss_path, rtol=1e-12)


@pytest.mark.parametrize("start", [(), (7,), (3, 1, 8)])
def test_extension_begins_with_what_is_given_and_goes_on_greedily(start):
    problem = random_problem(1, tau=1e-6)
    order = extend(problem, start, 6).order.tolist()
    assert order[: len(start)] == list(start)
    for k in range(len(start), 6):
        others = set(range(10)) - set(order[:k])
        best = min(others, key=lambda node: direct_loss(problem, [*order[:k], node]))
        assert order[k] == best


@WEIGHTS
@RIDGES
@pytest.mark.parametrize("rank", [None, 6])
def test_gains_are_the_differences_of_direct_losses(weight, tau, rank):
    problem = random_problem(2, rank=rank, tau=tau, weight=weight)
    state, support = Residual(problem, 5), []
    for node in (4, 0, 9, 2, 7):
        before = direct_loss(problem, support)
        expected = [before - direct_loss(problem, [*support, j]) for j in range(10)]
        free = [j for j in range(10) if j not in support]
        gains = state.gains()
        np.testing.assert_allclose(gains[free], np.array(expected)[free], atol=1e-9 * before)
        state.add(node)
        support.append(node)


@RIDGES
def test_gain_is_the_formula_on_the_explicit_residual(tau):
    problem = random_problem(3, tau=tau)
    state, support = Residual(problem, 3), [6, 1, 3]
    for node in support:
        state.add(node)
    E = residual(problem.covariance, problem.ridge, support)
    free = [0, 2, 4, 5, 7, 8, 9]
    expected = [E[:, j] @ problem.weight @ E[:, j] / (E[j, j] + problem.ridge[j]) for j in free]
    np.testing.assert_allclose(state.gains()[free], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("problem", "taken", "useless"),
    [
        (with_copies(random_problem(4, n=6), 2), [0, 1], [6, 7]),
        (with_dead(random_problem(5), [2, 8]), [0], [2, 8]),
        (random_problem(6, rank=3), [5, 0, 7], [1, 2, 3, 4, 6, 8, 9]),
    ],
    ids=["copies of kept nodes", "dead nodes", "nodes spanned by kept ones"],
)
def test_nodes_that_add_nothing_gain_nothing(problem, taken, useless):
    state = Residual(problem, len(taken) + len(useless))
    for node in taken:
        state.add(node)
    assert (state.gains()[useless] <= 1e-9 * problem.total).all()
    left = state.gains()
    for node in useless:
        state.add(node)
    assert (state.gains() <= left + 1e-9 * problem.total).all()
