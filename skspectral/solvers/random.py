"""Random selection, the baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ..selection.problem import Array, Selection, SelectionProblem
from .base import Solver
from .residual import extend


class RandomSolver(Solver):
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

    optimizes = False
    nested = True

    def __init__(
        self, random_state: int | np.random.RandomState | None = None, refine: bool = False
    ) -> None:
        self.random_state = random_state
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        draw = check_random_state(self.random_state).permutation(problem.n_nodes)
        dead = problem.covariance.diagonal()[draw] == 0.0
        return extend(problem, draw[np.argsort(dead, kind="stable")], m)


def weighted_permutation(
    problem: SelectionProblem,
    weights: Array,
    random_state: int | np.random.RandomState | None,
) -> NDArray[np.intp]:
    """All nodes in the order in which independent draws by these weights first meet them.

    Gumbel noise on the logarithms of the weights puts each node first with the probability of
    its share in them, and so on among those left. Dead nodes come last.
    """
    level = np.full(problem.n_nodes, -np.inf)
    np.log(weights, out=level, where=weights > 0.0)
    level += check_random_state(random_state).gumbel(size=problem.n_nodes)
    return np.lexsort((-level, problem.covariance.diagonal() == 0.0))
