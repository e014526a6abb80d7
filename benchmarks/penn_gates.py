"""Gates, spectral pruning and both on a language model of two LSTM(200) that is trained to its end.

All methods train for three epochs on the labels: spectral pruning after it, gates for two epochs
and then for one without. Both together is gates on what spectral pruning has made. The dense
network is trained on for as long. Epochs without gates are chosen by the loss on the validation
text. Then all sizes are timed in torch and ONNX Runtime with random weights, which cost as much;
do it when nothing runs beside. Needs ``train.py words-lstm-200-0``.
"""

import argparse
import dataclasses
from functools import cache, partial

import onnxruntime
import torch
from jobs import Job, run_missing
from language import N_WORDS
from latency import Net, measure, random_pair
from penn import task
from protocol import Labels, hidden_sizes, n_parameters, spectral, trained_on
from results import PACKAGES, Results
from tables import RUNTIMES
from tqdm import tqdm

from skspectral import FineTune, NeuronSelectionPruner

NETWORK, DENSE, HALF = "words-lstm-200-0", (200, 200, 200), 100
LR, WITH_GATES, AFTER = 5e-4, 2, 1  # epochs
N_STEPS, BATCHES = 35, (1, 10)


def trained_for(module, task, epochs, seed):
    """Return a copy of a module that is trained on the labels; the best epoch is kept."""
    settings = FineTune(epochs, lr=LR, patience=epochs)
    return trained_on(Labels(task), module, dataclasses.replace(task, finetune=settings), seed)


def dense(task, _seed):
    """The network itself."""
    return task.dense


def dense_trained(task, seed):
    """The network, trained on."""
    return trained_for(task.dense, task, WITH_GATES + AFTER, seed)


def spectrally(task, seed, *, m):
    """Spectral pruning with the defaults, then training."""
    small = spectral()(dataclasses.replace(task, m=m), seed)
    return trained_for(small, task, WITH_GATES + AFTER, seed)


def gated(task, seed, *, price):
    """Training with gates at a price of a weight, then without."""
    pruner = NeuronSelectionPruner(
        task.dense,
        penalty_inputs=price,
        penalty_nodes=price,
        training=FineTune(WITH_GATES, lr=LR, patience=WITH_GATES),
        likelihood="categorical",
        device=task.device,
        random_state=seed,
    )
    small = pruner.fit(task.X[task.others], task.y[task.others]).pruned_module_.cpu()
    return trained_for(small, task, AFTER, seed)


def both(task, seed, *, price):
    """Gates on a network that spectral pruning has made, without training in between."""
    small = spectral()(task, seed)
    return gated(dataclasses.replace(task, dense=small), seed, price=price)


METHODS = [
    ("dense", "", dense),
    ("dense, fine-tuned", "", dense_trained),
    *[("spectral, fine-tuned", f"m={m}", partial(spectrally, m=m)) for m in (HALF, 66)],
    *[("gates", f"λ={price:g}", partial(gated, price=price)) for price in (1e-5, 3e-5)],
    ("spectral, then gates", f"m={HALF}, λ=1e-05", partial(both, price=1e-5)),
]


def measured(module, task):
    """Return the size and the perplexity of a network."""
    first, second = hidden_sizes(module)
    return {
        "inputs": module.embedding.weight.shape[1],
        "nodes of layer 1": first,
        "nodes of layer 2": second,
        "parameters": n_parameters(module),
        "perplexity": task.measure(module),
    }


def jobs_of(seed, device):
    """Yield the rows of a seed; that of the dense network itself is in those of the first."""
    own = partial(task, NETWORK, HALF, device)
    for method, setting, make in METHODS:
        if method != "dense" or seed == 0:
            yield Job(
                {"method": method, "setting": setting, "seed": seed},
                partial(lambda make: make(own(), seed), make),
                lambda module: measured(module, own()),
            )


def add_times(results):
    """Time the rows that have no time yet."""
    for row in tqdm([row for row in results.rows if "timed on" not in row]):
        sizes = row["inputs"], row["nodes of layer 1"], row["nodes of layer 2"]
        row.update(times_of(sizes), **{"timed on": results.here()})
        results.save()


@cache
def times_of(sizes):
    """Return milliseconds of a pass in both runtimes, by the size of the batch."""
    times = {}
    for batch in BATCHES:
        nets = [Net("LSTM", each, N_WORDS, N_WORDS) for each in (DENSE, sizes)]
        pair = random_pair(*nets, torch.randint(N_WORDS, (batch, N_STEPS)))
        row = measure(pair, repeats=200, limit=2)
        times |= {f"{name}, batch {batch} (ms)": row[f"{name} (ms)"] for name in RUNTIMES}
    return times


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--device", default="cpu", help="where networks are trained")
    parser.add_argument("--no-times", action="store_true", help="leave the times for later")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = Results("penn_gates", ["method", "setting"], packages=(*PACKAGES, onnxruntime))
    jobs = [job for seed in arguments.seeds for job in jobs_of(seed, arguments.device)]
    run_missing(results, jobs, arguments.jobs)
    results.order([job.key for job in jobs])
    if not arguments.no_times:
        add_times(results)
