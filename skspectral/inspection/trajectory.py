"""Hidden states through time, in the dense network and rebuilt by the pruned one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..pruners.pruned_layer import PrunedLayer
from .display import COLORS, Display, draw, pruned_layers, titled
from .trajectories import Trajectories


class TrajectoryDisplay(Display):
    """States of some nodes along a sequence, in the dense network and rebuilt by the pruned one.

    The rebuilt states are ``A z + c``, where z are the states that the pruned network reaches when
    it runs by itself.

    Parameters
    ----------
    dense : ndarray of shape (n_steps, n_shown)
        States of the dense network.
    rebuilt : ndarray of shape (n_steps, n_shown)
        The same states, rebuilt by the pruned network.
    nodes : sequence of int
        The nodes shown.
    layer : str, default=""
        Name of the layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure that contains the axes.
    dense_ : list of matplotlib Line2D
        States of the dense network.
    rebuilt_ : list of matplotlib Line2D
        The same states, rebuilt by the pruned network.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> from skspectral.inspection import TrajectoryDisplay
    >>> gru, X = torch.nn.GRU(3, 32, batch_first=True), torch.randn(50, 20, 3)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(X)
    >>> TrajectoryDisplay.from_estimator(pruner, X[:1]).dense.shape
    (20, 3)
    """

    def __init__(
        self,
        *,
        dense: NDArray[np.float64],
        rebuilt: NDArray[np.float64],
        nodes: Sequence[int],
        layer: str = "",
    ) -> None:
        self.dense = dense
        self.rebuilt = rebuilt
        self.nodes = nodes
        self.layer = layer

    @classmethod
    def from_estimator(
        cls,
        pruner: Any,
        X: Any,
        *,
        nodes: Sequence[int] | None = None,
        layer: str | None = None,
        ax: Any = None,
    ) -> Any:
        """Plot the states of both networks on a sequence.

        Parameters
        ----------
        pruner : SpectralRNNPruner
            A fitted pruner.
        X : array-like, list or torch.Tensor
            Sequences, as in ``fit``; the first one is shown.
        nodes : sequence of int or None, default=None
            Nodes to show; None shows the three removed nodes with the largest variance.
        layer : str or None, default=None
            Name of the layer; None draws all layers.
        ax : matplotlib Axes, sequence of them or None, default=None
            Axes to draw on, one for each layer; None creates a new figure.

        Returns
        -------
        TrajectoryDisplay or LayersDisplay
            The display, or a :class:`~skspectral.inspection.LayersDisplay` of several layers.

        Raises
        ------
        ValueError
            If a layer has no such nodes, or the number of axes differs from the number of layers.
        """
        layers = pruned_layers(pruner, layer)
        shown = {name: cls._of(pruner, X, nodes, name, found) for name, found in layers.items()}
        return draw(shown, ax)

    @classmethod
    def _of(
        cls, pruner: Any, X: Any, nodes: Sequence[int] | None, name: str, found: PrunedLayer
    ) -> Self:
        """Return the display of a layer."""
        if nodes is None:
            nodes = livest(found.statistics.covariance, found.statistics.mean, found.support)
        n_nodes = found.problem.n_nodes
        if not all(0 <= node < n_nodes for node in nodes):
            raise ValueError(
                f"nodes must be from 0 to {n_nodes - 1}, those of {name!r}; got {list(nodes)}."
            )
        states = Trajectories.of(pruner, X[:1], name)
        rebuilt = np.asarray(states.small[0]) @ found.reconstruction.T + found.intercept
        turned = slice(None, None, -1 if name.endswith("_reverse") else 1)
        return cls(
            dense=np.asarray(states.dense[0])[turned, nodes],
            rebuilt=rebuilt[turned, nodes],
            nodes=nodes,
            layer=name,
        )

    def _draw(self, ax: Any) -> None:
        steps = np.arange(1, len(self.dense) + 1)
        self.dense_, self.rebuilt_ = [], []
        for i, node in enumerate(self.nodes):
            color = COLORS[i % len(COLORS)]
            self.dense_ += ax.plot(steps, self.dense[:, i], color=color, label=f"node {node}")
            self.rebuilt_ += ax.plot(
                steps, self.rebuilt[:, i], color=color, linestyle="--", label=f"rebuilt {node}"
            )
        ax.set(
            title=titled("Hidden states", self.layer),
            xlabel="step",
            ylabel="hidden state (no unit)",
        )
        ax.legend(handles=[*self.dense_, *self.rebuilt_], ncols=2)


def livest(
    covariance: NDArray[np.float64], mean: NDArray[np.float64], support: NDArray[np.intp]
) -> list[int]:
    """Return the three nodes with the largest variance, removed nodes first."""
    variance = covariance.diagonal() - mean**2
    variance[support] -= variance.max() + 1.0
    found: list[int] = np.argsort(-variance)[:3].tolist()
    return found
