"""Measure what each part of a fit does for accuracy: readers of digits, several seeds.

``pixels`` prunes GRU and LSTM readers of digits, pixel by pixel, to 42 of 128 nodes, ``rows``
readers of rows to 32. Results are saved in ``results/digits.json``; what is there is not measured
again.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from networks import pixel_task, row_task
from results import Results
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
KEYS = "accuracy (%)", "fit (s)"
N_COPIES, NOISE = 3, 0.3  # of every sequence, and its strength relative to how these vary
CASES = {
    "pixels": [(pixel_task, cell, 42) for cell in ("gru", "lstm")],
    "rows": [(row_task, cell, 32) for cell in ("irnn", "lstm", "gru")],
}


def digits(results, which, seeds, cells, methods):
    """Measure what is missing, and print accuracies in percent, their mean and seconds of a fit."""
    for make, cell, m in CASES[which]:
        if cells and cell not in cells:
            continue
        print(f"{which} {cell}, {m} of 128 nodes")
        for method in ["dense", *methods]:
            rows = [
                results.row(
                    lambda own=(make, cell, seed, m, method): measured(*own),
                    network=f"{which} {cell}",
                    kept=m,
                    method=method,
                    seed=seed,
                )
                for seed in tqdm(range(seeds), method, leave=False)
            ]
            accuracies, seconds = (np.array([row.get(key, 0.0) for row in rows]) for key in KEYS)
            cells_of_row = " ".join(f"{accuracy:5.1f}" for accuracy in accuracies)
            means = f"mean {accuracies.mean():5.2f}  {seconds.mean():6.1f} s"
            print(f"  {method:30} {cells_of_row}  {means}", flush=True)


def measured(make, cell, seed, m, method):
    """Accuracy on test digits, and the seconds of a fit."""
    task = make(cell, seed)
    if method == "dense":
        return {KEYS[0]: 100 * task.accuracy(task.module)}
    pruner = SpectralRNNPruner(task.module, m, likelihood=task.likelihood, random_state=seed)
    pruner.set_params(**METHODS[method])
    X = with_copies(task.X) if "copies" in method else task.X
    start = time.perf_counter()
    pruner.fit(X)
    seconds = time.perf_counter() - start
    return {KEYS[0]: 100 * task.accuracy(pruner.pruned_module_), KEYS[1]: seconds}


def with_copies(X):
    """Sequences and noisy copies of them."""
    rng = np.random.default_rng(0)
    noise = NOISE * X.std() * rng.standard_normal((N_COPIES, *X.shape))
    return np.concatenate([X, *(X + noise)]).astype(X.dtype)


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
    results = Results("digits", ["network", "kept", "method"])
    digits(results, arguments.what, arguments.seeds, arguments.cells, arguments.methods)
