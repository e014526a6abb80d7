"""The residual of a growing support, one column at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..selection.problem import Array, Selection, SelectionProblem

BLOCK = 256  # columns of a matrix product at a time
FRESH_DIGITS = 1e-8  # of E Q E: half of those of float64


class Residual:
    """``E_J`` for a support that grows node by node, hardly ever formed.

    Kept are only the diagonals of ``E`` and ``E Q E`` and one tall column of each per
    chosen node, so a step costs O(n_nodes · |J|). Once little is left of ``E Q E`` against
    the digits it started with, both matrices are formed anew.

    Parameters
    ----------
    problem : SelectionProblem
        Covariance, weight and ridge.
    capacity : int
        The most nodes that will be added.

    Notes
    -----
    With f the scaled column of E at the chosen node, ``E ← E − f fᵀ``, hence
    ``E Q E = K − V Fᵀ − F Vᵀ + F diag(q) Fᵀ`` with ``K = Σ Q Σ``, ``v = E Q f`` and
    ``q = fᵀ Q f``.
    """

    def __init__(self, problem: SelectionProblem, capacity: int) -> None:
        self._problem = problem
        self._ridge = problem.ridge
        self._diagonal = problem.covariance.diagonal().copy()  # of E
        # Below this an entry of the diagonal is rounding: the node adds nothing.
        self._floor = problem.n_nodes * np.finfo(float).eps * self._diagonal
        self._start_from(problem.covariance)
        self._F = np.empty((problem.n_nodes, capacity), order="F")
        self._V = np.empty((problem.n_nodes, capacity), order="F")
        self._q = np.empty(capacity)

    def _start_from(self, residual: Array) -> None:
        """Use the current E as the Σ of the recursion."""
        self._covariance = residual
        self._curvature = curvature(self._problem, residual)
        self._numerators = self._curvature.diagonal().copy()  # of E Q E
        self._smallest = FRESH_DIGITS * self._numerators.max()
        self._size = 0

    def gains(self) -> Array:
        """Return how much each node would reduce the loss, shape (n_nodes,)."""
        pivots = self._diagonal + self._ridge
        new = self._diagonal > self._floor
        gains = np.zeros_like(pivots)
        np.divide(self._numerators, pivots, out=gains, where=new)
        return np.maximum(gains, 0.0)

    def add(self, node: int) -> None:
        """Add a node to the support."""
        k = self._size
        F, V, q = self._F[:, :k], self._V[:, :k], self._q[:k]
        f, v = self._F[:, k], self._V[:, k]
        if self._diagonal[node] > self._floor[node]:
            scale = np.sqrt(self._diagonal[node] + self._ridge[node])
            f[:] = (self._covariance[:, node] - F @ F[node]) / scale
            curvature = self._curvature[:, node] - F @ (V[node] - q * F[node]) - V @ F[node]
            v[:] = curvature / scale
            self._q[k] = v[node] / scale
        else:
            f[:], v[:], self._q[k] = 0.0, 0.0, 0.0
        self._numerators -= f * (2.0 * v - self._q[k] * f)
        self._diagonal -= f * f
        self._size += 1
        if 0.0 < self._numerators.max() < self._smallest:
            F = self._F[:, : self._size]
            self._start_from(self._covariance - F @ F.T)


def curvature(problem: SelectionProblem, residual: Array) -> Array:
    """Return ``E Q E``; a product of a matrix with itself takes half the time."""
    if problem.identity_scale is not None:
        return problem.identity_scale * (residual.T @ residual)
    product = np.empty_like(residual)
    for start in range(0, problem.n_nodes, BLOCK):  # in blocks, so that no Q E is held whole
        end = start + BLOCK
        columns = residual[start:] @ (problem.weight @ residual[:, start:end])
        product[start:, start:end] = columns
        product[start:end, end:] = columns[BLOCK:].T  # the product is symmetric
    return product


def extend(
    problem: SelectionProblem,
    start: Iterable[int],
    m: int,
    among: Sequence[int] | NDArray[np.intp] | None = None,
) -> Selection:
    """Add given nodes in their order, then greedily up to m.

    Parameters
    ----------
    problem : SelectionProblem
        Covariance, weight and ridge.
    start : iterable of int
        Nodes to begin with, each once; what goes beyond m is left out.
    m : int
        Nodes to keep.
    among : sequence of int, optional
        Nodes that may be added after those given; all if left out.

    Returns
    -------
    Selection
        The nodes in the order they were added, with their losses.

    Raises
    ------
    ValueError
        If start holds a node more than once, or none of the problem.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import SelectionProblem, extend
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> extend(problem, [0], 2).order
    array([0, 1])
    """
    residual = Residual(problem, m)
    # Nodes that never fire come last, whatever the others still gain.
    priority = np.where(problem.covariance.diagonal() > 0.0, 0.0, -1.0)
    if among is not None:
        priority[np.setdiff1d(np.arange(problem.n_nodes), among)] = -np.inf
    given = iter(check_start(list(islice(start, m)), problem.n_nodes))
    order, gains = np.empty(m, dtype=np.intp), np.empty(m)
    for k in range(m):
        gain = residual.gains()
        node = order[k] = next(given, int(np.argmax(gain + priority)))
        gains[k] = gain[node]
        residual.add(node)
        priority[node] = -np.inf
    return Selection(order, np.maximum(problem.total - np.cumsum([0.0, *gains]), 0.0))


def check_start(start: list[int], n_nodes: int) -> list[int]:
    """Return initial nodes after checking that they are distinct nodes of the problem."""
    if len(set(start)) < len(start) or not all(0 <= node < n_nodes for node in start):
        raise ValueError(
            f"start must hold nodes from 0 to {n_nodes - 1}, each once; got "
            f"{[int(node) for node in start]}."
        )
    return start
