"""int8 weights on top of pruning, beside int8 weights alone.

Dynamic quantization of PyTorch, in the measures of those who made the models: measure, kilobytes of
the state, and milliseconds of a forward pass over the first calibration batch.
"""

import argparse
import platform
import warnings

import torch
from jobs import n_milliseconds
from networks import loader_of
from protocol import n_kilobytes
from torch import nn
from whole_models import MODELS

from skspectral import SpectralRNNPruner

FRACTIONS = (1.0, 0.75, 0.5)


def quantized(module):
    """The module with int8 weights in its layers and linear maps."""
    kinds = {nn.LSTM, nn.GRU, nn.Linear}
    return torch.ao.quantization.quantize_dynamic(module, kinds)


def table(name):
    """Two rows for every fraction of the nodes."""
    likelihood, cut, _ = MODELS[name]
    loader = loader_of(name)
    dense, batches = loader.load_model(), loader.calibration_inputs(**cut)
    batch = batches[0] if isinstance(batches[0], tuple) else (batches[0],)
    print(f"{name}: {loader.METRIC}")
    for fraction in FRACTIONS:
        pruner = SpectralRNNPruner(dense, fraction, likelihood=likelihood)
        small = pruner.fit(iter(batches)).pruned_module_
        for kind, module in (("float32", small), ("int8", quantized(small))):
            cells = f"{n_kilobytes(module):8.0f} kB  {n_milliseconds(module, *batch):7.2f} ms"
            print(f"  {fraction:4.0%} {kind:8} {loader.evaluate(module):8.2f} {cells}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # deprecation of torch.ao, and what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["silero_vad", "ptb_lstm", "g2pm"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} thread(s), Python {platform.python_version()}, {torch.__version__}")
    for name in arguments.models:
        table(name)
