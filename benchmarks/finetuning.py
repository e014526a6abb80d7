"""Repair after pruning to a third of the nodes, in a tenth of the epochs that training took.

GRU and LSTM readers of scikit-learn's digits, pixel by pixel, 42 of 128 nodes: default, distilled
without labels, also with three noisy copies of every sequence, trained on the labels, both, and in
rounds.
"""

import argparse
import time

import torch
from digits import with_copies
from networks import pixel_task
from results import Results
from tqdm import tqdm

from skspectral import Distillation, FineTune, SpectralRNNPruner

EPOCHS = {"gru": 40, "lstm": 80}
M = 42


def settings(epochs):
    """Parameters of the pruner by method."""
    half = epochs // 2
    return {
        "default": {},
        "distilled": {"distill": Distillation(epochs)},
        "distilled, copies": {"distill": Distillation(epochs)},
        "fine-tuned": {"finetune": FineTune(epochs)},
        "fine-tuned, lr 5e-3": {"finetune": FineTune(epochs, lr=5e-3)},
        "distilled, fine-tuned": {"distill": half, "finetune": FineTune(epochs - half)},
        "fine-tuned in two rounds": {"finetune": FineTune(half, n_rounds=2)},
    }


def measure(task, method, epochs):
    """Accuracy in percent, that of the dense network, and the seconds of all this."""
    start = time.perf_counter()
    pruner = SpectralRNNPruner(task.module, M, likelihood=task.likelihood, random_state=0)
    pruner.set_params(**settings(epochs)[method])
    X, y = (with_copies(task.X), None) if "copies" in method else (task.X, task.labels_train)
    small = pruner.fit(X, y).pruned_module_
    accuracy, dense = (100 * task.accuracy(module) for module in (small, task.module))
    return {
        "accuracy (%)": accuracy,
        "dense (%)": dense,
        "epochs": epochs,
        "fit and test (s)": time.perf_counter() - start,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("finetuning", ["cell", "method"])
    jobs = [
        (cell, seed, method)
        for cell, epochs in EPOCHS.items()
        for method in settings(epochs)
        for seed in range(arguments.seeds)
    ]
    for cell, seed, method in tqdm(jobs):
        epochs, task = EPOCHS[cell] // 10, pixel_task(cell, seed)
        results.row(
            lambda task=task, method=method, epochs=epochs: measure(task, method, epochs),
            cell=cell,
            method=method,
            seed=seed,
        )
