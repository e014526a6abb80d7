"""Kept and removed nodes on a heat map of the covariance."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..pruners.pruned_layer import PrunedLayer
from .display import LayerDisplay, titled


class SupportDisplay(LayerDisplay):
    """Kept and removed nodes on a heat map of the normalized covariance.

    The kept nodes come first, in the order in which they were chosen. The removed nodes follow,
    grouped by the kept node that they resemble most. The heat map shows
    ``Σ_ij / √(Σ_ii Σ_jj)``, from −1 to 1.

    Parameters
    ----------
    covariance : ndarray of shape (n_nodes, n_nodes)
        Σ.
    order : ndarray of shape (m,)
        The kept nodes, in the order in which they were chosen.
    layer : str, default=""
        Name of the layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure that contains the axes.
    image_ : matplotlib AxesImage
        The heat map.
    nodes_ : ndarray of shape (n_nodes,)
        The nodes, in the order in which they are drawn.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> from skspectral.inspection import SupportDisplay
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(torch.randn(50, 20, 3))
    >>> display = SupportDisplay.from_estimator(pruner)
    >>> set(display.nodes_[:8]) == set(pruner.support_)
    True
    """

    def __init__(
        self, *, covariance: NDArray[np.float64], order: NDArray[np.intp], layer: str = ""
    ) -> None:
        self.covariance = covariance
        self.order = order
        self.layer = layer

    @classmethod
    def _of(cls, name: str, layer: PrunedLayer) -> Self:
        covariance, order = layer.problem.covariance, layer.selection.order
        return cls(covariance=covariance, order=order, layer=name)

    def _draw(self, ax: Any) -> None:
        alike, m = correlation(self.covariance), len(self.order)
        lost = np.setdiff1d(np.arange(len(alike)), self.order)
        nearest = np.abs(alike[np.ix_(lost, self.order)]).argmax(axis=1)
        self.nodes_ = np.concatenate([self.order, lost[np.argsort(nearest, kind="stable")]])
        shown = alike[np.ix_(self.nodes_, self.nodes_)]
        self.image_ = ax.imshow(shown, cmap="RdBu_r", vmin=-1.0, vmax=1.0)
        self.figure_.colorbar(
            self.image_, ax=ax, label=r"$\Sigma_{ij} \,/\, \sqrt{\Sigma_{ii} \Sigma_{jj}}$"
        )
        for line in (ax.axhline, ax.axvline):
            line(m - 0.5, color="black", linewidth=1.0)
        places = [(m - 1) / 2.0, m + (len(lost) - 1) / 2.0][: 1 + bool(len(lost))]
        names = [f"{m} kept", f"{len(lost)} removed"][: len(places)]
        ax.set_xticks(places, names)
        ax.set_yticks(places, names, rotation=90, va="center")
        ax.tick_params(length=0)
        ax.set(title=titled("Kept and removed nodes", self.layer), xlabel="node j", ylabel="node i")


def correlation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normalized covariance of the nodes; zero for nodes that are always zero."""
    size = np.sqrt(covariance.diagonal())
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0.0)
    return inverse[:, None] * covariance * inverse
