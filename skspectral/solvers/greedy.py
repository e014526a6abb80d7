"""Forward greedy selection."""

from __future__ import annotations

from ..selection.problem import Selection, SelectionProblem
from .base import Solver
from .residual import extend


class GreedySolver(Solver):
    """Add the node that lowers the loss most, m times.

    The gain of node j is ``E[:, j]ᵀ Q E[:, j] / (E[j, j] + τ_j)``, exact at every step.
    The order is nested: the first k nodes are the greedy choice of k.

    Parameters
    ----------
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Notes
    -----
    Costs two products of (n_nodes, n_nodes) matrices and O(n_nodes m²) after that.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import GreedySolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> GreedySolver().select(problem, 2).order
    array([1, 2])
    """

    nested = True

    def __init__(self, refine: bool = False) -> None:
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        return extend(problem, (), m)
