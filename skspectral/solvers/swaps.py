"""Swaps of a kept node for another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..selection.problem import Array, Selection, SelectionProblem
from .residual import extend

SMALLEST_GAIN = 1e-10  # of the loss of the empty support; below it a swap is rounding
N_CHAINED, MOST_ENTRIES = 128, 2**22  # swaps, and entries of Σ that they may take in all
TENURE = 5  # most swaps for which a node that was swapped stays where it is
SMALLEST_RIDGE = 1e-10  # of the variance of a node; keeps the inverse of a singular block in hand


Improve: TypeAlias = Callable[[SelectionProblem, NDArray[np.intp]], NDArray[np.intp]]


def exchange(
    problem: SelectionProblem, support: NDArray[np.intp], max_passes: int = 50
) -> NDArray[np.intp]:
    """Swap one kept node for another as long as that reduces the loss.

    Each pass rates all swaps at once, by matrix products in O(n_nodes² m), then goes
    through the kept nodes that had a good one, the best first, rating each again before
    it is swapped.

    Parameters
    ----------
    problem : SelectionProblem
        Covariance, weight and ridge.
    support : ndarray of int, shape (m,)
        The nodes to begin with.
    max_passes : int, default=50
        Most passes.

    Returns
    -------
    ndarray of int, shape (m,)
        Nodes of a loss that is no higher, and that no swap lowers.
    """
    if len(support) == problem.n_nodes:
        return support
    best = problem.loss(np.sort(support))
    for _ in range(max_passes):
        swapped = swap_sweep(problem, support)
        loss = problem.loss(np.sort(swapped))
        if loss >= best - SMALLEST_GAIN * problem.total:
            break
        support, best = swapped, loss
    return support


def chained(problem: SelectionProblem, support: NDArray[np.intp]) -> NDArray[np.intp]:
    """Go on swapping where no swap lowers the loss, and return the best support on the way.

    This is a tabu search: each time it makes the best swap, even if it raises the loss, of nodes
    that were not swapped lately. Its length falls with the size of the problem; a thousand nodes
    are too many.

    Parameters
    ----------
    problem : SelectionProblem
        Covariance, weight and ridge.
    support : ndarray of int, shape (m,)
        The nodes to begin with.

    Returns
    -------
    ndarray of int, shape (m,)
        Nodes of a loss that is no higher.
    """
    n_swaps = min(N_CHAINED, MOST_ENTRIES // problem.n_nodes**2)
    is_active = problem.covariance.diagonal() > 0.0  # a node that never fires is never swapped in
    n_others = int(is_active.sum() - is_active[support].sum())
    best, loss = support, problem.loss(np.sort(support))
    if n_others == 0 or n_swaps < TENURE or loss <= SMALLEST_GAIN * problem.total:
        return support
    tenure = min(TENURE, len(support) // 2, n_others // 2)
    free_from = np.zeros(problem.n_nodes, dtype=int)
    for number in range(n_swaps):
        free = free_from <= number
        gains = ExchangeState(problem, support).all_gains()
        gains[~free[support]] = gains[:, ~(free & is_active)] = -np.inf
        place, node = np.unravel_index(gains.argmax(), gains.shape)
        free_from[[support[place], node]] = number + 1 + tenure
        support = np.where(np.arange(len(support)) == place, node, support)
        if (found := problem.loss(np.sort(support))) < loss - SMALLEST_GAIN * problem.total:
            best, loss = support, found
    return exchange(problem, best)


def refined(
    problem: SelectionProblem, selection: Selection, improve: Improve = exchange
) -> Selection:
    """Return a selection improved by swaps, its nodes in greedy order."""
    support = improve(problem, selection.support)
    better = extend(problem, (), len(support), among=support)
    return replace(better, gap=selection.gap)


def swap_sweep(problem: SelectionProblem, support: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rate all swaps, then try the promising ones, the best first."""
    state = ExchangeState(problem, support)
    threshold = SMALLEST_GAIN * problem.total
    gains = state.all_gains().max(axis=1)
    promising = np.flatnonzero(gains > threshold)
    for place in promising[np.argsort(-gains[promising])]:
        state.swap_if_better(place, threshold)
    return state.support


class ExchangeState:
    """State that rates swaps and is updated by them.

    Taking node i out of the support adds ``u uᵀ`` to the residual E, with u the column of the
    reconstruction A over the root of the entry of ``P = (Σ[J, J] + I_τ)⁻¹``; putting node j in
    takes ``f fᵀ`` away, with f the scaled column j of E.
    """

    def __init__(self, problem: SelectionProblem, support: NDArray[np.intp]) -> None:
        self.problem = problem
        self.support = support.copy()
        diagonal = problem.covariance.diagonal()
        floored = np.maximum(problem.ridge, SMALLEST_RIDGE * diagonal)
        self._ridge = np.where(diagonal > 0.0, floored, 1.0)  # a dead node may have any
        columns = problem.covariance[:, support]
        kept = columns[support] + np.diag(self._ridge[support])
        factor = linalg.cholesky(kept, lower=True)
        self._P = linalg.cho_solve((factor, True), np.eye(len(support)))
        self._A = columns @ self._P
        half = linalg.solve_triangular(factor, columns.T, lower=True)
        self._diagonal = diagonal - np.einsum("ij,ij->j", half, half)  # of E
        self._numerators = self._diagonal_of_EQE(columns)

    def _diagonal_of_EQE(self, columns: Array) -> Array:
        residual = self.problem.covariance - self._A @ columns.T
        return np.einsum("ij,ij->j", self.problem.weigh(residual), residual)

    def _residual_times(self, x: Array) -> Array:
        """Return ``E x``."""
        y = self.problem.covariance @ x
        return y - self._A @ y[self.support]

    def all_gains(self) -> Array:
        """Return how much each swap reduces the loss, shape (m, n_nodes)."""
        U = self._A / np.sqrt(self._P.diagonal())
        QU = self.problem.weigh(U)
        return self._gains(U.T, self._residual_times(QU).T, np.einsum("ij,ij->j", U, QU)[:, None])

    def _gains(self, u: Array, g: Array, w: Array | float) -> Array:
        """Return the gain of every swap, given u of the removed node, ``E Q u`` and ``uᵀ Q u``."""
        squares = u * u
        added = self._numerators + 2.0 * u * g + squares * w
        added /= np.maximum(self._diagonal, 0.0) + self._ridge + squares
        added[..., self.support] = -np.inf
        return added - w

    def swap_if_better(self, place: int, threshold: float) -> bool:
        """Swap the node at a place of the support for the best other one, if that helps."""
        if self._P[place, place] <= 0.0:  # lost to rounding; the next pass starts afresh
            return False
        u = self._A[:, place] / np.sqrt(self._P[place, place])
        Qu = self.problem.weigh(u)
        g, w = self._residual_times(Qu), u @ Qu
        gains = self._gains(u, g, w)
        node = int(gains.argmax())
        if gains[node] <= threshold:
            return False
        self._take_out(place, u, g, w)
        self._put_in(place, node)
        return True

    def _take_out(self, place: int, u: Array, g: Array, w: float) -> None:
        row = self._P[place] / np.sqrt(self._P[place, place])
        self._A -= np.outer(u, row)
        self._P -= np.outer(row, row)
        self._A[:, place] = self._P[place] = self._P[:, place] = 0.0
        self._diagonal += u * u
        self._numerators += u * (2.0 * g + w * u)

    def _put_in(self, place: int, node: int) -> None:
        b = self._A[node].copy()
        e = self.problem.covariance[:, node] - self._A @ self.problem.covariance[self.support, node]
        scale = np.sqrt(max(e[node], 0.0) + self._ridge[node])
        f, b = e / scale, b / scale
        Qf = self.problem.weigh(f)
        v = self._residual_times(Qf)
        self._numerators -= f * (2.0 * v - (f @ Qf) * f)
        self._diagonal -= f * f
        self._A -= np.outer(f, b)
        self._P += np.outer(b, b)
        self._A[:, place] = f / scale
        self._P[place] = self._P[:, place] = -b / scale
        self._P[place, place] = 1.0 / scale**2
        self.support[place] = node
