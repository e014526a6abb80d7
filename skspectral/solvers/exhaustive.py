"""Exact selection by branch and bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..selection.problem import Array, Selection, SelectionProblem, symmetric_root
from .base import Solver
from .residual import extend

ROUNDING = 1e-13  # of the whole: what is less is none


class ExhaustiveSolver(Solver):
    """Find the support with the smallest loss of all, by branch and bound.

    A branch has taken some nodes and ruled out others. It is cut when the best subspace of the
    dimension still to fill, within the span of the nodes still free, would not lower the
    loss below the best support known, at first the greedy one. The nodes are ordered greedily.

    Parameters
    ----------
    max_nodes : int, default=25
        The most nodes to choose from; the time can double with each.

    Raises
    ------
    ValueError
        If the problem has more than ``max_nodes`` nodes.

    Notes
    -----
    Node j is a vector ``x_j``, with ``x_iᵀx_j = Σ[i, j] + δ_ij τ_j``, and a support lowers the
    loss by ``Tr M P_J``, where ``P_J`` projects onto its vectors and M does not depend on J. Of
    the free nodes, k lower it by no more than the k largest eigenvalues of ``P M P``, where P
    projects onto the span of all of them.

    References
    ----------
    .. [1] P. M. Narendra and K. Fukunaga, *A Branch and Bound Algorithm for Feature Subset
       Selection*, IEEE Transactions on Computers C-26(9), 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import ExhaustiveSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> ExhaustiveSolver().select(problem, 2).order
    array([1, 2])
    """

    def __init__(self, max_nodes: int = 25) -> None:
        self.max_nodes = max_nodes

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        if problem.n_nodes > self.max_nodes:
            raise ValueError(
                f"ExhaustiveSolver takes at most max_nodes={self.max_nodes} nodes and was given "
                f"{problem.n_nodes}; raise max_nodes, if the time allows, or take another solver."
            )
        live = np.flatnonzero(problem.covariance.diagonal() > 0.0)
        greedy = extend(problem, (), m)
        if len(live) <= m:
            return greedy
        search = Search(*vectors(problem, live), np.searchsorted(live, greedy.order))
        # Where fewer nodes lose nothing more, any others will do.
        best = extend(problem, live[search.run()], m)
        return extend(problem, (), m, among=best.order)


def vectors(problem: SelectionProblem, live: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the ``x_j`` as columns of unit length, and a root W of ``M = W Wᵀ``."""
    both = np.ix_(live, live)
    covariance, ridge = problem.covariance[both], problem.ridge[live]
    size = np.sqrt(covariance.diagonal() + ridge)
    spectrum, axes = linalg.eigh((covariance + np.diag(ridge)) / size / size[:, None])
    positive = spectrum > len(live) * np.finfo(float).eps * spectrum[-1]
    stretch, axes = np.sqrt(spectrum[positive]), axes[:, positive]
    W = (axes / stretch).T @ (covariance / size[:, None]) @ symmetric_root(problem.weight[both])
    return stretch[:, None] * axes.T, W


class Search:
    """Depth-first search for the columns of X whose span holds most of W."""

    def __init__(self, X: Array, W: Array, start: NDArray[np.intp]) -> None:
        self._X, self._W = X, W
        self._slack = ROUNDING * np.vdot(W, W)
        self._best = list(start)
        self._most = np.square(linalg.orth(X[:, start]).T @ W).sum()  # Tr M P_J of the best

    def run(self) -> list[int]:
        """Return the best columns; fewer than m where more would add nothing."""
        self._branch(self._X, np.arange(self._X.shape[1]), [], len(self._best), 0.0)
        return self._best

    def _branch(
        self, X: Array, free: NDArray[np.intp], taken: list[int], k: int, gained: float
    ) -> None:
        """Try up to k more of the free columns, X being what those taken leave of it."""
        if gained > self._most + self._slack:
            self._best, self._most = taken, gained
        if k == 0:
            return
        gains = explained(X[:, free], self._W)
        order = np.argsort(-gains)[: np.count_nonzero(gains)]
        free, gains = free[order], gains[order]
        candidates = zip(free, gains, self._cuts(X[:, free], k), strict=False)
        for i, (node, gain, cut) in enumerate(candidates, start=1):
            if gained + cut <= self._most + self._slack:
                break
            axis = X[:, node] / linalg.norm(X[:, node])
            rest = X - np.outer(axis, axis @ X)
            self._branch(rest, free[i:], [*taken, int(node)], k - 1, gained + gain)

    def _cuts(self, X: Array, k: int) -> Iterator[float]:
        """Return the most that k of the columns from the i-th on can gain, for every i."""
        n = X.shape[1]
        basis = linalg.qr(X[:, ::-1], mode="economic", check_finite=False)[0]
        inside = basis.T @ self._W
        inside = inside @ inside.T
        for i in range(n):
            yield float(np.linalg.eigvalsh(inside[: n - i, : n - i])[-k:].sum())


def explained(X: Array, W: Array) -> Array:
    """Return how much of W each column of X spans; zero where the column is rounding error."""
    length = np.einsum("ij,ij->j", X, X)
    inside = W.T @ X
    gains = np.zeros_like(length)
    return np.divide(
        np.einsum("ij,ij->j", inside, inside), length, out=gains, where=length > ROUNDING
    )
