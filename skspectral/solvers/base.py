"""Base classes of the solvers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from ..selection.problem import Array, Selection, SelectionProblem
from .residual import extend
from .swaps import refined


class Solver(BaseEstimator, ABC):
    """Base class of the solvers.

    A solver's parameters are those of its ``__init__``, so they can be grid-searched
    through the pruner as ``solver__<parameter>``. A new solver implements
    ``_select`` and is named in ``SOLVERS``.

    Attributes
    ----------
    optimizes : bool, default=True
        Whether the solver minimizes the loss. False for comparison methods, which choose nodes by
        another criterion or at random.
    nested : bool, default=False
        Whether the choice of fewer nodes is the beginning of the choice of more, so that one
        run serves every number.
    refine : bool, default=False
        Whether to swap nodes of the outcome until no swap lowers the loss; a parameter of most
        solvers.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import SelectionProblem, Solver, extend
    >>> class LoudestSolver(Solver):
    ...     def _select(self, problem, m):
    ...         return extend(problem, np.argsort(-problem.covariance.diagonal()), m)
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> LoudestSolver().select(problem, 2).order
    array([1, 2])
    """

    optimizes: ClassVar[bool] = True
    nested: ClassVar[bool] = False
    refine: bool = False

    def select(self, problem: SelectionProblem, m: int) -> Selection:
        """Choose m nodes.

        Parameters
        ----------
        problem : SelectionProblem
            Covariance, weight and ridge.
        m : int
            Nodes to keep, from 1 to ``problem.n_nodes``.

        Returns
        -------
        Selection
            The chosen nodes in order, with their losses.

        Raises
        ------
        ValueError
            If m is out of range, or ``_select`` gives other than m nodes of the problem.
        TypeError
            If ``_select`` gives no Selection.
        """
        if not 1 <= m <= problem.n_nodes:
            raise ValueError(f"m must be an int from 1 to {problem.n_nodes}; got {m!r}.")
        selection = checked(self._select(problem, m), problem, m, type(self).__name__)
        return refined(problem, selection) if self.refine else selection

    @abstractmethod
    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        """Choose m nodes; m is in range."""


class OrderSolver(Solver):
    """Base class of comparison methods that rank all nodes and keep the first ones.

    Parameters
    ----------
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.
    """

    optimizes = False
    nested = True

    def __init__(self, refine: bool = False) -> None:
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        return extend(problem, self._order(problem), m)

    @abstractmethod
    def _order(self, problem: SelectionProblem) -> NDArray[np.intp]:
        """Return nodes, those to keep first; all others follow greedily."""


class SamplingSolver(OrderSolver):
    """Base class of comparison methods that draw the nodes.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Seed of the draws.
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.
    """

    def __init__(
        self, random_state: int | np.random.RandomState | None = None, refine: bool = False
    ) -> None:
        super().__init__(refine)
        self.random_state = random_state


def weighted_permutation(
    problem: SelectionProblem,
    weights: Array,
    random_state: int | np.random.RandomState | None,
) -> NDArray[np.intp]:
    """Return all nodes in the order in which independent draws by weight first reach them.

    Gumbel noise on the logarithms of the weights puts each node first with a probability
    proportional to its weight, and so on among the remaining ones. Dead nodes come last.
    """
    level = np.full(problem.n_nodes, -np.inf)
    np.log(weights, out=level, where=weights > 0.0)
    level += check_random_state(random_state).gumbel(size=problem.n_nodes)
    return np.lexsort((-level, problem.covariance.diagonal() == 0.0))


def checked(selection: Any, problem: SelectionProblem, m: int, solver: str) -> Selection:
    """Return a selection after checking that it holds m nodes."""
    if not isinstance(selection, Selection):
        raise TypeError(
            f"_select of {solver} must return a Selection, which extend(problem, order, m) makes "
            f"of an order of nodes; got {type(selection).__name__}."
        )
    order = np.asarray(selection.order)
    if len(order) != m or not np.isin(order, np.arange(problem.n_nodes)).all():
        raise ValueError(
            f"_select of {solver} must choose {m} nodes from 0 to {problem.n_nodes - 1}; got "
            f"{order.tolist()}."
        )
    if len(np.unique(order)) < m:
        raise ValueError(f"_select of {solver} must choose each node once; got {order.tolist()}.")
    return selection
