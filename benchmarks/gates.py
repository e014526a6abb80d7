"""Gates that are trained, beside spectral pruning with fine-tuning, and both together.

``reading``: two bidirectional LSTMs that find the answer to a question in a passage, all made here.
``words``: an LSTM(100) language model of the Penn Treebank (``ptb_lstm``). All methods train for
the same number of epochs: gates and then fine-tuning, or fine-tuning alone. Both together is gates
that start from the nodes that spectral pruning keeps.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from corpora import words
from language import LanguageNet, perplexity
from networks import loader_of
from protocol import n_kilobytes, n_milliseconds, n_parameters
from results import Results
from tqdm import tqdm
from train import spans, trained

from skspectral import FineTune, NeuronSelectionPruner, SpectralRNNPruner


@dataclass(frozen=True)
class Case:
    """A trained network, what it is trained on, and how.

    Parameters
    ----------
    dense : nn.Module
        The network.
    batches : list
        Pairs of the arguments of a forward pass and targets.
    n_calibration : int
        How many of them to prune by.
    quality : str
        Name of what counts.
    measure : callable
        It, of a module.
    epochs : tuple of int
        With gates, and after these.
    fractions : tuple of float
        Of the nodes, for spectral pruning.
    prices : tuple of float
        Of a weight, for gates.
    start : float
        Fraction that gates start with.
    """

    dense: Any
    batches: list
    n_calibration: int
    quality: str
    measure: Callable[[Any], float]
    epochs: tuple[int, int]
    fractions: tuple[float, ...]
    prices: tuple[float, ...]
    start: float

    def measures(self, module):
        """What is measured of any network."""
        inputs, _ = self.batches[0]
        one = [each[:1] for each in inputs]
        return {
            self.quality: self.measure(module),
            "parameters": n_parameters(module),
            "kB": n_kilobytes(module),
            "ms": n_milliseconds(module, *one),
        }


@cache
def reading():
    """A reader."""
    train, test = ([*map(torch.from_numpy, (*part.X, part.y))] for part in spans())
    text, question, span = (each.split(64) for each in train)
    return Case(
        trained("reading"),
        [[tuple(pair), target] for *pair, target in zip(text, question, span, strict=True)],
        32,
        "found (%)",
        partial(found, *test),
        (6, 4),
        (0.5, 0.33, 0.25, 0.17),
        (3e-6, 1e-5, 3e-5, 1e-4, 3e-4),
        0.5,
    )


@torch.inference_mode()
def found(text, question, span, module):
    """Spans that are found to the word, in percent."""
    right = (module(text, question).argmax(-1) == span).all(1)
    return 100 * float(right.float().mean())


@cache
def language():
    """An LSTM language model of others."""
    loader = loader_of("ptb_lstm")
    dense = LanguageNet("LSTM", 100, 100)
    state = loader.load_model().state_dict().values()
    dense.load_state_dict(dict(zip(dense.state_dict(), state, strict=True)))
    text = torch.from_numpy(words()["train"])
    n_pieces = (len(text) - 1) // 70
    X, y = (text[i : i + n_pieces * 70].view(n_pieces, 70).split(32) for i in (0, 1))
    return Case(
        dense.eval(),
        [[(inputs,), targets] for inputs, targets in zip(X, y, strict=True)],
        128,
        "perplexity",
        partial(perplexity, text=words()["test"]),
        (2, 1),
        (0.5, 0.33),
        (3e-6, 1e-5, 3e-5),
        0.5,
    )


CASES = {"reading": reading, "words": language}


def spectral(case, fraction):
    """Spectral pruning to a fraction, fine-tuned as long as all of the others train."""
    return tuned(case, SpectralRNNPruner(case.dense, fraction, finetune=settings(sum(case.epochs))))


def gates(case, price, *, start=None):
    """Gates at a price, from all nodes or from those that spectral pruning keeps."""
    with_gates, after = map(settings, case.epochs)
    pruner = NeuronSelectionPruner(
        case.dense,
        penalty_inputs=price,
        penalty_nodes=price,
        training=with_gates,
        finetune=after,
        initial_support=start,
    )
    return tuned(case, pruner)


def settings(epochs):
    """How to train for so many epochs."""
    return FineTune(epochs, patience=epochs)


def both(case, price):
    """Gates that start from the nodes that spectral pruning keeps."""
    pruner = SpectralRNNPruner(case.dense, case.start, likelihood="categorical")
    pruner.fit(inputs for inputs, _ in case.batches[: case.n_calibration])
    layers = pruner.layers_
    return gates(case, price, start={name: layer.support for name, layer in layers.items()})


def tuned(case, pruner):
    """A row of the table."""
    start = time.perf_counter()
    pruner.set_params(likelihood="categorical", random_state=0, verbose=1).fit(iter(case.batches))
    row = {"fit (s)": time.perf_counter() - start}
    counts = [layer.m for layer in pruner.layers_.values()]
    sizes = {"nodes": sum(counts), "of": sum(n_nodes(case.dense))}
    return row | sizes | case.measures(pruner.pruned_module_)


def n_nodes(module):
    """Nodes of all layers and directions."""
    for part in module.modules():
        if hasattr(part, "hidden_size"):
            yield part.hidden_size * part.num_layers * (1 + part.bidirectional)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help="both if none is named")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("gates", ["network", "method", "setting"])
    for name in arguments.cases:
        case = CASES[name]()
        results.row(
            lambda case=case: case.measures(case.dense), network=name, method="dense", setting=""
        )
        jobs = [("spectral, fine-tuned", spectral, f"m={m:g}", m) for m in case.fractions]
        for price in case.prices:
            jobs.append(("gates", gates, f"λ={price:g}", price))
            jobs.append(("gates from spectral nodes", both, f"λ={price:g}", price))
        for method, run, setting, value in tqdm(jobs, name):
            results.row(
                lambda run=run, case=case, value=value: run(case, value),
                network=name,
                method=method,
                setting=setting,
            )
