"""Selection by the pivots of a Cholesky factorization."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ..selection.problem import SelectionProblem
from .base import OrderSolver


class PivotedCholeskySolver(OrderSolver):
    """Keep the first pivots of the Cholesky factorization of Σ.

    Each step takes the node with the largest residual variance ``E[j, j]``. It sees neither
    the weight nor what the node would rebuild of the others: a comparison method. Past the
    numerical rank of Σ the order goes on greedily.

    Parameters
    ----------
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Notes
    -----
    The order is nested, and that of LAPACK's ``dpstrf`` [1]_, which costs O(n_nodes³).

    References
    ----------
    .. [1] C. Lucas, *LAPACK-Style Codes for Level 2 and 3 Pivoted Cholesky Factorizations*,
       LAPACK Working Note 161, 2004.
    .. [2] H. Harbrecht, M. Peters and R. Schneider, *On the low-rank approximation by the
       pivoted Cholesky decomposition*, Applied Numerical Mathematics 62(4), 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import PivotedCholeskySolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> PivotedCholeskySolver().select(problem, 2).order
    array([1, 2])
    """

    def _order(self, problem: SelectionProblem) -> NDArray[np.intp]:
        _, pivots, rank, _ = lapack.dpstrf(problem.covariance)
        return pivots[:rank] - 1
