"""What the objectives know of a layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .covariance import HiddenStateMoments
from .objective import Objective
from .reconstruction import Kind, centred
from .solvers import SelectionProblem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LayerStatistics:
    """Moments of a layer's states, the weights that read them, and what hangs on it.

    Parameters
    ----------
    covariance : ndarray of shape (n_nodes, n_nodes)
        Σ, the non-centred second moment.
    mean : ndarray of shape (n_nodes,)
        μ.
    recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
        ``weight_hh``.
    readers : list of ndarray of shape (n_outputs, n_nodes)
        Weights that read the states outside the layer.
    magnitude : ndarray of shape (n_nodes,)
        Norm of all weights into each node.
    sensitivity : ndarray of shape (n_nodes, n_nodes) or None
        G, where it is needed.
    cells : HiddenStateMoments or None
        Of the last cell states of an LSTM, where another layer starts from them.
    """

    covariance: Array
    mean: Array
    recurrent: Array
    readers: list[Array]
    magnitude: Array
    sensitivity: Array | None = None
    cells: HiddenStateMoments | None = None

    def problem(self, objective: Objective, kind: Kind) -> SelectionProblem:
        """The choice that an objective poses for a kind of reconstruction."""
        problem = objective.problem(self.covariance, self.recurrent, self.readers, self.sensitivity)
        covariance = centred(self.covariance, self.mean, kind)
        return replace(problem, covariance=covariance, magnitude=self.magnitude)
