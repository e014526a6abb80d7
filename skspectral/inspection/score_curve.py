"""Cross-validated score against the number of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .display import COLORS, Display


class ScoreCurveDisplay(Display):
    """Cross-validated score against the number of nodes.

    Parameters
    ----------
    curves : dict of dict
        ``m``, ``mean`` and ``std`` of the score over the folds, each of shape (n_ms,) and sorted by
        m, for each setting of the other parameters. Keys describe the setting.
    chosen : tuple of (str, float)
        The key of the chosen curve, and the chosen m.
    score_name : str, default="score"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure that contains the axes.
    lines_ : list of matplotlib Line2D
        The mean scores.
    chosen_ : matplotlib Line2D
        The chosen candidate.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPrunerCV
    >>> from skspectral.inspection import ScoreCurveDisplay
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPrunerCV(gru, ms=[4, 8, 16], cv=2).fit(torch.randn(30, 10, 3))
    >>> display = ScoreCurveDisplay.from_estimator(pruner, score_name="part of the objective kept")
    >>> display.chosen
    ('', 16.0)
    """

    def __init__(
        self,
        *,
        curves: Mapping[str, Mapping[str, Any]],
        chosen: tuple[str, float],
        score_name: str = "score",
    ) -> None:
        self.curves = curves
        self.chosen = chosen
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, search: Any, *, score_name: str = "score", ax: Any = None) -> Self:
        """Draw the scores of a fitted search.

        Parameters
        ----------
        search : SpectralRNNPrunerCV, GridSearchCV or another search with ``cv_results_``
            A fitted search over m, alone or with other parameters.
        score_name : str, default="score"
            Name of the score, for the axis label.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None creates a new figure.

        Returns
        -------
        ScoreCurveDisplay
            The display.

        Raises
        ------
        ValueError
            If the search was not over m, or if it mixes numbers and fractions of nodes.
        """
        check_is_fitted(search, "cv_results_")
        results = search.cv_results_
        key, best = key_of_m(results), search.best_index_
        ms, labels = sizes(results[key]), labels_of(results, key)
        curves = {}
        for label in dict.fromkeys(labels):
            rows = np.flatnonzero(np.array(labels) == label)
            rows = rows[np.argsort(ms[rows], kind="stable")]
            mean, std = (results[f"{what}_test_score"][rows] for what in ("mean", "std"))
            curves[label] = {"m": ms[rows], "mean": mean, "std": std}
        chosen = labels[best], float(ms[best])
        return cls(curves=curves, chosen=chosen, score_name=score_name).plot(ax)

    def _draw(self, ax: Any) -> None:
        self.lines_ = []
        for i, (label, curve) in enumerate(self.curves.items()):
            color = COLORS[i % len(COLORS)]
            m, mean, std = (np.asarray(curve[key]) for key in ("m", "mean", "std"))
            self.lines_ += ax.plot(m, mean, ".-", color=color, label=label or "mean of the folds")
            ax.fill_between(m, mean - std, mean + std, color=color, alpha=0.15, linewidth=0.0)
        curve, best = self.curves[self.chosen[0]], self.chosen[1]
        score = np.asarray(curve["mean"])[np.asarray(curve["m"]) == best][0]
        (self.chosen_,) = ax.plot(
            best,
            score,
            "o",
            color="black",
            fillstyle="none",
            markersize=10,
            label=f"chosen: {best:g}",
        )
        fractions = all(np.max(curve["m"]) <= 1.0 for curve in self.curves.values())
        ax.set(
            title="Cross-validation",
            xlabel="part of the nodes kept" if fractions else "nodes kept",
            ylabel=f"{self.score_name} (± standard deviation)",
        )
        ax.legend()


def key_of_m(results: Mapping[str, Any]) -> str:
    """Return the key of ``cv_results_`` that holds m."""
    found = [name for name in results if name == "param_m" or name.endswith("__m")]
    if len(found) != 1:
        tried = sorted(name.removeprefix("param_") for name in results if name[:6] == "param_")
        raise ValueError(
            f"search must be over m, the nodes of one pruner; it was over {tried}. Name m in "
            "its grid, as 'm' or, in a Pipeline, 'prune__m'."
        )
    return found[0]


def sizes(given: Any) -> NDArray[np.float64]:
    """Return the values of m that were tried, as an array."""
    try:
        ms = np.asarray(given, dtype=np.float64)
    except TypeError:
        ms = np.full(len(given), np.nan)
    if not ((ms <= 1.0).all() or (ms == ms.round()).all()):
        raise ValueError(
            f"search must be over numbers of nodes, or over parts of them; got m of "
            f"{np.asarray(given).tolist()}."
        )
    return ms


def labels_of(results: Mapping[str, Any], key: str) -> list[str]:
    """Return labels for the settings of the other parameters."""
    others = [name for name in results if name.startswith("param_") and name != key]
    names = [name.removeprefix("param_").rpartition("__")[2] for name in others]
    return [
        ", ".join(f"{name}={results[other][i]}" for name, other in zip(names, others, strict=True))
        for i in range(len(results[key]))
    ]
