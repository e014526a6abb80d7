"""Gates that are trained, beside spectral pruning with fine-tuning, and both together.

``reading``: two bidirectional LSTMs that find the answer to a question in a passage, all made here.
``words``: an LSTM(100) language model of the Penn Treebank (``ptb_lstm``). All methods train for
the same number of epochs: gates and then fine-tuning, or fine-tuning alone. Both together is gates
that start from the nodes that spectral pruning keeps. The dense network is trained on for as long.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from corpora import words
from jobs import Job, collect
from language import LanguageNet, perplexity
from networks import loader_of
from protocol import n_kilobytes, n_parameters
from results import Results
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
        return {
            "nodes": n_nodes(module),
            "of": n_nodes(self.dense),
            self.quality: self.measure(module),
            "parameters": n_parameters(module),
            "kB": n_kilobytes(module),
        }

    @property
    def example(self):
        """Arguments to time a forward pass on."""
        inputs, _ = self.batches[0]
        return [each[:1] for each in inputs]


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
        (3e-6, 1e-5, 3e-5, 1e-4),
        0.5,
    )


@torch.inference_mode()
def found(text, question, span, module):
    """Spans that are found to the word, in percent."""
    right = (module(text, question).argmax(-1) == span).all(1)
    return 100 * float(right.float().mean())


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
        (3e-5,),
        0.5,
    )


CASES = {"reading": reading, "words": language}


def dense(case, _setting, _device, _seed):
    """The network itself."""
    return case.dense


def spectral(case, fraction, device, seed):
    """Spectral pruning to a fraction, fine-tuned as long as all of the others train."""
    pruner = SpectralRNNPruner(case.dense, fraction, finetune=settings(sum(case.epochs)))
    return tuned(case, pruner, device, seed)


def gates(case, price, device, seed, *, start=None):
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
    return tuned(case, pruner, device, seed)


def settings(epochs):
    """How to train for so many epochs."""
    return FineTune(epochs, patience=epochs)


def both(case, price, device, seed):
    """Gates that start from the nodes that spectral pruning keeps."""
    pruner = SpectralRNNPruner(case.dense, case.start, likelihood="categorical")
    pruner.fit(inputs for inputs, _ in case.batches[: case.n_calibration])
    layers = pruner.layers_
    start = {name: layer.support for name, layer in layers.items()}
    return gates(case, price, device, seed, start=start)


def tuned(case, pruner, device, seed):
    """What a pruner makes."""
    pruner.set_params(likelihood="categorical", random_state=seed, device=device)
    return pruner.fit(iter(case.batches)).pruned_module_.cpu()


def n_nodes(module):
    """Nodes of all layers and directions."""
    weights = (each for name, each in module.named_parameters() if "weight_hh" in name)
    return sum(weight.shape[1] for weight in weights)


def jobs_of(name, device, seed):
    """Rows of a case."""
    case = CASES[name]
    settings = [] if seed else [("dense", dense, "", None)]
    settings += [("dense, fine-tuned", spectral, "", 1.0)]
    settings += [("spectral, fine-tuned", spectral, f"m={m:g}", m) for m in case().fractions]
    for price in case().prices:
        settings.append(("gates", gates, f"λ={price:g}", price))
        settings.append(("gates from spectral nodes", both, f"λ={price:g}", price))
    for method, run, setting, value in settings:
        yield Job(
            {"network": name, "method": method, "setting": setting, "seed": seed},
            partial(lambda run, value: run(case(), value, device, seed), run, value),
            lambda module: case().measures(module),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help="both if none is named")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--device", default="cpu", help="where networks are trained")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("gates", ["network", "method", "setting"])
    for name in arguments.cases:
        for seed in arguments.seeds:
            jobs = jobs_of(name, arguments.device, seed)
            collect(results, [*jobs], CASES[name]().example, arguments.jobs)
