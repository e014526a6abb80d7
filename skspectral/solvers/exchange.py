"""Exchange: the better of two starting points, improved by swaps."""

from __future__ import annotations

from ..selection.problem import Selection, SelectionProblem
from .base import Solver
from .greedy import GreedySolver
from .pivoted_cholesky import PivotedCholeskySolver
from .swaps import chained, refined


class ExchangeSolver(Solver):
    """Start from greedy and from pivoted Cholesky, and go on swapping nodes where no swap helps.

    Notes
    -----
    From the better of ``GreedySolver(refine=True)`` and ``PivotedCholeskySolver(refine=True)``, a
    tabu search [1]_ of up to 128 further swaps goes on, and the best support on the way is taken;
    of more than about 900 nodes there is none. To rate all swaps takes O(n_nodes² m).

    References
    ----------
    .. [1] F. Glover, "Tabu search, part I", ORSA Journal on Computing 1 (1989).

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import ExchangeSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> ExchangeSolver().select(problem, 2).support
    array([1, 2])
    """

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        starts = (GreedySolver(refine=True), PivotedCholeskySolver(refine=True))
        found = [start.select(problem, m) for start in starts]
        best = min(found, key=lambda selection: selection.loss_path[-1])
        return refined(problem, best, chained)
