"""The exhaustive search against trying every support."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from oracles import best_support, direct_loss
from problems import degenerate_problems, echo_problem, random_problem, with_copies, with_dead

from skspectral.solvers import ExhaustiveSolver, GreedySolver
from skspectral.solvers.exhaustive import Search, vectors

WEIGHTS = pytest.mark.parametrize("weight", ["general", "identity"])
RIDGES = pytest.mark.parametrize("tau", [0.0, 1e-6, 1e-2])


@WEIGHTS
@RIDGES
@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_best_of_all_supports(weight, tau, n, seed):
    problem = random_problem(seed, n=n, tau=tau, weight=weight)
    for m in range(1, n + 1):
        found = ExhaustiveSolver().select(problem, m)
        assert tuple(found.support) == best_support(problem, m)


@pytest.mark.parametrize(
    "problem",
    [
        random_problem(4, rank=4),
        random_problem(5, rank=4, tau=1e-3),
        with_copies(random_problem(6, n=6), 4),
        with_dead(random_problem(7), [0, 4, 9]),
        echo_problem(8, n=10),
        echo_problem(9, n=10, tau=0.0),
    ],
    ids=["low rank", "low rank with ridge", "copies", "dead", "rectified", "without ridge"],
)
def test_it_finds_the_least_loss_where_supports_tie(problem):
    for m in range(1, 11):
        least = direct_loss(problem, best_support(problem, m))
        found = direct_loss(problem, ExhaustiveSolver().select(problem, m).order)
        assert found == pytest.approx(least, abs=1e-10 * problem.total)


@given(problem=degenerate_problems())
def test_it_finds_the_least_loss_of_degenerate_problems(problem):
    slack = 1e-9 * np.trace(problem.weight) * np.trace(problem.covariance)
    for m in range(1, problem.n_nodes):
        least = direct_loss(problem, best_support(problem, m))
        found = direct_loss(problem, ExhaustiveSolver().select(problem, m).order)
        assert found <= least + slack


@pytest.mark.parametrize(
    "problem", [random_problem(0, n=25), echo_problem(0)], ids=["random", "rectified"]
)
def test_no_swap_helps_at_the_largest_size(problem):
    selection = ExhaustiveSolver().select(problem, 8)
    loss = direct_loss(problem, selection.order)
    assert loss <= GreedySolver().select(problem, 8).loss_path[-1] * (1.0 + 1e-12)
    for out in selection.order:
        rest = [node for node in selection.order if node != out]
        others = set(range(25)) - set(selection.order)
        assert min(direct_loss(problem, [*rest, node]) for node in others) >= loss


@RIDGES
@pytest.mark.parametrize("rank", [None, 6])
def test_vectors_stand_for_the_nodes(tau, rank):
    problem = random_problem(3, rank=rank, tau=tau)
    X, W = vectors(problem, np.arange(10))
    inner = problem.covariance + np.diag(problem.ridge)
    size = np.sqrt(inner.diagonal())
    np.testing.assert_allclose(X.T @ X, inner / np.outer(size, size), atol=1e-12)
    for support in ([0], [2, 5, 7], [1, 3, 4, 9]):
        basis = np.linalg.qr(X[:, support])[0]
        expected = problem.total - direct_loss(problem, support)
        assert np.square(basis.T @ W).sum() == pytest.approx(expected, rel=1e-9)


@RIDGES
@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_cut_is_over_every_choice_of_the_columns_behind_it(tau, k):
    problem = random_problem(4, n=8, tau=tau)
    X, W = vectors(problem, np.arange(8))
    reductions = list(Search(X, W, np.arange(k))._cuts(X, k))
    assert (np.diff(reductions) <= 1e-12 * problem.total).all()
    for i, cut in enumerate(reductions[: 9 - k]):
        least = min(direct_loss(problem, support) for support in combinations(range(i, 8), k))
        assert problem.total - least <= cut * (1.0 + 1e-9)


@pytest.mark.parametrize(("n", "max_nodes"), [(26, 25), (10, 9)])
def test_too_many_nodes_are_refused(n, max_nodes):
    message = f"at most max_nodes={max_nodes} nodes and was given {n}; raise max_nodes.*another"
    with pytest.raises(ValueError, match=message):
        ExhaustiveSolver(max_nodes=max_nodes).select(random_problem(0, n=n), 3)
