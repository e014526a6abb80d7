"""What every solver shares."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from .problem import Selection, SelectionProblem


class Solver(BaseEstimator, ABC):
    """Base class of the node-selection solvers.

    A solver's parameters are those of its ``__init__``, so they can be grid-searched
    through the pruner as ``solver__<parameter>``. A new solver implements
    ``select`` and is named in ``SOLVERS``.
    """

    @abstractmethod
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
        """
