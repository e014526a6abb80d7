"""Greedy on covariances at the edge of float64, against fifty digits."""

import numpy as np
import pytest
from mpmath import mp, mpf

from skspectral.solvers import GreedySolver, SelectionProblem

N_NODES, M = 10, 6
ORTHOGONAL = np.linalg.qr(np.random.default_rng(0).normal(size=(N_NODES, N_NODES)))[0]
READERS = np.random.default_rng(1).normal(size=(4, N_NODES))


def spread(exponent):
    """A covariance whose eigenvalues fall from 1 to 10 to the minus exponent."""
    return (ORTHOGONAL * np.logspace(0, -exponent, N_NODES)) @ ORTHOGONAL.T


def with_duplicates():
    nodes = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    return spread(3)[np.ix_(nodes, nodes)]


def with_dead_nodes():
    covariance = spread(8)
    covariance[[1, 4, 7]] = covariance[:, [1, 4, 7]] = 0.0
    return covariance


def of_wide_scales():
    scale = np.logspace(-6, 6, N_NODES)
    return scale[:, None] * spread(4) * scale


COVARIANCES = {
    "condition 1e8": spread(8),
    "condition 1e16": spread(16),
    "duplicates": with_duplicates(),
    "dead nodes": with_dead_nodes(),
    "scales over 1e12": of_wide_scales(),
    "rank 4": spread(3)[:, :4] @ np.linalg.inv(spread(3)[:4, :4]) @ spread(3)[:4],
}


def exact(matrix):
    return mp.matrix([[mpf(float(value)) for value in row] for row in matrix])


def exact_step(E, Q, ridge):
    """Gain of every node, in fifty digits."""
    EQE, gains = E * Q * E, []
    for j in range(N_NODES):
        # What is left of a node that depends on the others is rounding of its input.
        alive = E[j, j] > mpf(10) ** -15 * exact_step.scale[j]
        gains.append(EQE[j, j] / (E[j, j] + ridge) if alive else mpf(0))
    return gains


def exact_take(E, j, ridge):
    return E - E[:, j] * E[j, :] / (E[j, j] + ridge)


def exact_loss(covariance, Q, support, ridge):
    """Loss of a support, in fifty digits."""
    E, Q = exact(covariance), exact(Q)
    for j in support:
        if E[j, j] > mpf(10) ** -15 * mpf(float(covariance[j, j])):
            E = exact_take(E, j, ridge)
    return sum((Q * E)[i, i] for i in range(N_NODES))


def exact_greedy(covariance, Q, ridge):
    exact_step.scale = [mpf(float(value)) for value in covariance.diagonal()]
    E, weight, order = exact(covariance), exact(Q), []
    for _ in range(M):
        gains = exact_step(E, weight, ridge)
        j = max((j for j in range(N_NODES) if j not in order), key=lambda j: gains[j])
        order.append(j)
        if gains[j] > 0:
            E = exact_take(E, j, ridge)
    return order


@pytest.fixture(autouse=True)
def _fifty_digits():
    with mp.workdps(50):
        yield


@pytest.mark.parametrize("tau", [0.0, 1e-6])
@pytest.mark.parametrize("Q", [np.eye(N_NODES), READERS.T @ READERS], ids=["identity", "readers"])
@pytest.mark.parametrize("name", COVARIANCES)
def test_support_is_that_of_fifty_digits_or_a_tie(name, Q, tau):
    covariance = COVARIANCES[name]
    ridge = tau * covariance.diagonal().mean()
    problem = SelectionProblem(covariance, Q, np.full(N_NODES, ridge))
    found = GreedySolver().select(problem, M).order.tolist()
    wanted = exact_greedy(covariance, Q, mpf(ridge))
    if set(found) != set(wanted):
        losses = [float(exact_loss(covariance, Q, order, mpf(ridge))) for order in (found, wanted)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-10, abs=1e-10 * problem.total)
    assert len(set(found)) == M


def test_float32_is_promoted():
    problem = SelectionProblem(
        *(a.astype(np.float32) for a in (spread(3), np.eye(N_NODES))),
        ridge=np.zeros(N_NODES, np.float32),
    )
    assert problem.covariance.dtype == problem.weight.dtype == problem.ridge.dtype == np.float64
    assert GreedySolver().select(problem, M).loss_path.dtype == np.float64
