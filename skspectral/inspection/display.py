"""Base classes of the displays: axes, colors and layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..pruners.pruned_layer import PrunedLayer, name_among
from ..utils.doc_hints import refer_to_docs

# The colors of Okabe and Ito, which people of any color vision can tell apart.
BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
GRAY = "#666666"


class Display(ABC):
    """A plot that can be drawn again."""

    def plot(self, ax: Any = None) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        Display
            Itself.
        """
        self.ax_ = axes_for(self, ax)
        self.figure_ = self.ax_.figure
        self._draw(self.ax_)
        return self

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw on some axes."""


class LayerDisplay(Display):
    """A plot of one layer of a fitted pruner."""

    @classmethod
    def from_estimator(cls, pruner: Any, *, layer: str | None = None, ax: Any = None) -> Self:
        """Draw what a fitted pruner knows of a layer.

        Parameters
        ----------
        pruner : SpectralRNNPruner
            A fitted pruner.
        layer : str or None, default=None
            Name of the layer; None if there is one alone.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        Display
            The display.

        Raises
        ------
        ValueError
            If there are several layers and none is named, or none of that name.
        TypeError
            If it is no pruner.
        """
        return cls._of(*pruned_layer(pruner, layer)).plot(ax)

    @classmethod
    @abstractmethod
    def _of(cls, name: str, layer: PrunedLayer) -> Self:
        """Return the display of a layer."""


def axes_for(display: object, ax: Any) -> Any:
    """Return the given axes, or new ones."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  needed to draw, and for nothing else
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__} draws with matplotlib, which is not installed; "
            "pip install 'skspectral[plot]'."
        ) from error
    return plt.subplots(layout="constrained")[1]


@refer_to_docs("Reading the plots")
def pruned_layer(pruner: Any, layer: str | None) -> tuple[str, PrunedLayer]:
    """Return a layer of a fitted pruner, and its name."""
    check_is_fitted(pruner)
    found = getattr(pruner, "layers_", {})
    if not all(isinstance(each, PrunedLayer) for each in found.values()) or not found:
        raise TypeError(
            "pruner must be a fitted SpectralRNNPruner or SpectralRNNPrunerCV; got "
            f"{type(pruner).__name__}."
        )
    name = name_among(found, layer)
    return name, found[name]


def titled(title: str, layer: str) -> str:
    """Return a title that names the layer."""
    return f"{title}, {layer}" if layer else title


def positive_or_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with NaN in place of zeros, which a log axis cannot show."""
    return np.where(values > 0.0, values, np.nan)
