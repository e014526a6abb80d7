"""Spectrum of the covariance, with its degrees of freedom."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..pruners.pruned_layer import PrunedLayer
from ..theory import degrees_of_freedom
from .display import BLUE, GRAY, VERMILION, LayerDisplay, positive_or_nan, titled


class SpectrumDisplay(LayerDisplay):
    """Eigenvalues of the covariance of the hidden state, with its degrees of freedom.

    If the spectrum falls fast, few nodes can rebuild the others. N(λ), a smooth count of the
    eigenvalues above λ, is drawn on the same axes: N(λ) on the horizontal axis, λ on the vertical.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_nodes,)
        Eigenvalues of Σ divided by ``Tr Σ``, descending.
    m : int
        Number of nodes kept.
    layer : str, default=""
        Name of the layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure that contains the axes.
    spectrum_ : matplotlib Line2D
        The eigenvalues.
    freedom_ : matplotlib Line2D
        The degrees of freedom.
    kept_ : matplotlib Line2D
        The number of nodes kept.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> from skspectral.inspection import SpectrumDisplay
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(torch.randn(50, 20, 3))
    >>> SpectrumDisplay.from_estimator(pruner).m
    8
    """

    def __init__(self, *, eigenvalues: NDArray[np.float64], m: int, layer: str = "") -> None:
        self.eigenvalues = eigenvalues
        self.m = m
        self.layer = layer

    @classmethod
    def _of(cls, name: str, layer: PrunedLayer) -> Self:
        eigenvalues = np.maximum(np.linalg.eigvalsh(layer.problem.covariance)[::-1], 0.0)
        return cls(eigenvalues=eigenvalues / eigenvalues.sum(), m=layer.m, layer=name)

    def _draw(self, ax: Any) -> None:
        values = positive_or_nan(self.eigenvalues)
        lams = np.geomspace(np.nanmin(values), np.nanmax(values), 200)
        freedom = degrees_of_freedom(np.diag(self.eigenvalues), lams)
        ranks = np.arange(1, len(values) + 1)
        (self.spectrum_,) = ax.semilogy(ranks, values, ".", color=BLUE, label="eigenvalues")
        (self.freedom_,) = ax.semilogy(
            freedom, lams, color=VERMILION, label="degrees of freedom N(λ)"
        )
        self.kept_ = ax.axvline(self.m, color=GRAY, linestyle=":", label=f"{self.m} nodes kept")
        ax.set(
            title=titled("Spectrum of the hidden states", self.layer),
            xlabel="rank of the eigenvalue, or degrees of freedom",
            ylabel="eigenvalue, or λ (as part of Tr Σ)",
        )
        ax.legend()
