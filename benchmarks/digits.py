"""Measure what each part of a fit does for accuracy: readers of digits, several seeds.

``pixels`` prunes GRU and LSTM readers of digits, pixel by pixel, to 42 of 128 nodes, ``rows``
readers of rows to 32.
"""

import argparse
import platform
import time
import warnings

import numpy as np
import torch
from networks import pixel_task, row_task
from tqdm.auto import tqdm

from skspectral import SpectralRNNPruner

UNFITTED = {"trajectory_fit": 0}
FOLDED = UNFITTED | {"n_refit": 0}
METHODS = {
    "one-step losses, folded": FOLDED | {"objective": "one-step"},
    "folded": FOLDED,
    "readers refitted": UNFITTED,
    "default": {},
    "default, distilled": {"distill": 10},
    "default, distilled, copies": {"distill": 10},
}
N_COPIES, NOISE = 3, 0.3  # of every sequence, and its strength relative to how these vary
CASES = {
    "pixels": [(pixel_task, cell, 42) for cell in ("gru", "lstm")],
    "rows": [(row_task, cell, 32) for cell in ("irnn", "lstm", "gru")],
}


def digits(which, seeds, cells, methods):
    """Accuracy on test digits in percent: every seed, the mean, and the seconds of a fit."""
    for make, cell, m in CASES[which]:
        if cells and cell not in cells:
            continue
        tasks = [make(cell, seed) for seed in range(seeds)]
        print(f"{tasks[0].name.rpartition(' ')[0]}, {m} of 128 nodes")
        accuracy_row("dense", [task.accuracy(task.module) for task in tasks], 0.0)
        for method in methods:
            accuracies, start = [], time.perf_counter()
            for task in tqdm(tasks, method, leave=False):
                pruner = SpectralRNNPruner(task.module, m, likelihood=task.likelihood)
                pruner.set_params(**METHODS[method])
                X = with_copies(task.X) if "copies" in method else task.X
                accuracies.append(task.accuracy(pruner.fit(X).pruned_module_))
            accuracy_row(method, accuracies, (time.perf_counter() - start) / len(tasks))


def with_copies(X):
    """Sequences and noisy copies of them."""
    rng = np.random.default_rng(0)
    noise = NOISE * X.std() * rng.standard_normal((N_COPIES, *X.shape))
    return np.concatenate([X, *(X + noise)]).astype(X.dtype)


def accuracy_row(name, accuracies, seconds):
    """A row of the table."""
    cells = " ".join(f"{100 * accuracy:5.1f}" for accuracy in accuracies)
    mean = 100 * np.mean(accuracies)
    print(f"  {name:30} {cells}  mean {mean:5.2f}  {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=CASES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cells", nargs="*", help="gru, lstm or irnn; all if none is named")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="all if none is named")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{arguments.threads} thread(s), {versions}")
    digits(arguments.what, arguments.seeds, arguments.cells, arguments.methods)
