"""Which nodes to keep when the trajectory fit follows, over trained networks of many kinds.

Every network is pruned to three quarters, a half and a third of the nodes of every layer, by every
method. What counts is the divergence of its answers from those of the dense network on sequences
that it was not pruned by. The regret of a method is its divergence over the least of all methods,
on that network and size. Rows go into ``results/trajectory.json``; what is there is not measured
again. ``--table`` prints the table of what is there.
"""

import argparse
import time
import warnings
from functools import partial
from itertools import product

import numpy as np
import torch
from networks import DATA, is_batches, loader_of, pixel_task, row_task, vowel_task
from results import Results
from sklearn.base import clone
from tables import regrets
from tqdm.auto import tqdm

from skspectral import Distillation, SpectralRNNPruner
from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.losses.likelihood import likelihood_of, primary_output
from skspectral.rnn.trajectory.dense_outputs import DenseOutputs

FRACTIONS = (0.75, 0.5, 0.33)
WIDTHS = (24, 24, 11, 24, 9)  # of the table
DISTILLED = {"distill": Distillation(3)}
METHODS = {
    "default": {},
    "not fitted": {"trajectory_fit": 0},
    "not fitted, greedy": {"trajectory_fit": 0, "solver": "greedy"},
    "not fitted, distilled": {"trajectory_fit": 0} | DISTILLED,
    "distilled": DISTILLED,
    "greedy": {"solver": "greedy"},
    "one-step": {"objective": "one-step"},
    "one-step, greedy": {"objective": "one-step", "solver": "greedy"},
    "input": {"objective": "input"},
    "affine": {"reconstruction": "affine"},
    "150 steps": {"trajectory_fit": 150},
    "1000 steps": {"trajectory_fit": 1000},
    "random nodes": {"solver": "random"},
}


class Network:
    """A trained network, batches to prune it by, and others to judge by.

    Parameters
    ----------
    module : nn.Module
        The network.
    X : array or list of tuple
        What it is pruned by.
    others : list of tuple
        Other batches.
    likelihood : str
        What its answers stand for.
    """

    def __init__(self, module, X, others, likelihood):
        self.module, self.X, self.likelihood = module, X, likelihood
        with torch.inference_mode():
            stands_for = likelihood_of(primary_output(module(*others[0])), likelihood)
        passes = [ForwardPass(batch, {}) for batch in others]
        self._answers = DenseOutputs(module, passes, stands_for)

    def row(self, parameters, fraction, seed):
        """Return what is measured of a method."""
        options = {"likelihood": self.likelihood, "random_state": seed}
        pruner = clone(SpectralRNNPruner(self.module, fraction, **options))
        pruner.set_params(**parameters)
        start = time.perf_counter()
        pruner.fit(iter(self.X) if is_batches(self.X) else self.X)
        seconds = time.perf_counter() - start
        small = pruner.pruned_module_
        history = pruner.trajectory_history_
        last = list(history.values())[-1] if isinstance(history, dict) else history
        held_out = min(last, default=float("nan"))
        return {
            "divergence": self._answers.divergence(small),
            "held out": held_out,
            "seconds": seconds,
        }


def of_task(task):
    """A network that is trained here."""
    others = task.X_test
    if isinstance(others, list):
        batches = [(torch.as_tensor(x)[None],) for x in others]
    else:
        batches = [(torch.as_tensor(others),)]
    return Network(task.module, task.X, batches, "categorical")


def of_others(name, batches, likelihood, **cut):
    """A network of others; ``batches`` gives those to judge by, from its loader."""
    loader = loader_of(name)
    return Network(
        loader.load_model(),
        loader.calibration_inputs(**cut),
        batches(loader),
        likelihood,
    )


def split(tensor, size):
    """Batches of a tensor."""
    return [(part,) for part in tensor.split(size)]


def questions(loader):
    """Dates of the test set."""
    _, (q, a), _ = loader.data()
    return [(q[:1000], a[:1000, :-1])]


NETWORKS = {
    "pixels GRU": lambda: of_task(pixel_task("gru", 0)),
    "pixels LSTM": lambda: of_task(pixel_task("lstm", 0)),
    "pixels IRNN": lambda: of_task(pixel_task("irnn", 0)),
    "rows GRU": lambda: of_task(row_task("gru", 0)),
    "rows LSTM": lambda: of_task(row_task("lstm", 0)),
    "rows IRNN": lambda: of_task(row_task("irnn", 0)),
}
FROM_DATA = {
    "vowels GRU": lambda: of_task(vowel_task(0)),
    "silero_vad": lambda: of_others(
        "silero_vad", lambda it: split(it._audio("eval.npz")[0], 10), "bernoulli", batch=2
    ),
    "ptb_lstm": lambda: of_others(
        "ptb_lstm",
        lambda it: split(it.corpus("valid")[:20000].view(200, 100), 20),
        "categorical",
        batch=5,
        tokens=10000,
    ),
    "g2pm": lambda: of_others(
        "g2pm", lambda it: [x for x, _ in it.batches("test", 2048)], "categorical"
    ),
    "resemblyzer": lambda: of_others(
        "resemblyzer",
        lambda it: split(it._pieces("eval_mels.npz")[0][::8], 64),
        "gaussian",
        batch=32,
    ),
    "date_seq2seq": lambda: of_others("date_seq2seq", questions, "categorical", batch=128),
    "noaa_lstm": lambda: of_others(
        "noaa_lstm", lambda it: [it._b(2, np.arange(331, 491, 4))], "gaussian"
    ),
    "gazenet": lambda: of_others("gazenet", lambda it: split(it._d("eval")[0], 128), "categorical"),
    "textgenrnn": lambda: of_others(
        "textgenrnn",
        lambda it: split(it._windows(it._lines()[400:], 11)[0], 512),
        "categorical",
    ),
    "neuralpi_amp": lambda: of_others("neuralpi_amp", lambda it: [(it._x(1, 8),)], "gaussian"),
}


def measure(names, methods, seeds, results):
    """Fill the file."""
    keys = [*product(FRACTIONS, methods, seeds)]
    for name in names:
        network = None
        for fraction, method, seed in tqdm(keys, name, leave=False):
            key = {"network": name, "kept": fraction, "method": method, "seed": seed}
            if results.find(**key) is None:
                network = network or {**NETWORKS, **FROM_DATA}[name]()
                results.row(partial(network.row, METHODS[method], fraction, seed), **key)


def show(results):
    """Print the divergence of every network and method, and a line for every method."""
    found = {}
    for row in results.rows:
        place = found.setdefault((row["network"], row["kept"]), {})
        place.setdefault(row["method"], []).append(row["divergence"])
    every = list(dict.fromkeys(row["method"] for row in results.rows))
    for (name, kept), own in found.items():
        cells = "".join(f"{np.mean(own.get(method, np.nan)):11.3g}" for method in every)
        print(f"{name:14}{kept:5}{cells}")
    print()
    for cells in regrets({"rows": results.rows}):
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="all if none is named")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("trajectory", ["network", "kept", "method"])
    if not arguments.table:
        available = [*NETWORKS, *(FROM_DATA if DATA else ())]
        measure(arguments.networks or available, arguments.methods, arguments.seeds, results)
    show(results)
