"""Exchange: the better of two starting points, both improved by swaps."""

from __future__ import annotations

from ..selection.problem import Selection, SelectionProblem
from .base import Solver
from .greedy import GreedySolver
from .pivoted_cholesky import PivotedCholeskySolver


class ExchangeSolver(Solver):
    """Start from greedy and from pivoted Cholesky, and swap nodes until no swap helps.

    Notes
    -----
    The better of ``GreedySolver(refine=True)`` and ``PivotedCholeskySolver(refine=True)``. A pass
    over all swaps costs O(n_nodes² m).

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
        return min(found, key=lambda selection: selection.loss_path[-1])
