"""What the objectives know of a layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..selection.objective import InformationLoss, Objective
from ..selection.reconstruction import Kind, centered
from ..solvers import SelectionProblem
from .moments import HiddenStateMoments

Array = NDArray[np.float64]
READING = InformationLoss(recurrent=0.0, sensitivity=0.0)


@dataclass(frozen=True)
class LayerStatistics:
    """Moments of a layer's states, the weights that read them, and what hangs on it.

    Parameters
    ----------
    covariance : ndarray of shape (n_nodes, n_nodes)
        Σ, the non-centered second moment.
    mean : ndarray of shape (n_nodes,)
        μ.
    recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
        ``weight_hh``.
    readers : list of ndarray of shape (n_outputs, n_nodes)
        Weights that read the states outside the layer.
    magnitude : ndarray of shape (n_nodes,)
        Norm of all weights into each node.
    sensitivities : ndarray of shape (2, n_nodes, n_nodes) or None
        G of the answers and G of the states, where they are needed.
    cells : HiddenStateMoments or None
        Of the last cell states of an LSTM, where another layer starts from them.
    """

    covariance: Array
    mean: Array
    recurrent: Array
    readers: list[Array]
    magnitude: Array
    sensitivities: Array | None = None
    cells: HiddenStateMoments | None = None

    @cached_property
    def sensitivity(self) -> Array | None:
        """G, of answers and states alike."""
        return combined(self.sensitivities, self.covariance)

    @property
    def reading_weight(self) -> Array:
        """Q of what is read of the states: the input and the output information loss."""
        return READING.weight(self.covariance, self.recurrent, self.readers)

    def problem(self, objective: Objective, kind: Kind) -> SelectionProblem:
        """The choice that an objective poses for a kind of reconstruction."""
        problem = objective.problem(self.covariance, self.recurrent, self.readers, self.sensitivity)
        covariance = centered(self.covariance, self.mean, kind)
        return replace(problem, covariance=covariance, magnitude=self.magnitude)


def combined(parts: Array | None, covariance: Array) -> Array | None:
    """Sum of G of the answers and G of the states, each divided by its value at no nodes."""
    if parts is None:
        return None
    units = [np.vdot(part, covariance) for part in parts]
    whole = [part / unit for part, unit in zip(parts, units, strict=True) if unit > 0.0]
    return np.sum(whole, axis=0) if whole else np.zeros_like(covariance)
