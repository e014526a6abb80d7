"""Convex relaxations, rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..selection.problem import Selection, SelectionProblem
from ..utils.warn_user import warn_user
from .base import Solver
from .design import design_supports
from .exchange import ExchangeSolver
from .group_lasso import group_lasso_supports
from .residual import extend
from .swaps import exchange

RELAXATIONS = {"design": design_supports, "group_lasso": group_lasso_supports}
PATIENCE = 2  # rounded solutions in a row that are no better


class ConvexSolver(Solver):
    """Solve a convex relaxation, then keep its m largest nodes, or the greedy ones if better.

    In the A-optimal design (``"design"``) node j is not kept or lost, but seen through noise
    of variance ``r / z_j``, and the loss of what cannot be rebuilt from all these views is
    convex in z::

        min_z  Tr Q (Σ − Σ (Σ + r diag(1/z))⁻¹ Σ),   0 ≤ z_j ≤ 1,   Σ_j z_j = m

    It is solved for several noise levels r, from coarse to fine, until the rounded solution
    stops getting better. In the group lasso (``"group_lasso"``) the reconstruction may
    use every node but pays for each::

        min_C  ½ Tr (S − C) Σ (S − C)ᵀ + ½ Tr C I_τ Cᵀ + λ Σ_j ‖C[:, j]‖,   SᵀS = Q

    with λ found by bisection so that m columns are left.

    Parameters
    ----------
    relaxation : {"design", "group_lasso"}, default="design"
        Which problem is solved.
    tol : float, default=1e-2
        Gap between the relaxed loss and its lower bound at which a solve stops, as a
        fraction of the relaxed loss.
    max_iter : int, default=1000
        Most steps of a solve: projected gradients, or sweeps over the columns.
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss, from every rounded solution and from
        the starts of :class:`ExchangeSolver`.

    Warns
    -----
    ConvergenceWarning
        When the solution taken has a larger gap than ``tol``; the gap is in the message
        and in ``Selection.gap``.

    Notes
    -----
    The gap of the design is that of its linearization, the gap of the group lasso that of
    a scaled residual, which is feasible in the dual. A step costs O(n_nodes³) or
    O(n_nodes² m).

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import ConvexSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> ConvexSolver().select(problem, 2).support
    array([1, 2])
    """

    def __init__(
        self,
        relaxation: str = "design",
        tol: float = 1e-2,
        max_iter: int = 1000,
        refine: bool = False,
    ) -> None:
        self.relaxation = relaxation
        self.tol = tol
        self.max_iter = max_iter
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        if self.relaxation not in RELAXATIONS:
            raise ValueError(
                f"relaxation must be one of {', '.join(RELAXATIONS)}; got {self.relaxation!r}."
            )
        if m == problem.n_nodes or problem.total == 0.0:
            return replace(extend(problem, (), m), gap=0.0)
        best, gap, support, n_worse = np.inf, 0.0, np.arange(m), 0
        if self.refine:  # to begin from what swaps find without the relaxation
            support = ExchangeSolver().select(problem, m).support
            best = problem.loss(support)
        for rounded, its_gap in RELAXATIONS[self.relaxation](problem, m, self.tol, self.max_iter):
            found = exchange(problem, rounded) if self.refine else rounded
            loss = problem.loss(np.sort(found))
            if loss < best:
                best, gap, support, n_worse = loss, its_gap, found, 0
            else:
                n_worse += 1
            if n_worse == PATIENCE and not self.refine:
                break
        self._warn_of(gap)
        # Of nodes that are copies of each other a relaxation may take all; greedy never does.
        either = (extend(problem, (), m, among=support), extend(problem, (), m))
        return replace(min(either, key=lambda selection: selection.loss_path[-1]), gap=gap)

    def _warn_of(self, gap: float) -> None:
        if gap > self.tol:
            warn_user(
                f"ConvexSolver stopped with a gap of {gap:.1e}, above tol={self.tol:g}; "
                f"raise max_iter (now {self.max_iter}) or tol.",
                ConvergenceWarning,
            )
