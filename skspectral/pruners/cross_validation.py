"""Cross-validation of a pruner over several m."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing

from ..calibration.calibrator import Calibration
from ..calibration.previous import PreviousCalibration
from ..data.checks import check_sequences
from ..utils.atomic_fit import drawn, same_random_numbers
from .allocation import node_counts
from .delegation import estimator_has
from .node_selection import choose
from .parameters import as_solver
from .pruned_layer import PrunedLayer, relative_loss
from .spectral import SpectralRNNPruner
from .steps import DenseNetwork, calibrate, dense_moments, prune_layers, train_dense


class Scores(NamedTuple):
    """Scores on one fold and total numbers of nodes, for every m."""

    scores: list[float]
    n_nodes: list[int]


def count_each(
    ms: Iterable[Any], calibration: Calibration, allocation: str
) -> list[dict[str, int]]:
    """Return the number of nodes to keep in every layer, for each of several m."""
    return [node_counts(calibration, m, allocation, f"ms[{i}]") for i, m in enumerate(ms)]


def fold_scores(
    pruner: SpectralRNNPruner,
    ms: Iterable[Any],
    scoring: Any,
    X_and_y: tuple[Any, Any],
    fold: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Scores:
    """Return the score of every m on one fold, for which the network is trained and run once."""
    train, test = (
        [None if part is None else _safe_indexing(part, index) for part in X_and_y]
        for index in fold
    )
    pruner._drawn = drawn(pruner.random_state)
    with same_random_numbers():
        sequences = check_sequences(train[0], pruner, reset=True)
        dense, data = train_dense(pruner, sequences, *train)
        calibration = calibrate(pruner, dense, data, PreviousCalibration())
        dense = replace(dense, layout=calibration.collector.layout)
        counts = count_each(ms, calibration, pruner.allocation)
        score, scores = scorer(pruner, dense, scoring, *test), []
        for m, layers in zip(ms, select_each(pruner, calibration, counts), strict=True):
            pruner.m = m
            network = prune_layers(pruner, dense, calibration, data, layers)
            pruner._set_results(dense, calibration, network)
            scores.append(score())
    return Scores(scores, [sum(each.values()) for each in counts])


def select_each(
    pruner: SpectralRNNPruner, calibration: Calibration, counts: list[dict[str, int]]
) -> Iterator[dict[str, PrunedLayer]]:
    """Yield a choice for each number of nodes; a nested solver chooses once, for the largest."""
    solver = as_solver(pruner.solver, pruner._drawn)
    if solver.nested and not solver.refine:  # swaps are for their own number of nodes
        most = {name: max(count[name] for count in counts) for name in counts[0]}
        paths = choose(calibration, solver, most)
        every = (
            {name: path.truncate(count[name]) for name, path in paths.items()} for count in counts
        )
    else:
        every = (choose(calibration, solver, count) for count in counts)
    for layers in every:
        yield {name: layer.truncate_to_tol(pruner.tol) for name, layer in layers.items()}


def scorer(
    pruner: SpectralRNNPruner, dense: DenseNetwork, scoring: Any, X: Any, y: Any
) -> Callable[[], float]:
    """Return what scores a pruner as it then is; what does not depend on m is done once."""
    if scoring is None and not estimator_has("score")(pruner):
        sequences = check_sequences(X, pruner, reset=False)
        moments = dense_moments(pruner, dense, sequences)
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
    """Return results named as in ``GridSearchCV``, from scores of shape (n_folds, n_ms)."""
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
    """Return the index of the best result with the fewest nodes."""
    mean, std = results["mean_test_score"], results["std_test_score"]
    best = int(mean.argmax())
    enough = mean[best]
    if one_standard_error:
        n_folds = sum(name.startswith("split") for name in results)
        # Over n folds, std is that of n - 1 degrees of freedom times the root of (n - 1) / n.
        enough -= std[best] / np.sqrt(max(n_folds - 1, 1))
    return min(np.flatnonzero(mean >= enough).tolist(), key=lambda i: counts[i])
