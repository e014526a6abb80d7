"""Statistics of a layer from which the objectives are computed."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Moments of a layer's states, weights that read them, and sensitivities to reading errors.

    Parameters
    ----------
    covariance : ndarray of shape (n_nodes, n_nodes)
        Σ, the non-centered second moment of the states.
    mean : ndarray of shape (n_nodes,)
        μ, the mean of the states.
    recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
        ``weight_hh``.
    readers : list of ndarray of shape (n_outputs, n_nodes)
        Weights that read the states outside the layer.
    magnitude : ndarray of shape (n_nodes,)
        Norm of all weights into each node.
    sensitivities : ndarray of shape (2, n_nodes, n_nodes) or None
        G of the outputs and G of the states, if they are needed.
    cells : HiddenStateMoments or None
        Moments of the last cell states of an LSTM, if another layer starts from them.
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
        """G of the outputs and of the states combined."""
        return combined(self.sensitivities, self.covariance)

    @property
    def reading_weight(self) -> Array:
        """Weight Q of the input and output information loss together."""
        return READING.weight(self.covariance, self.recurrent, self.readers)

    def problem(self, objective: Objective, kind: Kind) -> SelectionProblem:
        """Return the selection problem of an objective for a kind of reconstruction."""
        problem = objective.problem(self.covariance, self.recurrent, self.readers, self.sensitivity)
        covariance = centered(self.covariance, self.mean, kind)
        return replace(problem, covariance=covariance, magnitude=self.magnitude)


def shared_statistics(layers: Sequence[LayerStatistics]) -> LayerStatistics:
    """Return the statistics from which layers are pruned alike, since their states are added up.

    One support and one reconstruction then have to serve all of them.
    """
    known = [each.sensitivities for each in layers if each.sensitivities is not None]
    return LayerStatistics(
        np.mean([each.covariance for each in layers], axis=0),
        np.mean([each.mean for each in layers], axis=0),
        np.vstack([each.recurrent for each in layers]),
        [reader for each in layers for reader in each.readers],
        np.linalg.norm([each.magnitude for each in layers], axis=0),
        np.sum(known, axis=0) if len(known) == len(layers) else None,
    )


def combined(parts: Array | None, covariance: Array) -> Array | None:
    """Return the sum of G of the outputs and G of the states.

    Each is divided by its loss if no nodes are kept.
    """
    if parts is None:
        return None
    units = [np.vdot(part, covariance) for part in parts]
    whole = [part / unit for part, unit in zip(parts, units, strict=True) if unit > 0.0]
    return np.sum(whole, axis=0) if whole else np.zeros_like(covariance)
