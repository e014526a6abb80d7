"""The residual of a growing support, one column at a time."""

from __future__ import annotations

import numpy as np

from .problem import Array, SelectionProblem


class Residual:
    """``E_J`` for a support that grows node by node, without ever forming it.

    Kept are only the diagonals of ``E`` and ``E Q E`` and one tall column of each per
    chosen node, so a step costs O(n_nodes · |J|).

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
        covariance = problem.covariance
        self._covariance = covariance
        self._ridge = problem.ridge
        self._curvature = covariance @ problem.weight @ covariance  # K
        self._diagonal = covariance.diagonal().copy()  # of E
        self._numerators = self._curvature.diagonal().copy()  # of E Q E
        # Below this an entry of the diagonal is rounding: the node adds nothing.
        self._floor = problem.n_nodes * np.finfo(float).eps * self._diagonal
        self._F = np.empty((problem.n_nodes, capacity), order="F")
        self._V = np.empty((problem.n_nodes, capacity), order="F")
        self._q = np.empty(capacity)
        self._size = 0

    def gains(self) -> Array:
        """How much each node would lower the loss, shape (n_nodes,)."""
        pivots = self._diagonal + self._ridge
        new = self._diagonal > self._floor
        gains = np.zeros_like(pivots)
        np.divide(self._numerators, pivots, out=gains, where=new)
        return np.maximum(gains, 0.0)

    def add(self, node: int) -> None:
        """Put a node into the support."""
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
