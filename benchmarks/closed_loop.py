"""What do choice and search by the answers of the pruned network bring, and what distillation?

``digits`` prunes GRU and LSTM readers of pixels to 42 of 128 nodes and readers of rows to 32, over
five seeds; ``models`` prunes silero_vad and ptb_lstm to three quarters, a half and a third;
``search`` follows the divergence through the evaluations.
"""

import argparse
import platform
import time
import warnings

import numpy as np
import torch
from networks import DATA, loader_of, pixel_task, row_task
from tqdm.auto import tqdm

from skspectral import Distillation, SpectralRNNPruner
from skspectral.solvers import ClosedLoopSolver

METHODS = {
    "one-step": {"objective": "one-step"},
    "greedy": {},
    "closed loop": {"solver": ClosedLoopSolver(random_state=0)},
    "  1500": {"solver": ClosedLoopSolver(1500, n_sequences=2048, held_out=0.0, random_state=0)},
    "greedy, distilled": {"distill": 10},
    "closed loop, distilled": {"solver": ClosedLoopSolver(random_state=0), "distill": 10},
}


def prune(task, m, method):
    """A smaller module and the seconds it took."""
    start = time.perf_counter()
    pruner = SpectralRNNPruner(task.module, m, likelihood=task.likelihood, **METHODS[method])
    pruner.fit(task.X)
    return pruner.pruned_module_, time.perf_counter() - start


def digits(seeds, methods):
    """Accuracy on test digits, in percent: every seed, mean, and the mean seconds of a fit."""
    cases = [(pixel_task, cell, 42) for cell in ("gru", "lstm")]
    cases += [(row_task, cell, 32) for cell in ("irnn", "lstm", "gru")]
    for make, cell, m in cases:
        tasks = [make(cell, seed) for seed in seeds]
        print(f"{make.__name__[:-5]} {cell}, 128 to {m} nodes")
        report("dense", [task.accuracy(task.module) for task in tasks], [0.0])
        for method in methods:
            results = [prune(task, m, method) for task in tqdm(tasks, method, leave=False)]
            accuracies = [t.accuracy(module) for t, (module, _) in zip(tasks, results, strict=True)]
            report(method, accuracies, [seconds for _, seconds in results])


def report(name, accuracies, seconds):
    """A row of the table."""
    cells = " ".join(f"{100 * accuracy:5.1f}" for accuracy in accuracies)
    mean = 100 * np.mean(accuracies)
    print(f"  {name:22} {cells}   mean {mean:5.2f}   {np.mean(seconds):6.1f} s", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["digits", "models", "search"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} thread(s), Python {platform.python_version()}, torch {torch.__version__}")
    {"digits": lambda: digits(range(arguments.seeds), arguments.methods)}[arguments.what]()
