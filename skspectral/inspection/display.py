"""Base classes of the displays: axes, colors and layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import ceil, sqrt
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
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None creates a new figure.

        Returns
        -------
        Display
            The display itself.
        """
        self.ax_ = axes_for(self, ax)
        self.figure_ = self.ax_.figure
        self._draw(self.ax_)
        return self

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw on the given axes."""


class LayersDisplay:
    """Displays of several layers, as returned by ``from_estimator`` of the other displays.

    Parameters
    ----------
    displays : dict of Display
        The display of each layer, by the name of the layer.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of the displays, in the order of ``displays``.
    figure_ : matplotlib Figure
        The figure that contains the axes.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> from skspectral.inspection import SpectrumDisplay
    >>> lstm = torch.nn.LSTM(input_size=3, hidden_size=32, num_layers=2, batch_first=True)
    >>> pruner = SpectralRNNPruner(lstm, m=8).fit(torch.randn(50, 20, 3))
    >>> layers = SpectrumDisplay.from_estimator(pruner)
    >>> list(layers.displays), layers.displays["l1"].m
    (['l0', 'l1'], 8)
    """

    def __init__(self, displays: Mapping[str, Display]) -> None:
        self.displays = displays

    def plot(self, ax: Any = None) -> Self:
        """Draw all displays.

        Parameters
        ----------
        ax : sequence of matplotlib Axes or None, default=None
            Axes to draw on, one for each layer; None creates a new figure.

        Returns
        -------
        LayersDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the number of axes differs from the number of layers.
        """
        n_layers = len(self.displays)
        axes = self._new_axes() if ax is None else np.ravel(np.asarray(ax, dtype=object))
        if len(axes) != n_layers:
            raise ValueError(
                f"ax must be {n_layers} matplotlib Axes, one for each of the layers "
                f"{list(self.displays)}; got {len(axes)}, so give more or name a layer by layer=."
            )
        self.axes_, self.figure_ = axes, axes[0].figure
        for display, each in zip(self.displays.values(), axes, strict=True):
            display.plot(each)
        return self

    def _new_axes(self) -> Any:
        """Return one axes for each layer, in a nearly square grid in a new figure."""
        plt = pyplot_for(self)
        n_layers = len(self.displays)
        n_columns = ceil(sqrt(n_layers))
        n_rows = ceil(n_layers / n_columns)
        width, height = plt.rcParams["figure.figsize"]
        size = (width * n_columns, height * n_rows)
        figure = plt.figure(figsize=size, layout="constrained")
        return np.array([figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n_layers)])


def draw(displays: Mapping[str, Display], ax: Any) -> Any:
    """Draw the display of each layer; return the display, or a LayersDisplay of several."""
    if len(displays) > 1:
        return LayersDisplay(displays).plot(ax)
    (display,) = displays.values()
    return display.plot(ax)


class LayerDisplay(Display):
    """A plot of one layer of a fitted pruner."""

    @classmethod
    def from_estimator(cls, pruner: Any, *, layer: str | None = None, ax: Any = None) -> Any:
        """Draw the display of one layer of a fitted pruner, or of all layers.

        Parameters
        ----------
        pruner : SpectralRNNPruner
            A fitted pruner.
        layer : str or None, default=None
            Name of the layer; None draws all layers.
        ax : matplotlib Axes, sequence of them or None, default=None
            Axes to draw on, one for each layer; None creates a new figure.

        Returns
        -------
        LayerDisplay or LayersDisplay
            The display, or a :class:`~skspectral.inspection.LayersDisplay` of several layers.

        Raises
        ------
        ValueError
            If there is no layer of that name, or the number of axes differs from the number of
            layers.
        TypeError
            If ``pruner`` is not a SpectralRNNPruner or SpectralRNNPrunerCV.
        """
        layers = pruned_layers(pruner, layer)
        return draw({name: cls._of(name, found) for name, found in layers.items()}, ax)

    @classmethod
    @abstractmethod
    def _of(cls, name: str, layer: PrunedLayer) -> Self:
        """Return the display of a layer."""


def axes_for(display: object, ax: Any) -> Any:
    """Return the given axes, or new ones if there are none."""
    return pyplot_for(display).subplots(layout="constrained")[1] if ax is None else ax


def pyplot_for(display: object) -> Any:
    """Return ``matplotlib.pyplot``."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  needed to draw, and for nothing else
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__} draws with matplotlib, which is not installed; "
            "pip install 'skspectral[plot]'."
        ) from error
    return plt


@refer_to_docs("Reading the plots")
def pruned_layers(pruner: Any, layer: str | None) -> dict[str, PrunedLayer]:
    """Return the named layer of a fitted pruner, or all layers."""
    check_is_fitted(pruner)
    found = getattr(pruner, "layers_", {})
    if not all(isinstance(each, PrunedLayer) for each in found.values()) or not found:
        raise TypeError(
            "pruner must be a fitted SpectralRNNPruner or SpectralRNNPrunerCV; got "
            f"{type(pruner).__name__}."
        )
    names = found if layer is None else [name_among(found, layer)]
    return {name: found[name] for name in names}


def titled(title: str, layer: str) -> str:
    """Return a title that names the layer."""
    return f"{title}, {layer}" if layer else title


def positive_or_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with NaN in place of zeros, which a log axis cannot show."""
    return np.where(values > 0.0, values, np.nan)
