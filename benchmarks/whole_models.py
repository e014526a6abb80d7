"""Prune models that others have trained, and measure them as their makers do.

Each model is pruned to three quarters, a half and a third of the nodes of every layer, without
fine-tuning, and once more with a few epochs of distillation where that is asked for.
"""

import argparse
import platform
import time
import warnings

import torch
from networks import loader_of
from sklearn.base import clone
from tqdm.auto import tqdm

from skspectral import Distillation, SpectralRNNPruner
from skspectral.solvers import MagnitudeSolver, RandomSolver

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
FOLDED = {"objective": "one-step", "trajectory_fit": 0, "n_refit": 0}
METHODS = {
    "random + fold": FOLDED | {"solver": RandomSolver(random_state=0)},
    "magnitude + fold": FOLDED | {"solver": MagnitudeSolver()},
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


def table(name, methods):
    """A row for every method."""
    likelihood, cut, max_epochs = MODELS[name]
    loader = loader_of(name)
    dense, batches = loader.load_model(), loader.calibration_inputs(**cut)
    print(f"{name}: {loader.METRIC}; dense {measure(loader, dense)[0]:.2f}", flush=True)
    for method in tqdm(methods, name, leave=False):
        row, seconds = [], []
        for fraction in (0.75, 0.5, 0.33):
            pruner = clone(
                SpectralRNNPruner(dense, fraction, likelihood=likelihood, **METHODS[method])
            )
            if pruner.distill:
                pruner.set_params(distill__max_epochs=max_epochs)
            start = time.perf_counter()
            pruner.fit(iter(batches))
            seconds.append(time.perf_counter() - start)
            row.append(measure(loader, pruner.pruned_module_))
        cells = "".join(f"{value:8.2f}" for value, _ in row)
        cells += "".join(f"{cosine:8.2f}" for _, cosine in row if cosine is not None)
        print(f"  {method:22}{cells}   {sum(seconds) / 3:5.1f} s", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="all if none is named")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{arguments.threads} thread(s), {versions}")
    for name in arguments.models:
        table(name, arguments.methods)
