"""Gates that are trained, beside spectral pruning with fine-tuning, and both together.

Two bidirectional LSTMs find the answer to a question in a passage, all made here. All methods train
for the same number of epochs: gates and then fine-tuning, or fine-tuning alone. Both together is
gates that start from the nodes that spectral pruning keeps. The dense network is trained on for as
long. Needs the network of ``train.py reading``.
"""

import argparse
from functools import cache, partial

import torch
from jobs import Job, collect
from protocol import hidden_sizes, n_kilobytes, n_parameters
from results import Results
from train import spans, trained

from skspectral import FineTune, NeuronSelectionPruner, SpectralRNNPruner

BATCH_SIZE, N_CALIBRATION = 64, 32  # batches to prune by
WITH_GATES, AFTER = 6, 4  # epochs
FRACTIONS = (0.5, 0.33, 0.25, 0.17)
PRICES = (3e-6, 1e-5, 3e-5, 1e-4)
START = 0.5  # fraction of the nodes that gates start from


def network():
    """The dense network."""
    return trained("reading")


@cache
def batches():
    """Return pairs of the arguments of a forward pass and targets."""
    train, _ = spans()
    text, question = map(torch.from_numpy, train.X)
    parts = (each.split(BATCH_SIZE) for each in (text, question, torch.from_numpy(train.y)))
    return [[pair, span] for *pair, span in zip(*parts, strict=True)]


@torch.inference_mode()
def found(module):
    """Return the percentage of spans whose two ends are found."""
    _, test = spans()
    text, question, span = map(torch.from_numpy, (*test.X, test.y))
    right = (module(text, question).argmax(-1) == span).all(1)
    return 100 * float(right.float().mean())


def dense(_setting, _device, _seed):
    """The network itself."""
    return network()


def spectral(fraction, device, seed):
    """Spectral pruning to a fraction, fine-tuned as long as all of the others train."""
    pruner = SpectralRNNPruner(network(), fraction, finetune=settings(WITH_GATES + AFTER))
    return tuned(pruner, device, seed)


def gates(price, device, seed, *, start=None):
    """Gates at a price of a weight, from all nodes or from those that spectral pruning keeps."""
    pruner = NeuronSelectionPruner(
        network(),
        penalty_inputs=price,
        penalty_nodes=price,
        training=settings(WITH_GATES),
        finetune=settings(AFTER),
        initial_support=start,
    )
    return tuned(pruner, device, seed)


def settings(epochs):
    """Return the settings for so many epochs."""
    return FineTune(epochs, patience=epochs)


def both(price, device, seed):
    """Gates that start from the nodes that spectral pruning keeps."""
    pruner = SpectralRNNPruner(network(), START, likelihood="categorical")
    pruner.fit(inputs for inputs, _ in batches()[:N_CALIBRATION])
    start = {name: layer.support for name, layer in pruner.layers_.items()}
    return gates(price, device, seed, start=start)


def tuned(pruner, device, seed):
    """Return the network that a pruner makes."""
    pruner.set_params(likelihood="categorical", random_state=seed, device=device)
    return pruner.fit(iter(batches())).pruned_module_.cpu()


def measures(module):
    """Return the size and the quality of a network."""
    return {
        "nodes": sum(hidden_sizes(module)),
        "of": sum(hidden_sizes(network())),
        "found (%)": found(module),
        "parameters": n_parameters(module),
        "kB": n_kilobytes(module),
    }


def jobs_of(device, seed):
    """Yield the rows of a seed."""
    settings = [] if seed else [("dense", dense, "", None)]
    settings += [("dense, fine-tuned", spectral, "", 1.0)]
    settings += [("spectral, fine-tuned", spectral, f"m={m:g}", m) for m in FRACTIONS]
    for price in PRICES:
        settings.append(("gates", gates, f"λ={price:g}", price))
        settings.append(("gates from spectral nodes", both, f"λ={price:g}", price))
    for method, run, setting, value in settings:
        yield Job(
            {"method": method, "setting": setting, "seed": seed},
            partial(run, value, device, seed),
            measures,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--device", default="cpu", help="where networks are trained")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("gates", ["method", "setting"])
    example = [each[:1] for each in batches()[0][0]]
    for seed in arguments.seeds:
        collect(results, [*jobs_of(arguments.device, seed)], example, arguments.jobs)
