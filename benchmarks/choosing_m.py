"""Compare the cost of ten ratios with that of one, in seconds and dense forward passes.

Every ratio has a trajectory fit of its own; ``--trajectory-fit 0`` leaves it out.
"""

import argparse
import tempfile
import time
from functools import partial

import numpy as np
import sklearn
import torch
from results import PACKAGES, Results
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from skspectral import RNNClassifier, SpectralRNNPruner, SpectralRNNPrunerCV

N_NODES = 48
RATIOS = [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9]
FOLDS = 3


def digits():
    """The 8 × 8 digits as 8 steps of 8 pixels."""
    X, y = load_digits(return_X_y=True)
    return (X.reshape(-1, 8, 8) / 16).astype(np.float32), y


def cross_validate(options, estimator, ratios, X, y):
    """Choose among ratios with the estimator that does it by itself."""
    return SpectralRNNPrunerCV(estimator, ratios, cv=FOLDS, **options).fit(X, y)


def grid_search(options, estimator, ratios, X, y):
    """Choose among ratios by a grid search with an empty memory."""
    with tempfile.TemporaryDirectory() as folder:
        return plain_grid_search(options | {"memory": folder}, estimator, ratios, X, y)


def plain_grid_search(options, estimator, ratios, X, y):
    """Choose among ratios by a grid search without memory."""
    pruner = SpectralRNNPruner(estimator, **options)
    return GridSearchCV(pruner, {"m": ratios}, cv=FOLDS).fit(X, y)


def measure(choose, *args):
    """Seconds, and passes of the dense network."""
    passes = 0

    def count(module, _inputs, _output):
        nonlocal passes
        passes += isinstance(module, nn.RNNBase) and module.hidden_size == N_NODES

    with register_module_forward_hook(count):
        start = time.perf_counter()
        choose(*args)
        return time.perf_counter() - start, passes


def main(trajectory_fit):
    """Measure and print a row for each way to choose."""
    torch.set_num_threads(1)
    options = {"trajectory_fit": trajectory_fit}
    X, y = digits()
    network = RNNClassifier(N_NODES, max_epochs=10, random_state=0)
    trained = FrozenEstimator(clone(network).fit(X, y))
    kinds = {"trained in each fold": network, "trained before": trained}
    ways = {
        "SpectralRNNPrunerCV": cross_validate,
        "GridSearchCV, memory": grid_search,
        "GridSearchCV": plain_grid_search,
    }
    results = Results("choosing_m", ["network", "choice"], packages=(*PACKAGES, sklearn))
    print(f"GRU({N_NODES}) on {len(X)} digits, {FOLDS} folds, one ratio and {len(RATIOS)}")
    print(f"{'network':21} {'choice':21} {'seconds':>15} {'times':>6} {'passes':>13} {'times':>6}")
    for kind, estimator in kinds.items():
        for name, choose in ways.items():
            way = partial(choose, options)
            (one, few), (ten, many) = (
                measure(way, estimator, ratios, X, y) for ratios in (RATIOS[4:5], RATIOS)
            )
            key = {"network": kind, "choice": name, **options}
            results.add(key, {"seconds": [one, ten], "passes": [few, many]})
            print(
                f"{kind:21} {name:21} {one:7.2f} {ten:7.2f} {ten / one:6.2f} "
                f"{few:6d} {many:6d} {many / few:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectory-fit", type=int, default=300, help="steps")
    main(parser.parse_args().trajectory_fit)
