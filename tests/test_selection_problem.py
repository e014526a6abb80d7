"""The selection problem: its loss, its bound, its best supports."""

from itertools import combinations

import numpy as np
import pytest
from oracles import best_support, direct_loss
from problems import planted, random_problem

from skspectral import SOLVERS
from skspectral.pruners.parameters import as_solver
from skspectral.solvers import Selection, SelectionProblem, Solver

RIDGES = pytest.mark.parametrize("tau", [0.0, 1e-6, 1e-2])
WEIGHTS = pytest.mark.parametrize("weight", ["general", "identity"])


@RIDGES
@WEIGHTS
def test_loss_is_the_trace_of_the_weighted_residual(tau, weight, rng):
    problem = random_problem(0, tau=tau, weight=weight)
    for m in range(11):
        support = rng.permutation(10)[:m]
        np.testing.assert_allclose(
            problem.loss(support), direct_loss(problem, support), atol=1e-10 * problem.total
        )


def test_weighing_is_the_product_with_the_weight_also_of_a_multiple_of_the_identity(rng):
    problem, x = random_problem(0), rng.normal(size=(10, 3))
    for weight in (problem.weight, 3.0 * np.eye(10)):
        weighed = SelectionProblem(problem.covariance, weight, problem.ridge).weigh(x)
        np.testing.assert_allclose(weighed, weight @ x, rtol=1e-12)


@RIDGES
def test_loss_is_the_least_penalized_square_over_all_reconstructions(tau, rng):
    """``min_B Tr Q (I − B S) Σ (I − B S)ᵀ + Tr Q B I_τ Bᵀ``, S the rows J of the identity."""
    problem, support = random_problem(1, tau=tau), [1, 4, 8]
    rows, tau_kept = np.eye(10)[support], np.diag(problem.ridge[support])

    def penalized(B):
        rest = np.eye(10) - B @ rows
        return np.trace(problem.weight @ (rest @ problem.covariance @ rest.T + B @ tau_kept @ B.T))

    best = problem.covariance[:, support] @ np.linalg.inv(
        problem.covariance[np.ix_(support, support)] + tau_kept
    )
    loss = problem.loss(support)
    np.testing.assert_allclose(penalized(best), loss, rtol=1e-9)
    for _ in range(20):
        assert penalized(best + 0.1 * rng.normal(size=best.shape)) > loss


@pytest.mark.parametrize("rank", [None, 4])
@WEIGHTS
def test_lower_bound_is_the_sum_of_the_trailing_eigenvalues(rank, weight):
    problem = random_problem(2, rank=rank, weight=weight)
    spectrum = np.sort(np.linalg.eigvals(problem.weight @ problem.covariance).real)[::-1]
    expected = [spectrum[m:].sum() for m in range(11)]
    np.testing.assert_allclose(problem.lower_bound(), expected, atol=1e-10 * problem.total)
    np.testing.assert_allclose(problem.lower_bound()[0], problem.total)


@RIDGES
@pytest.mark.parametrize("n", [5, 8])
def test_lower_bound_is_under_every_support(tau, n):
    problem = random_problem(3, n=n, tau=tau)
    for m, bound in enumerate(problem.lower_bound()):
        losses = [direct_loss(problem, J) for J in combinations(range(n), m)]
        assert bound <= min(losses) + 1e-12 * problem.total


def test_lower_bound_is_met_by_independent_nodes():
    problem = SelectionProblem(np.diag([3.0, 1.0, 5.0]), np.diag([1.0, 2.0, 1.0]), np.zeros(3))
    assert problem.lower_bound().tolist() == pytest.approx([10.0, 5.0, 2.0, 0.0])
    assert direct_loss(problem, best_support(problem, 1)) == pytest.approx(5.0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("seed", "tau"), [*enumerate([0.0, 1e-6, 1e-2])])
def test_the_best_support_is_never_beaten(solver, seed, tau):
    problem = random_problem(seed, n=8, tau=tau)
    for m in (2, 4, 6):
        least = direct_loss(problem, best_support(problem, m))
        support = as_solver(solver, seed).select(problem, m).support
        assert direct_loss(problem, support) >= least - 1e-12 * problem.total


@pytest.mark.parametrize("seed", range(3))
def test_planted_sources_are_the_one_best_support(seed):
    problem, sources = planted(3, n_mixtures=5, seed=seed)
    losses = {J: direct_loss(problem, J) for J in combinations(range(8), 3)}
    ranked = sorted(losses, key=losses.get)
    assert list(ranked[0]) == sources.tolist()
    assert losses[ranked[0]] < 1e-12 < 1e-3 * problem.total < losses[ranked[1]]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_first_cuts_a_selection(m):
    selection = Selection(np.array([4, 0, 2]), np.array([9.0, 4.0, 2.0, 1.0]), gap=0.1)
    cut = selection.truncate(m)
    assert cut.order.tolist() == [4, 0, 2][:m]
    assert cut.loss_path.tolist() == [9.0, 4.0, 2.0, 1.0][: m + 1]
    assert cut.support.tolist() == sorted([4, 0, 2][:m])
    assert cut.gap == 0.1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            (np.eye(3), np.eye(2), np.zeros(3)),
            r"weight must be of shape \(3, 3\), .*; got \(2, 2\)",
        ),
        ((np.eye(3), np.eye(3), 0.1), r"ridge must be of shape \(3,\), .*; got \(\)"),
        ((np.ones((3, 2)), np.eye(3), np.zeros(3)), r"covariance must be of shape \(3, 3\), .*2\)"),
        ((1.0, np.eye(1), np.zeros(1)), r"covariance must be of shape \(1, 1\), .*; got \(\)"),
    ],
)
def test_arrays_of_different_numbers_of_nodes_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        SelectionProblem(*arrays)


class Returning(Solver):
    """Gives what it is told to."""

    def __init__(self, outcome):
        self.outcome = outcome

    def _select(self, problem, m):
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        (np.arange(3), TypeError, "_select of Returning must return a Selection, .*; got ndarray"),
        (Selection(np.array([0, 0, 1]), np.ones(4)), ValueError, r"once; got \[0, 0, 1\]"),
        (Selection(np.array([0, 1]), np.ones(3)), ValueError, r"3 nodes from 0 to 9; got \[0, 1\]"),
        (Selection(np.array([0, 1, 10]), np.ones(4)), ValueError, r"3 nodes .*; got \[0, 1, 10\]"),
        (Selection(np.array([0, 1, -1]), np.ones(4)), ValueError, r"3 nodes .*; got \[0, 1, -1\]"),
    ],
)
def test_what_is_no_choice_of_m_nodes_is_refused(outcome, error, message):
    with pytest.raises(error, match=message):
        Returning(outcome).select(random_problem(0), 3)
