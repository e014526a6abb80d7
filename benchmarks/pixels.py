"""The protocol on Pixel-MNIST: IRNNs of 128 nodes that read 784 pixels, pruned to 42.

Accuracy before and after fine-tuning in a tenth of the epochs that training took, parameters and
latency, of spectral pruning with and without reconstruction, of what it is compared with, of the
defaults, of what else people use, and of networks of the small size that were trained from
scratch. Needs the networks of ``train.py``.
"""

import argparse
from functools import partial

import torch
from instead import PEERS
from irnn import PixelNet
from jobs import collect
from protocol import METHODS, Task, jobs_of
from results import Results
from train import RECIPES, pixels, trained

from skspectral import FineTune

M, N_CALIBRATION = 42, 2048
EXAMPLE = torch.rand(1, 784, 1, generator=torch.Generator().manual_seed(0))


def task(seed, device):
    """The network of a seed, and the images."""
    train, test = pixels()
    name = f"pixels-128-{seed}"
    return Task(
        trained(name),
        M,
        PixelNet,
        *map(torch.from_numpy, (train.X, train.y)),
        N_CALIBRATION,
        FineTune(RECIPES[name].epochs // 10, lr=RECIPES[name].lr, batch_size=128),
        "accuracy (%)",
        partial(accuracy, *map(torch.from_numpy, (test.X, test.y))),
        device,
    )


@torch.inference_mode()
def accuracy(X, y, module):
    """In percent."""
    device = next(module.eval().parameters()).device
    found = [module(part.to(device)).argmax(1).cpu() for part in X.split(1000)]
    return 100 * float((torch.cat(found) == y).float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--device", default="cpu", help="where smaller networks are trained")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("pixels", ["network", "method"])
    for seed in arguments.seeds:
        small = partial(trained, f"pixels-42-{seed}")
        methods = METHODS if seed else METHODS | PEERS
        jobs = jobs_of("IRNN(128)", seed, partial(task, seed, arguments.device), small, methods)
        collect(results, [*jobs], [EXAMPLE], arguments.jobs)
