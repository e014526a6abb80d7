"""The loudest nodes."""

from __future__ import annotations

import numpy as np

from ..selection.problem import Selection, SelectionProblem
from .base import Solver
from .residual import extend


class VarianceSolver(Solver):
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

    optimizes = False
    nested = True

    def __init__(self, refine: bool = False) -> None:
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        return extend(problem, np.argsort(-problem.covariance.diagonal(), kind="stable"), m)
