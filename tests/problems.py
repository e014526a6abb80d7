"""Selection problems of known kind."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from skspectral.solvers import SelectionProblem


def random_problem(seed=0, n=10, rank=None, tau=0.0, weight="general"):
    """States without ties between nodes; Q general, or the identity."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(rank or n, n)) * rng.uniform(0.5, 2.0, size=n)
    covariance = states.T @ states / len(states)
    readers = rng.normal(size=(max(2, n // 2), n))
    Q = np.eye(n) if weight == "identity" else readers.T @ readers + 0.1 * np.eye(n)
    ridge = np.full(n, tau * covariance.diagonal().mean())
    return SelectionProblem(covariance, Q, ridge, magnitude=rng.uniform(size=n))


def echo_problem(seed=0, n=25, tau=1e-6):
    """States of a random network of rectified units: correlated, with a long spectrum."""
    rng = np.random.default_rng(seed)
    weight_hh, weight_ih = rng.normal(size=(n, n)) * 0.9 / np.sqrt(n), rng.normal(size=(n, 4))
    states = np.zeros((21, 200, n))
    for t in range(20):
        drive = rng.normal(size=(200, 4)) @ weight_ih.T
        states[t + 1] = np.maximum(states[t] @ weight_hh.T + drive, 0.0)
    covariance = np.einsum("tsi,tsj->ij", states, states) / (20 * 200)
    readers = np.vstack([np.eye(n), weight_hh, rng.normal(size=(10, n))])
    ridge = np.full(n, tau * covariance.diagonal().mean())
    magnitude = np.linalg.norm(weight_hh, axis=1)
    return SelectionProblem(covariance, readers.T @ readers, ridge, magnitude)


def permuted(problem, p):
    """The same problem with node ``p[i]`` called i."""
    both = np.ix_(p, p)
    return SelectionProblem(
        problem.covariance[both], problem.weight[both], problem.ridge[p], problem.magnitude[p]
    )


def with_dead(problem, dead):
    """The same problem, in which some nodes never fire."""
    covariance = problem.covariance.copy()
    covariance[dead], covariance[:, dead] = 0.0, 0.0
    return replace(problem, covariance=covariance)


def with_copies(problem, n_copies):
    """The same problem with its first nodes once more at the end."""
    nodes = [*range(problem.n_nodes), *range(n_copies)]
    both = np.ix_(nodes, nodes)
    weight = np.zeros_like(problem.covariance[both])
    weight[: problem.n_nodes, : problem.n_nodes] = problem.weight
    ridge, magnitude = problem.ridge[nodes], problem.magnitude[nodes]
    return SelectionProblem(problem.covariance[both], weight, ridge, magnitude)


def planted(n_sources=3, n_mixtures=5, seed=0):
    """Sources that are read, hidden among noisy mixtures of them; and where they are.

    The sources alone have no loss: a mixture has noise, and gains less than the best source in it.
    """
    rng = np.random.default_rng(seed)
    n = n_sources + n_mixtures
    variances = np.arange(1.0, n_sources + 1.0)
    mixing = np.vstack([np.eye(n_sources), rng.uniform(0.5, 1.0, size=(n_mixtures, n_sources))])
    covariance = mixing * variances @ mixing.T
    covariance[n_sources:, n_sources:] += 0.5 * np.eye(n_mixtures)
    weight = np.diag([1.0] * n_sources + [0.0] * n_mixtures)
    p = rng.permutation(n)
    problem = SelectionProblem(covariance, weight, np.zeros(n), covariance.diagonal())
    return permuted(problem, p), np.flatnonzero(p < n_sources)


@st.composite
def degenerate_problems(draw, max_nodes=7):
    """Problems of any rank, with dead nodes, copied nodes, blind weights and any ridge."""
    n = draw(st.integers(2, max_nodes))
    rank = draw(st.integers(1, n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states = rng.normal(size=(rank, n))
    for node in draw(st.sets(st.integers(0, n - 1), max_size=n - 1)):
        states[:, node] = 0.0 if draw(st.booleans()) else states[:, (node + 1) % n]
    covariance = states.T @ states / rank
    readers = rng.normal(size=(draw(st.integers(1, n)), n))
    tau = draw(st.sampled_from([0.0, 1e-6, 1e-2]))
    ridge = np.full(n, tau * covariance.diagonal().mean())
    return SelectionProblem(covariance, readers.T @ readers, ridge, rng.uniform(size=n))
