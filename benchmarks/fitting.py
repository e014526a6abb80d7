"""Compare the time of choosing and refitting with a bare pass over the calibration data, by model.

The trajectory fit takes a fixed number of steps, so that its seconds stand beside.
"""

import argparse
import time
import warnings

import torch
from goals import begin, medians, row
from networks import DATA, loader_of
from torch import nn
from tqdm.auto import tqdm
from whole_models import MODELS

from skspectral import SpectralRNNPruner

PART, GOAL = "few sequences", 4.0  # bare passes
LARGE = "LSTM(1500)x2"


def random_lstm():
    """A two-layer LSTM(1500) with random weights, which cost as much as trained ones."""
    torch.manual_seed(0)
    return nn.LSTM(1500, 1500, 2).eval(), [(torch.randn(35, 20, 1500),) for _ in range(10)]


def networks(names):
    """Name, module, batches and likelihood of each network."""
    for name in names:
        if name == LARGE:
            yield name, *random_lstm(), "auto"
        else:
            loader = loader_of(name)
            likelihood, cut, _ = MODELS[name]
            yield name, loader.load_model(), loader.calibration_inputs(**cut), likelihood


@torch.inference_mode()
def bare(module, batches):
    """Run all batches, and keep nothing."""
    for batch in batches:
        module(*batch)


def fit(module, batches, likelihood, **options):
    """Prune to a half."""
    return SpectralRNNPruner(module, likelihood=likelihood, **options).fit(iter(batches))


def available():
    """Names of the networks that can be had."""
    if DATA is None:
        print("SKSPECTRAL_DATA is not set: models of others left out")
        return [LARGE]
    return [*MODELS, LARGE]


def main(names, repeats=3):
    """Print a row for each network."""
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    for name, module, batches, likelihood in tqdm(networks(names), total=len(names), leave=False):
        passes, chosen = medians(
            lambda m=module, b=batches: bare(m, b),
            lambda m=module, b=batches, k=likelihood: fit(m, b, k, trajectory_fit=0),
            repeats=repeats,
            limit=60.0,
        )
        start = time.perf_counter()
        fit(module, batches, likelihood)
        trajectory = time.perf_counter() - start - chosen
        beside = {"bare pass (s)": passes, "trajectory fit (s)": trajectory}
        row(PART, "choosing and refitting", name, chosen / passes, GOAL, "bare pass", **beside)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=available(), help="all if none is named")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with begin(arguments.threads):
        main(arguments.models, arguments.repeats)
