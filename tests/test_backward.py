"""Backward elimination: every removal, and the matrices that price it."""

import numpy as np
import pytest
from oracles import direct_backward, direct_loss
from pairs import pairwise
from problems import echo_problem, random_problem, with_copies, with_dead

from skspectral.solvers import BackwardSolver, SelectionProblem
from skspectral.solvers.backward import prepare, without

WEIGHTS = ["general", "identity"]
RIDGES = [0.0, 1e-6, 1e-2]
every_ridge = pytest.mark.parametrize("tau", RIDGES)


def steep_problem(seed, n=30, decades=8.0):
    """A spectrum that falls over many decades, without ridge."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(n, n)))[0]
    covariance = axes * np.logspace(0.0, -decades, n) @ axes.T
    return SelectionProblem((covariance + covariance.T) / 2.0, np.eye(n), np.zeros(n))


@pytest.mark.parametrize("seed", range(2))
@pairwise(weight=WEIGHTS, tau=RIDGES, m=[1, 3, 6, 8])
def test_support_is_that_of_direct_evaluation(weight, tau, seed, m):
    problem = random_problem(seed, n=9, tau=tau, weight=weight)
    assert BackwardSolver().select(problem, m).support.tolist() == direct_backward(problem, m)


@pytest.mark.parametrize(("seed", "m"), [*enumerate([4, 12, 24])])
def test_a_long_elimination_is_that_of_direct_evaluation(seed, m):
    problem = echo_problem(seed, n=36)
    assert BackwardSolver().select(problem, m).support.tolist() == direct_backward(problem, m)


@pytest.mark.parametrize(("seed", "m"), [*enumerate([3, 9, 15])])
def test_a_steep_spectrum_does_not_blur_the_removals(seed, m):
    problem = steep_problem(seed)
    assert BackwardSolver().select(problem, m).support.tolist() == direct_backward(problem, m)


@pairwise(weight=WEIGHTS, tau=RIDGES)
def test_a_price_is_the_difference_of_direct_losses(weight, tau):
    problem, kept = random_problem(1, tau=tau, weight=weight), [0, 2, 3, 5, 8, 9]
    P, C = prepare(problem, np.array(kept))
    loss = direct_loss(problem, kept)
    expected = [direct_loss(problem, [k for k in kept if k != node]) - loss for node in kept]
    np.testing.assert_allclose(C.diagonal() / P.diagonal(), expected, rtol=1e-6)


@every_ridge
def test_removals_leave_the_matrices_of_the_nodes_that_stay(tau):
    problem, gone, kept = random_problem(2, tau=tau), [7, 0, 3, 8], [1, 2, 4, 5, 6, 9]
    P, C = prepare(problem, np.arange(10))
    for node in gone:
        P, C = without(P, C, node)
    for updated, fresh in zip((P, C), prepare(problem, np.array(kept)), strict=True):
        atol = 1e-9 * np.abs(fresh).max()
        np.testing.assert_allclose(updated[np.ix_(kept, kept)], fresh, atol=atol)
        np.testing.assert_allclose(updated[gone], 0.0, atol=atol)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rank", [2, 5, 8])
def test_as_many_nodes_as_the_rank_lose_nothing(seed, rank):
    problem = random_problem(seed, n=16, rank=rank)
    selection = BackwardSolver().select(problem, rank)
    assert direct_loss(problem, selection.order) <= 1e-9 * problem.total


@pytest.mark.parametrize("seed", range(2))
def test_one_of_each_pair_of_copies_goes_first(seed):
    selection = BackwardSolver().select(with_copies(random_problem(seed, n=6), 4), 6)
    assert {node % 6 for node in selection.order} == set(range(6))


def test_dead_nodes_have_no_part_in_it():
    problem, dead = random_problem(3, tau=1e-6), [0, 4, 9]
    alive = [1, 2, 3, 5, 6, 7, 8]
    both = np.ix_(alive, alive)
    small = SelectionProblem(problem.covariance[both], problem.weight[both], problem.ridge[alive])
    kept = BackwardSolver().select(with_dead(problem, dead), 4).support
    assert kept.tolist() == [alive[node] for node in BackwardSolver().select(small, 4).support]
