"""Sampling by the norms of columns."""

from __future__ import annotations

import numpy as np

from ..selection.problem import Selection, SelectionProblem
from .base import Solver
from .random import weighted_permutation
from .residual import extend


class ColumnNormSolver(Solver):
    """Draw nodes with probabilities proportional to ``‖Σ[:, j]‖²``.

    The classical column sampling [1]_ of a low-rank approximation, here of Σ, without
    replacement: a comparison method.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Seed of the draws.
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    References
    ----------
    .. [1] A. Frieze, R. Kannan and S. Vempala, *Fast Monte-Carlo Algorithms for Finding
       Low-Rank Approximations*, Journal of the ACM 51(6), 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import ColumnNormSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 0.0, 2.0]), np.eye(3), np.zeros(3))
    >>> ColumnNormSolver(random_state=0).select(problem, 2).support
    array([0, 2])
    """

    optimizes = False
    nested = True

    def __init__(
        self, random_state: int | np.random.RandomState | None = None, refine: bool = False
    ) -> None:
        self.random_state = random_state
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        weights = np.einsum("ij,ij->j", problem.covariance, problem.covariance)
        return extend(problem, weighted_permutation(problem, weights, self.random_state), m)
