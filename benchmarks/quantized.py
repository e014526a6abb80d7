"""int8 weights on top of pruning, beside int8 weights alone.

Dynamic quantization of PyTorch, in the measures of those who made the models: measure, kilobytes of
the state, and milliseconds of a forward pass over the first calibration batch. Results are saved in
``results/int8.json``; what is there is not measured again.
"""

import argparse
import warnings
from functools import cache
from itertools import product

import torch
from jobs import n_milliseconds
from networks import loader_of
from protocol import n_kilobytes
from results import Results
from torch import nn
from whole_models import MODELS

from skspectral import SpectralRNNPruner

FRACTIONS = (1.0, 0.75, 0.5)


def quantized(module):
    """The module with int8 weights in its layers and linear maps."""
    kinds = {nn.LSTM, nn.GRU, nn.Linear}
    return torch.ao.quantization.quantize_dynamic(module, kinds)


def table(results, name, seeds):
    """Measure what is missing of a model, and print two rows for every fraction and seed."""
    likelihood, cut, _ = MODELS[name]
    loader = loader_of(name)
    dense, batches = loader.load_model(), loader.calibration_inputs(**cut)
    batch = batches[0] if isinstance(batches[0], tuple) else (batches[0],)
    print(f"{name}: {loader.METRIC}")
    for fraction, seed in product(FRACTIONS, seeds):
        small = cache(
            lambda m=fraction, seed=seed: (
                SpectralRNNPruner(dense, m, likelihood=likelihood, random_state=seed)
                .fit(iter(batches))
                .pruned_module_
            )
        )
        for weights in ("float32", "int8"):

            def measured(small=small, weights=weights):
                module = small() if weights == "float32" else quantized(small())
                return {
                    "measure": loader.evaluate(module),
                    "kB": n_kilobytes(module),
                    "ms": n_milliseconds(module, *batch),
                }

            row = results.row(measured, model=name, kept=fraction, weights=weights, seed=seed)
            cells = f"{row['kB']:8.0f} kB  {row['ms']:7.2f} ms"
            measure = f"{weights:8} {row['measure']:8.2f}"
            print(f"  {fraction:4.0%} {seed:2} {measure} {cells}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # deprecation of torch.ao, and what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["silero_vad", "ptb_lstm", "g2pm"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("int8", ["model", "kept", "weights"])
    for name in arguments.models:
        table(results, name, arguments.seeds)
