"""Selection by variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..selection.problem import SelectionProblem
from .base import OrderSolver


class VarianceSolver(OrderSolver):
    """Keep the nodes of largest second moment ``Σ[j, j]``.

    It sees neither what the nodes share nor what is read of them: a comparison method.

    Parameters
    ----------
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import SelectionProblem, VarianceSolver
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> VarianceSolver().select(problem, 2).order
    array([1, 2])
    """

    def _order(self, problem: SelectionProblem) -> NDArray[np.intp]:
        return np.argsort(-problem.covariance.diagonal(), kind="stable")
