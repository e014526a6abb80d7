"""The nodes of the largest weights."""

from __future__ import annotations

import numpy as np

from ..selection.problem import Selection, SelectionProblem
from .base import Solver
from .residual import extend


class MagnitudeSolver(Solver):
    """Keep the live nodes with the largest weights into them.

    It sees the weights of the layer and no data: a comparison method.

    Parameters
    ----------
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Notes
    -----
    ``SelectionProblem.magnitude`` has to be given.

    References
    ----------
    .. [1] S. Han, J. Pool, J. Tran and W. J. Dally, *Learning both Weights and Connections for
       Efficient Neural Networks*, NeurIPS 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import MagnitudeSolver, SelectionProblem
    >>> norms = np.array([0.5, 0.1, 0.9])
    >>> problem = SelectionProblem(np.eye(3), np.eye(3), np.zeros(3), magnitude=norms)
    >>> MagnitudeSolver().select(problem, 2).order
    array([2, 0])
    """

    optimizes = False
    nested = True

    def __init__(self, refine: bool = False) -> None:
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        if problem.magnitude is None:
            raise ValueError(
                "MagnitudeSolver goes by the magnitude of the SelectionProblem, which is None; "
                "give it the norm of the weights into each node."
            )
        dead = problem.covariance.diagonal() == 0.0
        return extend(problem, np.lexsort((-problem.magnitude, dead)), m)
