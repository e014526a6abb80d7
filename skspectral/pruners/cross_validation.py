"""Cross-validation of a pruner: scores of several m, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing

from ..calibration.calibrator import Calibration
from ..calibration.previous import Before
from ..utils.atomic_fit import drawn, same_random_numbers
from .allocation import node_counts
from .delegation import wrapped_has
from .node_selection import choose
from .pruned_layer import PrunedLayer, relative_loss
from .spectral import SpectralRNNPruner


def count_each(
    ms: Iterable[Any], calibration: Calibration, allocation: str
) -> list[dict[str, int]]:
    """Nodes to keep of every layer for each of several m."""
    return [node_counts(calibration, m, allocation, f"ms[{i}]") for i, m in enumerate(ms)]


def fold_scores(
    pruner: SpectralRNNPruner,
    ms: Iterable[Any],
    scoring: Any,
    data: tuple[Any, Any],
    fold: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> list[float]:
    """Score of every m on one fold, for which the network is trained once and run once."""
    train, test = (
        [None if part is None else _safe_indexing(part, index) for part in data] for index in fold
    )
    pruner._drawn = drawn(pruner.random_state)
    with same_random_numbers():
        sequences = pruner._train(*train)
        calibration = pruner._calibrate(sequences, Before())
        counts = count_each(ms, calibration, pruner.allocation)
        score, scores = scorer(pruner, scoring, *test), []
        for m, layers in zip(ms, select_each(pruner, calibration, counts), strict=True):
            pruner.m = m
            pruner._shrink(calibration, layers)
            scores.append(score())
    return scores


def select_each(
    pruner: SpectralRNNPruner, calibration: Calibration, counts: list[dict[str, int]]
) -> Iterator[dict[str, PrunedLayer]]:
    """A choice of each number of nodes; of a nested solver they are parts of the largest."""
    solver = pruner._solver()
    if solver.nested and not solver.refine:  # swaps are for their own number of nodes
        most = {name: max(count[name] for count in counts) for name in counts[0]}
        paths = choose(calibration, solver, most)
        return ({name: path.first(count[name]) for name, path in paths.items()} for count in counts)
    return (choose(calibration, solver, count) for count in counts)


def scorer(pruner: SpectralRNNPruner, scoring: Any, X: Any, y: Any) -> Callable[[], float]:
    """The score of a pruner as it then is; what does not depend on m is done here, once."""
    if scoring is None and not wrapped_has("score")(pruner):
        moments = pruner._dense_moments(X)
        return lambda: 1.0 - relative_loss(pruner.layers_, moments)
    given = check_scoring(pruner, scoring)
    targets = () if y is None else (y,)

    def score() -> float:
        value = float(given(pruner, X, *targets))
        if np.isnan(value):
            raise ValueError(
                f"scoring={scoring!r} gives NaN for m={pruner.m!r}; give a score that is defined "
                "on every fold, or larger folds."
            )
        return value

    return score


def tabulate(ms: Iterable[Any], scores: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Results by the names of ``GridSearchCV``, from scores of shape (n_folds, n_ms)."""
    mean = scores.mean(axis=0)
    return {
        # As objects, which keeps 1 (a node) apart from 1.0 (all nodes).
        "param_m": np.array(list(ms), dtype=object),
        **{f"split{i}_test_score": row for i, row in enumerate(scores)},
        "mean_test_score": mean,
        "std_test_score": scores.std(axis=0),
        "rank_test_score": rankdata(-mean, method="min").astype(np.int32),
    }


def best_index(
    results: dict[str, NDArray[Any]], counts: list[int], one_standard_error: bool
) -> int:
    """Where in the results the fewest nodes are among the best."""
    mean, std = results["mean_test_score"], results["std_test_score"]
    best = int(mean.argmax())
    enough = mean[best]
    if one_standard_error:
        n_folds = sum(name.startswith("split") for name in results)
        # Over n folds, std is that of n - 1 degrees of freedom times the root of (n - 1) / n.
        enough -= std[best] / np.sqrt(max(n_folds - 1, 1))
    return min(np.flatnonzero(mean >= enough).tolist(), key=lambda i: counts[i])
