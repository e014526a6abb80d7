"""What every solver shares."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from .problem import Selection, SelectionProblem


class Solver(BaseEstimator, ABC):
    """Base class of the node-selection solvers.

    A solver's parameters are those of its ``__init__``, so they can be grid-searched
    through the pruner as ``solver__<parameter>``. A new solver implements
    ``_select`` and is named in ``SOLVERS``.

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
            If m is out of range.
        """
        if not 1 <= m <= problem.n_nodes:
            raise ValueError(f"m must be an int from 1 to {problem.n_nodes}; got {m!r}.")
        return self._select(problem, m)

    @abstractmethod
    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        """Choose m nodes; m is in range."""
