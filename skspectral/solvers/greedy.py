"""Forward greedy selection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .base import Solver
from .problem import Selection, SelectionProblem
from .residual import Residual


class GreedySolver(Solver):
    """Add the node that lowers the loss most, m times.

    The gain of node j is ``E[:, j]ᵀ Q E[:, j] / (E[j, j] + τ_j)``, exact at every step.
    The order is nested: the first k nodes are the greedy choice of k.

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

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        return extend(problem, (), m)


def extend(
    problem: SelectionProblem,
    start: Iterable[int],
    m: int,
    among: Sequence[int] | NDArray[np.intp] | None = None,
) -> Selection:
    """Add given nodes in their order, then greedily up to m.

    Parameters
    ----------
    problem : SelectionProblem
        Covariance, weight and ridge.
    start : iterable of int
        Nodes to begin with; what goes beyond m is left out.
    m : int
        Nodes to keep.
    among : sequence of int, optional
        Nodes that may be added after those given; all if left out.

    Returns
    -------
    Selection
        The nodes in the order they were added, with their losses.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import SelectionProblem, extend
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> extend(problem, [0], 2).order
    array([0, 1])
    """
    residual = Residual(problem, m)
    # Nodes that never fire come last, whatever the others still gain.
    priority = np.where(problem.covariance.diagonal() > 0.0, 0.0, -1.0)
    if among is not None:
        priority[np.setdiff1d(np.arange(problem.n_nodes), among)] = -np.inf
    given = iter(start)
    order, gains = np.empty(m, dtype=np.intp), np.empty(m)
    for k in range(m):
        gain = residual.gains()
        node = order[k] = next(given, int(np.argmax(gain + priority)))
        gains[k] = gain[node]
        residual.add(node)
        priority[node] = -np.inf
    return Selection(order, np.maximum(problem.total - np.cumsum([0.0, *gains]), 0.0))
