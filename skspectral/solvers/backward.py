"""Backward elimination."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import blas

from ..selection.problem import Array, Selection, SelectionProblem
from .base import Solver
from .residual import extend

FLOOR = 1e-10  # least ridge, as a fraction of a node's second moment


class BackwardSolver(Solver):
    """Remove the node whose removal costs least, until m are left.

    With ``P = (Σ[J, J] + I_τ)⁻¹`` and ``A = Σ[:, J] P``, removing node i from J raises the loss
    by ``A[:, i]ᵀ Q A[:, i] / P[i, i]``. It starts from all live nodes. The kept nodes are
    ordered greedily.

    Parameters
    ----------
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Notes
    -----
    A removal changes P and ``AᵀQA`` by matrices of rank one and two, O(n_nodes²). The
    elimination takes the ridge of a node as at least 1e-10 of its second moment, so that P
    exists where nodes are combinations of others; the losses in the selection are exact. Where
    there are many such nodes, little tells them apart at first, and forward selection
    usually does better.

    References
    ----------
    .. [1] C. Couvreur and Y. Bresler, *On the Optimality of the Backward Greedy Algorithm for
       the Subset Selection Problem*, SIAM Journal on Matrix Analysis and Applications 21(3),
       2000.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import BackwardSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> BackwardSolver().select(problem, 2).order
    array([1, 2])
    """

    def __init__(self, refine: bool = False) -> None:
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        live = np.flatnonzero(problem.covariance.diagonal() > 0.0)
        if len(live) <= m:
            return extend(problem, (), m)
        P, C = prepare(problem, live)
        stays = np.ones(len(live), dtype=bool)
        for _ in range(len(live) - m):
            cost = np.full(len(live), np.inf)
            np.divide(C.diagonal(), P.diagonal(), out=cost, where=stays)
            cheapest = np.argmin(cost)
            stays[cheapest] = False
            P, C = without(P, C, cheapest)
        return extend(problem, (), m, among=live[stays])


def prepare(problem: SelectionProblem, kept: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return P and ``AᵀQA`` of the kept nodes, each node scaled to unit size."""
    columns = problem.covariance[:, kept]
    variance = problem.covariance.diagonal()[kept]
    size = np.sqrt(variance)
    inner = columns[kept] / size / size[:, None]
    inner[np.diag_indices_from(inner)] += np.maximum(problem.ridge[kept] / variance, FLOOR)
    factor = linalg.cho_factor(inner)
    rebuilding = linalg.cho_solve(factor, (columns / size).T)
    P = linalg.cho_solve(factor, np.eye(len(kept)))
    return np.asfortranarray(P), np.asfortranarray(rebuilding @ problem.weigh(rebuilding.T))


def without(P: Array, C: Array, i: np.intp) -> tuple[Array, Array]:
    """Remove node i from P and ``AᵀQA`` in place; its row and column become zero."""
    pivot, ratio = P[i, i], P[:, i] / P[i, i]
    change = C[:, i] - 0.5 * C[i, i] * ratio
    P = blas.dger(-pivot, ratio, ratio, a=P, overwrite_a=True)
    C = blas.dger(-1.0, change, ratio, a=C, overwrite_a=True)
    return P, blas.dger(-1.0, ratio, change, a=C, overwrite_a=True)
