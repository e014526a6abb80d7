"""Random selection, the baseline."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from .base import Solver
from .greedy import extend
from .problem import Selection, SelectionProblem


class RandomSolver(Solver):
    """Choose among the live nodes at random.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Seed of the draw.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import RandomSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 0.0, 2.0]), np.eye(3), np.zeros(3))
    >>> RandomSolver(random_state=0).select(problem, 2).support
    array([0, 2])
    """

    def __init__(self, random_state: int | np.random.RandomState | None = None) -> None:
        self.random_state = random_state

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        draw = check_random_state(self.random_state).permutation(problem.n_nodes)
        dead = problem.covariance.diagonal()[draw] == 0.0
        return extend(problem, draw[np.argsort(dead, kind="stable")], m)
