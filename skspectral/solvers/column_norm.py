"""Sampling by the norms of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..selection.problem import SelectionProblem
from .base import SamplingSolver, weighted_permutation


class ColumnNormSolver(SamplingSolver):
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

    def _order(self, problem: SelectionProblem) -> NDArray[np.intp]:
        weights = np.einsum("ij,ij->j", problem.covariance, problem.covariance)
        return weighted_permutation(problem, weights, self.random_state)
