"""Measure how the readers of a model of several levels are best made.

Networks of two or three levels, of 64 nodes in each layer, read the digits of scikit-learn in 8 or
16 steps and are pruned to 32, 20 and 12 nodes. The reconstruction is folded into their readers as
it is; or the readers outside the recurrent layers are refitted to the states that the pruned
network reaches; or also the weights by which a level reads the one below it. The default fits the
layers to trajectories besides. A seed is that of a network and of its pruning. Results are
saved in ``results/levels.json``.
"""

import argparse
import warnings
from functools import partial
from itertools import product
from unittest import mock

import numpy as np
import torch
from networks import digits, memory
from results import Results
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn

from skspectral import SpectralRNNPruner
from skspectral.rnn.surgery.refit import Refit

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM, "tanh": nn.RNN}
SHAPES = [("gru", 2, False), ("lstm", 2, False), ("lstm", 2, True), ("tanh", 3, False)]
SIZES = (32, 20, 12)


class Levels(nn.Module):
    """Levels of one kind, and a head on the last state of each direction."""

    def __init__(self, kind, n_features, n_levels, both, n_nodes=64):
        super().__init__()
        self.rnn = KINDS[kind](n_features, n_nodes, n_levels, bidirectional=both, batch_first=True)
        self.head = nn.Linear(n_nodes * (1 + both), 10)

    def forward(self, x):
        """Logits."""
        states, n_nodes = self.rnn(x)[0], self.rnn.hidden_size
        last = [states[:, -1, :n_nodes]]
        if self.rnn.bidirectional:
            last.append(states[:, 0, n_nodes:])
        return self.head(torch.cat(last, -1))


@memory.cache
def trained(n_steps, shape, seed):
    """A network, trained for 25 epochs."""
    X, y, _, _ = digits(n_steps)
    torch.manual_seed(seed)
    net = NeuralNetClassifier(
        Levels(shape[0], X.shape[2], *shape[1:]),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        batch_size=64,
        max_epochs=25,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[
            ("clip", GradientNormClipping(1.0)),
            ("decay", LRScheduler("CosineAnnealingLR", T_max=25)),
        ],
        verbose=0,
    )
    return net.fit(X, y.astype(np.int64)).module_.eval()


def heads_alone(places):
    """Leave out what layers read."""
    return lambda refit, small: [place for place in places(refit, small) if place.layer is None]


METHODS = {
    "folded": {"n_refit": 0, "trajectory_fit": 0},
    "heads refitted": {"trajectory_fit": 0},
    "all refitted": {"trajectory_fit": 0},
    "default": {},
}


def measured(n_steps, shape, m, method, seed):
    """Accuracy in percent, and the divergence from the dense network, on test digits."""
    X, _, X_test, y_test = digits(n_steps)
    dense = trained(n_steps, shape, seed)
    pruner = SpectralRNNPruner(dense, m, likelihood="categorical", random_state=seed)
    pruner.set_params(**METHODS[method])
    places = heads_alone(Refit.places) if method == "heads refitted" else Refit.places
    with mock.patch.object(Refit, "places", places):
        small = pruner.fit(X).pruned_module_
    with torch.no_grad():
        p, q = (module(torch.as_tensor(X_test)).log_softmax(-1) for module in (dense, small))
    divergence = (p.exp() * (p - q)).sum(-1).mean()
    accuracy = 100 * np.mean(q.argmax(-1).numpy() == y_test)
    return {"accuracy (%)": accuracy, "divergence": float(divergence)}


def table(results, seeds):
    """Measure what is missing, and print a row for every network, size and seed."""
    print(f"{'network':22} {'nodes':>5} seed", " ".join(f"{method:>16}" for method in METHODS))
    for seed, n_steps, shape, m in product(seeds, (8, 16), SHAPES, SIZES):
        name = f"{shape[0]} {n_steps} steps, {shape[1]}{' both' if shape[2] else ''}"
        cells = ""
        for method in METHODS:
            key = {"network": name, "kept": m, "method": method, "seed": seed}
            row = results.row(partial(measured, n_steps, shape, m, method, seed), **key)
            cells += f" {row['accuracy (%)']:8.1f} {row['divergence']:7.4f}"
        print(f"{name:22} {m:5d} {seed:4d}{cells}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table(Results("levels", ["network", "kept"], across="method"), arguments.seeds)
