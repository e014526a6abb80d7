"""The laws of a solver, for those who write one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.base import clone

from ..selection.problem import Array, SelectionProblem
from .base import Solver

ARRAYS = ("covariance", "weight", "ridge", "magnitude")  # of a problem


def check_solver(solver: Solver) -> None:
    """Check that a solver keeps the laws of a selection.

    The solver chooses from small problems of several kinds: with a dense weight or the identity,
    with and without a ridge, of low rank, with copied nodes, and with nodes that never fire. Its
    losses must be those of :meth:`SelectionProblem.loss` and must not increase along the order;
    nodes that never fire must come last; a fixed ``random_state`` must give the same choice again;
    and the problem must not be changed.

    Parameters
    ----------
    solver : Solver
        The solver. It is cloned, and a parameter ``random_state`` is set to 0.

    Raises
    ------
    AssertionError
        If a law is broken; the message says which, and on which problem.
    TypeError, ValueError
        If the solver gives something other than a selection of m nodes.

    Examples
    --------
    >>> from skspectral.solvers import GreedySolver, check_solver
    >>> check_solver(GreedySolver())
    """
    solver = clone(solver)
    if "random_state" in solver.get_params():
        solver.set_params(random_state=0)
    for name, problem in problems().items():
        for m in (1, problem.n_nodes // 2, problem.n_nodes):
            where = f"{type(solver).__name__}, problem {name!r}, m={m}"
            check_selection(solver, problem, m, where)


def check_selection(solver: Solver, problem: SelectionProblem, m: int, where: str) -> None:
    """Check one choice, made twice."""
    before = {name: getattr(problem, name).copy() for name in ARRAYS}
    selection, again = solver.select(problem, m), solver.select(problem, m)
    for name, array in before.items():
        assert np.array_equal(array, getattr(problem, name)), f"{where}: the problem was changed."
    assert np.array_equal(selection.order, again.order), (
        f"{where}: the same problem and random_state gave other nodes."
    )
    path, slack = np.asarray(selection.loss_path), 1e-9 * problem.total
    assert path.shape == (m + 1,), (
        f"{where}: loss_path must hold {m + 1} losses, from that of no node to that of all m; got "
        f"shape {path.shape}."
    )
    losses = [problem.loss(selection.order[:k]) for k in range(m + 1)]
    assert np.allclose(path, losses, rtol=0.0, atol=slack), (
        f"{where}: loss_path must hold the losses of the first 0, 1, … nodes of order, as "
        "problem.loss computes them."
    )
    assert (np.diff(path) <= 0.0).all(), f"{where}: loss_path must not increase."
    live = np.flatnonzero(problem.covariance.diagonal())
    assert np.isin(selection.order[: len(live)], live).all(), (
        f"{where}: nodes whose covariance is zero must come last."
    )


def problems() -> dict[str, SelectionProblem]:
    """Return one problem of every kind, of 8 nodes."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(20, 8)) * rng.uniform(0.5, 2.0, size=8)
    readers, magnitude = rng.normal(size=(5, 8)), rng.uniform(size=8)
    copied, dead = states.copy(), states.copy()
    copied[:, 4:6] = copied[:, :2]
    dead[:, [1, 6]] = 0.0
    dense = problem_of(states, readers.T @ readers, 0.0, magnitude)
    return {
        "dense weight": dense,
        "identity": replace(dense, weight=np.eye(8)),
        "ridge": problem_of(states, dense.weight, 1e-3, magnitude),
        "low rank": problem_of(states[:3], dense.weight, 0.0, magnitude),
        "copied nodes": problem_of(copied, dense.weight, 1e-6, magnitude),
        "dead nodes": problem_of(dead, dense.weight, 1e-6, magnitude),
    }


def problem_of(states: Array, weight: Array, tau: float, magnitude: Array) -> SelectionProblem:
    """Return the problem of states, with a ridge relative to their mean variance."""
    covariance = states.T @ states / len(states)
    ridge = np.full(len(covariance), tau * covariance.diagonal().mean())
    return SelectionProblem(covariance, weight, ridge, magnitude)
