"""Laws of the solvers on problems with ties, dead nodes, copies and any rank."""

import numpy as np
import pytest
from hypothesis import given
from oracles import best_support, direct_loss
from problems import degenerate_problems

from skspectral import SOLVERS
from skspectral.pruners.parameters import as_solver

# A relaxation may stop early with this warning; the laws hold all the same.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def slack(problem):
    """What rounding may change of a loss, which is a sum of products of this size."""
    return 1e-9 * np.trace(problem.weight) * np.trace(problem.covariance)


@every_solver
@given(problem=degenerate_problems())
def test_loss_path_is_the_direct_loss(solver, problem):
    selection = as_solver(solver, 0).select(problem, problem.n_nodes)
    assert sorted(selection.order) == list(range(problem.n_nodes))
    direct = [direct_loss(problem, selection.order[:k]) for k in range(problem.n_nodes + 1)]
    np.testing.assert_allclose(selection.loss_path, direct, rtol=0, atol=slack(problem))


@every_solver
@given(problem=degenerate_problems(max_nodes=6))
def test_no_solver_beats_the_best_support(solver, problem):
    for m in range(1, problem.n_nodes):
        found = as_solver(solver, 0).select(problem, m)
        best = direct_loss(problem, best_support(problem, m))
        assert best - slack(problem) <= found.loss_path[-1] <= problem.total
        assert problem.lower_bound()[m] <= best + slack(problem)


@every_solver
@given(problem=degenerate_problems())
def test_dead_nodes_are_taken_last(solver, problem):
    live = np.flatnonzero(problem.covariance.diagonal() > 0.0)
    order = as_solver(solver, 0).select(problem, problem.n_nodes).order
    for m in range(1, problem.n_nodes + 1):
        support = set(as_solver(solver, 0).select(problem, m).support)
        assert len(support & set(live)) == min(m, len(live))
    assert set(order[: len(live)]) == set(live)


@given(problem=degenerate_problems())
def test_greedy_takes_a_node_of_least_loss_at_every_step(problem):
    order = as_solver("greedy", 0).select(problem, problem.n_nodes).order.tolist()
    for k, node in enumerate(order):
        losses = {j: direct_loss(problem, [*order[:k], j]) for j in order[k:]}
        assert losses[node] <= min(losses.values()) + slack(problem)


@given(problem=degenerate_problems())
def test_loss_of_a_node_more_is_never_higher(problem):
    order = np.random.default_rng(0).permutation(problem.n_nodes)
    losses = [problem.loss(order[:k]) for k in range(problem.n_nodes + 1)]
    assert (np.diff(losses) <= slack(problem)).all()


@given(problem=degenerate_problems())
def test_loss_equals_its_formula(problem):
    order = np.random.default_rng(1).permutation(problem.n_nodes)
    for k in range(problem.n_nodes + 1):
        expected = direct_loss(problem, order[:k])
        np.testing.assert_allclose(problem.loss(order[:k]), expected, atol=slack(problem))
