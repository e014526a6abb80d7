"""The protocol on Pixel-MNIST: IRNNs of 128 nodes that read 784 pixels, pruned to 42.

Accuracy before and after fine-tuning in a tenth of the epochs that training took, parameters and
latency, of spectral pruning with and without reconstruction, of what it is compared with, of the
defaults, of what else people use, and of networks of the small size that were trained from
scratch. ``sizes`` prunes to several numbers of nodes, without labels. Needs the networks of
``train.py``.
"""

import argparse
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from instead import PEERS
from irnn import PixelNet
from jobs import collect
from protocol import BARE, METHODS, PLAIN, Task, jobs_of, pruner_of
from results import Results
from train import RECIPES, pixels, trained

from skspectral import Distillation, FineTune

M, N_CALIBRATION = 42, 2048
DISTILL = Distillation(20)
EXAMPLE = torch.rand(1, 784, 1, generator=torch.Generator().manual_seed(0))


def task(seed, device):
    """The network of a seed, and the images; the best epoch is that on a tenth of them."""
    train, test = pixels()
    name = f"pixels-128-{seed}"
    order = torch.randperm(len(train.X), generator=torch.Generator().manual_seed(seed))
    return Task(
        trained(name),
        M,
        PixelNet,
        *map(torch.from_numpy, (train.X, train.y)),
        order[: len(order) // 10],
        N_CALIBRATION,
        DISTILL,
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


SIZES = (24, 42, 64, 96)
WITHOUT_LABELS = {
    "deleted": BARE,
    "spectral": PLAIN,
    "not fitted": {"trajectory_fit": 0},
    "default": {},
    "1000 steps": {"trajectory_fit": 1000},
    "distilled": {"distill": DISTILL},
}


def without_labels(seed, m, method):
    """Accuracy without fine-tuning, and seconds of a fit on the calibration images."""
    own = replace(task(seed, "cpu"), m=m)
    if method == "dense":
        return {own.quality: own.measure(own.dense)}
    pruner = pruner_of(own, seed).set_params(**WITHOUT_LABELS[method])
    start = time.perf_counter()
    small = pruner.fit(own.calibration).pruned_module_
    seconds = time.perf_counter() - start
    return {own.quality: own.measure(small), "fit (s)": seconds}


def sizes(seeds):
    """Measure what is missing of every size, and print it."""
    results = Results("pixels_sizes", ["method"], across="kept")
    keys = [("dense", 128), *product(WITHOUT_LABELS, SIZES)]
    for (method, m), seed in product(keys, seeds):
        row = results.row(
            partial(without_labels, seed, m, method), method=method, kept=m, seed=seed
        )
        found = f"{row['accuracy (%)']:6.2f} {row.get('fit (s)', 0.0):6.1f} s"
        print(f"{method:12} {m:4} {seed:3} {found}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["protocol", "sizes"], default="protocol")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", help="of the protocol; all if none is named")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--device", default="cpu", help="where smaller networks are trained")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "sizes":
        sizes(arguments.seeds)
        sys.exit()
    results = Results("pixels", ["network", "method"])
    for seed in arguments.seeds:
        loaded = {"trained small from scratch": partial(trained, f"pixels-42-{seed}")}
        if not seed:
            distilled = partial(trained, "pixels-42-distilled-0")
            loaded["small by distillation, full training"] = distilled
        methods = METHODS if seed else METHODS | PEERS
        methods = {name: methods[name] for name in arguments.methods or methods}
        jobs = jobs_of("IRNN(128)", seed, partial(task, seed, arguments.device), loaded, methods)
        collect(results, [*jobs], [EXAMPLE], arguments.jobs)
