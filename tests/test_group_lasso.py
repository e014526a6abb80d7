"""The group lasso over the columns of the reconstruction."""

import numpy as np
import pytest
from problems import random_problem

from skspectral.solvers.group_lasso import GroupLasso, group_lasso_supports

SEEDS = pytest.mark.parametrize("seed", range(3))
PARTS = pytest.mark.parametrize("part", [0.02, 0.2, 0.7])


def lasso_of(seed):
    return GroupLasso.from_problem(random_problem(seed, tau=1e-3))


def objective(lasso, columns, penalty):
    quadratic = np.vdot(columns @ lasso.hessian, columns) - 2.0 * np.vdot(columns, lasso.target)
    lengths = np.linalg.norm(columns, axis=0)
    return 0.5 * (lasso.constant + quadratic) + penalty * lengths.sum()


def solved(lasso, part, tol):
    penalty = part * lasso.largest_penalty
    return penalty, *lasso.solve(penalty, np.zeros_like(lasso.target), tol, 10_000)


@SEEDS
def test_without_a_penalty_it_is_the_loss_of_the_reconstruction(seed):
    problem, lasso = random_problem(seed, tau=1e-3), lasso_of(seed)
    everything = lasso.target @ np.linalg.inv(lasso.hessian)
    expected = 0.5 * problem.loss(np.arange(problem.n_nodes))
    np.testing.assert_allclose(objective(lasso, everything, 0.0), expected, rtol=1e-7)


@SEEDS
@PARTS
def test_solution_meets_the_optimality_conditions(seed, part):
    lasso = lasso_of(seed)
    penalty, columns, gap = solved(lasso, part, 1e-10)
    gradient, lengths = columns @ lasso.hessian - lasso.target, np.linalg.norm(columns, axis=0)
    assert gap <= 1e-10
    for g, column, length in zip(gradient.T, columns.T, lengths, strict=True):
        if length:
            np.testing.assert_allclose(g, -penalty * column / length, atol=1e-3 * penalty)
        else:
            assert np.linalg.norm(g) <= penalty * (1.0 + 1e-3)


@SEEDS
@PARTS
@pytest.mark.parametrize("tol", [0.5, 1e-2, 1e-4])
def test_gap_bounds_the_distance_to_the_minimum(seed, part, tol):
    lasso = lasso_of(seed)
    penalty, columns, gap = solved(lasso, part, tol)
    value = objective(lasso, columns, penalty)
    minimum = objective(lasso, solved(lasso, part, 1e-10)[1], penalty)
    assert 0.0 <= gap <= tol
    assert value * (1.0 - gap) <= minimum * (1.0 + 1e-9)
    assert minimum <= value * (1.0 + 1e-9)


@SEEDS
def test_at_the_largest_penalty_no_column_is_used_and_just_below_one_is(seed):
    lasso = lasso_of(seed)
    assert not solved(lasso, 1.0 + 1e-9, 1e-10)[1].any()
    assert np.any(solved(lasso, 0.99, 1e-12)[1], axis=0).sum() == 1


@SEEDS
@pytest.mark.parametrize("m", [1, 4, 9])
def test_the_search_gives_m_nodes_and_the_gap_asked_for(seed, m):
    ((support, gap),) = group_lasso_supports(random_problem(seed), m, 1e-3, 5000)
    assert len(set(support.tolist())) == m
    assert gap <= 1e-3
