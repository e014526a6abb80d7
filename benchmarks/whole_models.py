"""Prune models that others have trained, and measure them as their makers do.

Each model is pruned to three quarters, a half and a third of the nodes of every layer, without
labels. Results are saved in ``results/models.json``; what is there is not measured again.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from networks import loader_of
from results import Results
from sklearn.base import clone
from tqdm.auto import tqdm

from skspectral import Distillation, SpectralRNNPruner

# Likelihood, how the calibration data is cut, and epochs of distillation.
MODELS = {
    "silero_vad": ("bernoulli", {"batch": 2}, 20),
    "ptb_lstm": ("categorical", {"batch": 5, "tokens": 10000}, 2),
    "g2pm": ("categorical", {}, 10),
    "resemblyzer": ("gaussian", {"batch": 32}, 2),
    "date_seq2seq": ("categorical", {"batch": 128}, 2),
    "noaa_lstm": ("gaussian", {}, 2),
    "neuralpi_amp": ("gaussian", {}, 2),
    "textgenrnn": ("categorical", {}, 2),
    "gazenet": ("categorical", {}, 2),
}
FRACTIONS = (0.75, 0.5, 0.33)
FOLDED = {"objective": "one-step", "trajectory_fit": 0, "n_refit": 0}
METHODS = {
    "random + fold": FOLDED | {"solver": "random"},
    "magnitude + fold": FOLDED | {"solver": "magnitude"},
    "not fitted": {"trajectory_fit": 0},
    "default": {},
    "distilled": {"distill": Distillation()},
}


def measure(loader, module):
    """The measure of its makers, and how close embeddings stay, if that is what it gives."""
    if not hasattr(loader, "embed"):
        return loader.evaluate(module), None
    pieces = loader._pieces("eval_mels.npz")[0][::4]
    cosine = (loader.embed(module, pieces) * loader.embed(loader.load_model(), pieces)).sum(1)
    return loader.evaluate(module, every=4), 100 * float(cosine.mean())


@dataclass
class Pruned:
    """Model that is pruned by several methods."""

    name: str

    @cached_property
    def loader(self):
        """The module that loads it."""
        return loader_of(self.name)

    @cached_property
    def dense(self):
        """The model as it was trained."""
        return self.loader.load_model()

    @cached_property
    def batches(self):
        """Its calibration data."""
        return self.loader.calibration_inputs(**MODELS[self.name][1])

    def row(self, method, fraction, seed):
        """The measure of its makers, the divergence and the seconds of a fit."""
        likelihood, _, max_epochs = MODELS[self.name]
        options = {"likelihood": likelihood, "random_state": seed} | METHODS[method]
        pruner = clone(SpectralRNNPruner(self.dense, fraction, **options))
        if pruner.distill:
            pruner.set_params(distill__max_epochs=max_epochs)
        start = time.perf_counter()
        pruner.fit(iter(self.batches))
        seconds = time.perf_counter() - start
        value, cosine = measure(self.loader, pruner.pruned_module_)
        row = {"measure": value, "divergence": pruner.divergence_, "fit (s)": seconds}
        return row if cosine is None else row | {"cosine (%)": cosine}


def table(results, name, methods, seeds):
    """Measure what is missing of a model, and print the means over the seeds."""
    model = Pruned(name)
    of_dense = {"model": name, "method": "dense", "kept": 1.0}
    dense = results.row(lambda: {"measure": measure(model.loader, model.dense)[0]}, **of_dense)
    print(f"{name}: {model.loader.METRIC}; dense {dense['measure']:.2f}", flush=True)
    for method in tqdm(methods, name, leave=False):
        cells, seconds = "", []
        for fraction in FRACTIONS:
            rows = [
                results.row(
                    partial(model.row, method, fraction, seed),
                    model=name,
                    method=method,
                    kept=fraction,
                    seed=seed,
                )
                for seed in seeds
            ]
            cells += f"{np.mean([row['measure'] for row in rows]):10.2f}"
            seconds += [row["fit (s)"] for row in rows]
        print(f"  {method:22}{cells}   {np.mean(seconds):5.1f} s", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="all if none is named")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("models", ["model", "method"], across="kept")
    for name in arguments.models:
        table(results, name, arguments.methods, arguments.seeds)
