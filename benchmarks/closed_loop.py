"""Measure choice and search by the answers of the pruned network, and distillation.

``pixels`` prunes GRU and LSTM readers of digits, pixel by pixel, to 42 of 128 nodes, ``rows``
readers of rows to 32, over several seeds; ``models`` prunes silero_vad and ptb_lstm to three
quarters, a half and a third; ``search`` follows the divergence through the evaluations, with swaps
that the loss proposes and with blind ones.
"""

import argparse
import platform
import time
import warnings
from unittest import mock

import numpy as np
import torch
from networks import loader_of, pixel_task, row_task
from sklearn.base import clone
from tqdm.auto import tqdm

from skspectral import Distillation, InformationLoss, SpectralRNNPruner
from skspectral.solvers import ClosedLoopSolver, MagnitudeSolver, RandomSolver, closed_loop

ONE_STEP = {"objective": "one-step"}
SEARCH = {"solver": ClosedLoopSolver(random_state=0)}
LONG = {"solver": ClosedLoopSolver(n_evaluations=1500, held_out=0.0, random_state=0)}
DIGITS = {
    "one-step losses": ONE_STEP,
    "greedy": {},
    "closed loop": SEARCH,
    "closed loop, 1500": LONG,
    "greedy, distilled": {"distill": 10},
    "closed loop, distilled": SEARCH | {"distill": 10},
}
# A few seconds each, so that everything takes five minutes.
BRIEF = {"solver": ClosedLoopSolver(time_budget=10.0, held_out=0.2, random_state=0)}
MODELS = {
    "input loss": {"objective": "input"},
    "output + recurrent loss": {"objective": InformationLoss(input=0.0, sensitivity=0.0)},
    "random + fold": ONE_STEP | {"solver": RandomSolver(random_state=0)},
    "magnitude + fold": ONE_STEP | {"solver": MagnitudeSolver()},
    "greedy": {},
    "closed loop": BRIEF,
    "closed loop, distilled": BRIEF | {"distill": Distillation(lr=2e-3)},
}
# Likelihood, how the calibration data is cut, and epochs of distillation.
SHIPPED = {
    "silero_vad": ("bernoulli", {"batch": 2}, 20),
    "ptb_lstm": ("categorical", {"batch": 5, "tokens": 10000}, 2),
}


CASES = {
    "pixels": [(pixel_task, cell, 42) for cell in ("gru", "lstm")],
    "rows": [(row_task, cell, 32) for cell in ("irnn", "lstm", "gru")],
}


def digits(which, seeds):
    """Accuracy on test digits in percent: every seed, the mean, and the seconds of a fit."""
    for make, cell, m in CASES[which]:
        tasks = [make(cell, seed) for seed in range(seeds)]
        print(f"{tasks[0].name.rpartition(' ')[0]}, {m} of 128 nodes")
        accuracy_row("dense", [task.accuracy(task.module) for task in tasks], 0.0)
        for method, params in DIGITS.items():
            accuracies, start = [], time.perf_counter()
            for task in tqdm(tasks, method, leave=False):
                pruner = SpectralRNNPruner(task.module, m, likelihood=task.likelihood, **params)
                accuracies.append(task.accuracy(pruner.fit(task.X).pruned_module_))
            accuracy_row(method, accuracies, (time.perf_counter() - start) / len(tasks))


def accuracy_row(name, accuracies, seconds):
    """A row of the table."""
    cells = " ".join(f"{100 * accuracy:5.1f}" for accuracy in accuracies)
    mean = 100 * np.mean(accuracies)
    print(f"  {name:22} {cells}  mean {mean:5.2f}  {seconds:6.1f} s", flush=True)


def models():
    """The measure of each model at three sizes."""
    start = time.perf_counter()
    for name, (likelihood, cut, max_epochs) in SHIPPED.items():
        loader = loader_of(name)
        dense = loader.load_model()
        batches = loader.calibration_inputs(**cut)
        print(f"{name}, {loader.METRIC}, dense {loader.evaluate(dense):.2f}")
        for method, params in tqdm(MODELS.items(), name, leave=False):
            row = []
            for fraction in (0.75, 0.5, 0.33):
                pruner = clone(SpectralRNNPruner(dense, fraction, likelihood=likelihood, **params))
                if pruner.distill:
                    pruner.set_params(distill__max_epochs=max_epochs)
                row.append(loader.evaluate(pruner.fit(iter(batches)).pruned_module_))
            print(f"  {method:24}", *(f"{value:8.2f}" for value in row), flush=True)
    print(f"kept 75, 50 and 33 % of the nodes; {time.perf_counter() - start:.0f} s in all")


def search():
    """Divergence on the sequences of the search and on those held out, by evaluations."""
    counts = (25, 50, 100, 200, 400, 800)
    for cell, seed in ((cell, seed) for cell in ("gru", "lstm") for seed in range(2)):
        task = pixel_task(cell, seed)
        for name, reach in (("the loss", closed_loop.REACH), ("nothing", 1e6)):
            solver = ClosedLoopSolver(counts[-1], random_state=0)
            pruner = SpectralRNNPruner(task.module, 42, solver=solver, likelihood=task.likelihood)
            with mock.patch.object(closed_loop, "REACH", reach):
                report = pruner.fit(task.X).selection_report_
            print(f"{task.name}, swaps proposed by {name}")
            for count in counts:
                best = [row for row in report[:count] if row["best"]][-1]
                seconds = report[:count][-1]["seconds"]
                found = f"divergence {best['divergence']:.4f}, held out {best['held_out']:.4f}"
                print(f"  {count:4d} networks, {seconds:5.1f} s: {found}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*CASES, "models", "search"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{arguments.threads} thread(s), {versions}")
    if arguments.what in CASES:
        digits(arguments.what, arguments.seeds)
    else:
        {"models": models, "search": search}[arguments.what]()
