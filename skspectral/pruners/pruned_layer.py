"""The selection for one layer, and its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..calibration.layer_statistics import LayerStatistics
from ..calibration.moments import HiddenStateMoments
from ..rnn.surgery.reduction import LayerReduction
from ..selection.reconstruction import Kind, reconstruct, reconstruction_loss
from ..solvers import Selection, SelectionProblem, extend
from ..theory import Guarantee

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class PrunedLayer:
    """The kept nodes of a layer and the reconstruction of the rest.

    Parameters
    ----------
    statistics : LayerStatistics
        What the objective knew of the layer.
    problem : SelectionProblem
        The choice that was posed.
    selection : Selection
        The nodes that were chosen.
    kind : str
        How the lost nodes are rebuilt.
    """

    statistics: LayerStatistics
    problem: SelectionProblem
    selection: Selection
    kind: Kind

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(m={self.m}, n_nodes={self.problem.n_nodes}, "
            f"information_loss={self.information_loss:.2g})"
        )

    @property
    def support(self) -> NDArray[np.intp]:
        """The kept nodes, ascending."""
        return self.selection.support

    @property
    def m(self) -> int:
        """Number of nodes kept."""
        return len(self.support)

    @property
    def ranking(self) -> NDArray[np.intp]:
        """1 for the node chosen first, 2 for the next; m + 1 for those not kept."""
        ranking = np.full(self.problem.n_nodes, self.m + 1)
        ranking[self.selection.order] = np.arange(1, self.m + 1)
        return ranking

    @cached_property
    def _rebuilding(self) -> tuple[Array, Array]:
        covariance, mean = self.statistics.covariance, self.statistics.mean
        return reconstruct(covariance, mean, self.support, self.problem.ridge, self.kind)

    @property
    def reconstruction(self) -> Array:
        """A, shape (n_nodes, m)."""
        return self._rebuilding[0]

    @property
    def intercept(self) -> Array:
        """c, shape (n_nodes,)."""
        return self._rebuilding[1]

    @property
    def reduction(self) -> LayerReduction:
        """The selection as torch tensors."""
        reduction, cells = (
            LayerReduction.from_arrays(self.support, *self._rebuilding),
            self.statistics.cells,
        )
        if cells is None:
            return reduction
        covariance, mean, ridge = cells.covariance, cells.mean, self.problem.ridge
        A, c = reconstruct(covariance, mean, self.support, ridge, "affine")
        return replace(reduction, cell=(torch.as_tensor(A), torch.as_tensor(c)))

    @cached_property
    def total(self) -> float:
        """Loss of keeping nothing, of the non-centered states."""
        return float(np.vdot(self.problem.weight, self.statistics.covariance))

    @property
    def loss_path(self) -> Array:
        """Relative loss of the first 0, 1, …, m nodes of the ranking."""
        return self.selection.loss_path / (self.total or 1.0)

    @property
    def loss_lower_bound(self) -> float:
        """Lower bound on the relative loss of any m nodes."""
        return float(self.problem.lower_bound()[self.m] / (self.total or 1.0))

    @property
    def information_loss(self) -> float:
        """Relative loss on the calibration sequences."""
        return self.loss_on(self.statistics.covariance, self.statistics.mean)

    def loss_on(self, covariance: Array, mean: Array) -> float:
        """Return the relative loss of the reconstruction on states with the given moments."""
        weight = self.problem.weight
        loss = reconstruction_loss(
            covariance, mean, weight, self.reconstruction, self.intercept, self.support
        )
        return loss / (float(np.vdot(weight, covariance)) or 1.0)

    def made_from(self, covariance: Array, mean: Array) -> PrunedLayer:
        """Return the same nodes with a reconstruction made from other moments."""
        return replace(self, statistics=replace(self.statistics, covariance=covariance, mean=mean))

    @cached_property
    def guarantee(self) -> Guarantee:
        """Guarantee of the theory for this number of nodes."""
        return Guarantee.of(self.problem.covariance, self.problem.weight, self.m)

    def posed_anew(self) -> PrunedLayer:
        """Return the same nodes, in the order and with the losses of this layer's problem."""
        path = extend(self.problem, (), self.m, among=self.support)
        selection = replace(self.selection, order=path.order, loss_path=path.loss_path)
        return replace(self, selection=selection)

    def among(self, nodes: NDArray[np.intp]) -> Selection:
        """Return the selection in the node numbers of a larger layer."""
        return replace(self.selection, order=nodes[self.selection.order])

    def truncate(self, m: int) -> PrunedLayer:
        """Keep the first nodes of the ranking."""
        return replace(self, selection=self.selection.truncate(m))

    def truncate_to_tol(self, tol: float | None) -> PrunedLayer:
        """Keep the fewest nodes whose relative loss is at most ``tol``; all if there are none."""
        if tol is None:
            return self
        enough = self.selection.loss_path <= tol * self.total
        enough[0] = False
        return self.truncate(int(enough.argmax())) if enough.any() else self


# Attributes of a fitted pruner, and what they are of a layer.
ATTRIBUTES: dict[str, Callable[[PrunedLayer], Any]] = {
    "support_": lambda layer: layer.support,
    "ranking_": lambda layer: layer.ranking,
    "m_": lambda layer: layer.m,
    "information_loss_": lambda layer: layer.information_loss,
    "loss_path_": lambda layer: layer.loss_path,
    "loss_lower_bound_": lambda layer: layer.loss_lower_bound,
    "reconstruction_": lambda layer: layer.reconstruction,
    "intercept_": lambda layer: layer.intercept,
}


def name_among(layers: Mapping[str, Any], name: str | None) -> str:
    """Return the name of a layer; None stands for the only one."""
    if name is None and len(layers) == 1:
        return next(iter(layers))
    if name is None or name not in layers:
        raise ValueError(
            f"layer must be one of {sorted(layers)}, the layers that were pruned; got {name!r}."
        )
    return name


def unwrap_single_layer(found: Mapping[str, Any]) -> Any:
    """Return a dict by layer; for a single layer, its value."""
    return next(iter(found.values())) if len(found) == 1 else dict(found)


def relative_loss(
    layers: Mapping[str, PrunedLayer], moments: Mapping[str, HiddenStateMoments]
) -> float:
    """Return the mean over the layers of the relative loss on some states."""
    losses = [
        layer.loss_on(moments[name].covariance, moments[name].mean)
        for name, layer in layers.items()
    ]
    return float(np.mean(losses))
