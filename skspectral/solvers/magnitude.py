"""Selection by the magnitude of weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..selection.problem import SelectionProblem
from .base import OrderSolver


class MagnitudeSolver(OrderSolver):
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

    def _order(self, problem: SelectionProblem) -> NDArray[np.intp]:
        if problem.magnitude is None:
            raise ValueError(
                "MagnitudeSolver needs the magnitude of the SelectionProblem, which is None; give "
                "the norm of the weights into each node."
            )
        dead = problem.covariance.diagonal() == 0.0
        return np.lexsort((-problem.magnitude, dead))
