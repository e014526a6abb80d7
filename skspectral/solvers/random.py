"""Random selection, a baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ..selection.problem import SelectionProblem
from .base import SamplingSolver


class RandomSolver(SamplingSolver):
    """Choose among the live nodes at random.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Seed of the draw.
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import RandomSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 0.0, 2.0]), np.eye(3), np.zeros(3))
    >>> RandomSolver(random_state=0).select(problem, 2).support
    array([0, 2])
    """

    def _order(self, problem: SelectionProblem) -> NDArray[np.intp]:
        draw = check_random_state(self.random_state).permutation(problem.n_nodes)
        dead = problem.covariance.diagonal()[draw] == 0.0
        return draw[np.argsort(dead, kind="stable")]
