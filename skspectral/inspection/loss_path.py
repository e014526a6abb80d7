"""Loss against the number of nodes, with its lower bound."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..pruners.pruned_layer import PrunedLayer
from .display import BLUE, GRAY, VERMILION, LayerDisplay, positive_or_nan, titled


class LossPathDisplay(LayerDisplay):
    """Relative information loss against the number of nodes, with its lower bound.

    Parameters
    ----------
    loss_path : ndarray of shape (m + 1,)
        Relative loss of the first 0, 1, …, m nodes of the ranking.
    lower_bound : ndarray of shape (n_nodes + 1,)
        Lower bound on the relative loss of any 0, 1, …, n_nodes nodes.
    layer : str, default=""
        Name of the layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure that contains the axes.
    loss_ : matplotlib Line2D
        The loss.
    bound_ : matplotlib Line2D
        The lower bound.
    chosen_ : matplotlib Line2D
        The number of nodes kept.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> from skspectral.inspection import LossPathDisplay
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(torch.randn(50, 20, 3))
    >>> LossPathDisplay.from_estimator(pruner).loss_path.shape
    (9,)
    """

    def __init__(
        self,
        *,
        loss_path: NDArray[np.float64],
        lower_bound: NDArray[np.float64],
        layer: str = "",
    ) -> None:
        self.loss_path = loss_path
        self.lower_bound = lower_bound
        self.layer = layer

    @classmethod
    def _of(cls, name: str, layer: PrunedLayer) -> Self:
        bound = layer.problem.lower_bound() / (layer.total or 1.0)
        return cls(loss_path=layer.loss_path, lower_bound=bound, layer=name)

    def _draw(self, ax: Any) -> None:
        m, loss = len(self.loss_path) - 1, self.loss_path[-1]
        path, bound = positive_or_nan(self.loss_path), positive_or_nan(self.lower_bound)
        (self.loss_,) = ax.semilogy(path, color=BLUE, label="loss")
        (self.bound_,) = ax.semilogy(bound, color=GRAY, linestyle="--", label="lower bound")
        (self.chosen_,) = ax.semilogy(
            m, path[-1], "o", color=VERMILION, label=f"{m} nodes kept: {loss:.2g}"
        )
        ax.set(
            title=titled("Loss of the reconstruction", self.layer),
            xlabel="nodes",
            ylabel="relative information loss",
        )
        ax.legend()
