"""How the time and memory of a fit grow: with sequences, steps, nodes, levels and workers.

Every fit runs in a process of its own. Results are saved in ``results/curves.json``; what is there
is not measured again. The trajectory fit, whose cost does not depend on any of these but the nodes,
is left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from results import Results
from scale import held
from torch import nn
from tqdm.auto import tqdm

from skspectral import SpectralRNNPruner

N_FEATURES, BLOCK = 8, 1000
STEPS_OF_BATCH = 100_000
SMALL = {"n_nodes": 64, "n_sequences": 1000, "n_steps": 28, "n_levels": 1, "n_jobs": 1}
GROWING = {
    "n_sequences": [10**3, 10**4, 10**5, 10**6],
    "n_steps": [10**2, 10**3, 10**4, 10**5],
    "n_nodes": [64, 128, 256, 512, 1024, 2048, 4096],
    "n_levels": [1, 2, 4, 8],
    "n_jobs": [1, 2],
}
# What the other sizes are while one grows.
BESIDE = {
    "n_sequences": {},
    "n_steps": {"n_sequences": 16},
    "n_nodes": {"n_sequences": 256, "n_steps": 8},
    "n_levels": {},
    "n_jobs": {"n_sequences": 10**5},
}


def stored(path, n_sequences, n_steps):
    """Sequences of noise in a file that is mapped into memory."""
    shape, rng = (n_sequences, n_steps, N_FEATURES), np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, n_sequences, BLOCK):
        block = X[start : start + BLOCK]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    X.flush()


def fit(n_nodes, n_sequences, n_steps, n_levels, n_jobs):
    """Seconds of a fit and of bare passes, and the most megabytes beyond those before the fit."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = nn.GRU(N_FEATURES, n_nodes, n_levels, batch_first=True).eval()
    most, done = [0.0], threading.Event()

    def watch():
        while not done.wait(0.005):
            most[0] = max(most[0], held())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        stored(path, n_sequences, n_steps)
        X = np.load(path, mmap_mode="r")
        batch_size = max(1, min(256, STEPS_OF_BATCH // n_steps))
        pruner = SpectralRNNPruner(
            module, 0.5, batch_size=batch_size, n_jobs=n_jobs, trajectory_fit=0
        )
        before, watcher = held(), threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        pruner.fit(X)
        elapsed = time.perf_counter() - start
        done.set()
        watcher.join()
    return {"seconds": round(elapsed, 3), "MB": round(most[0] - before, 1)}


def measured(sizes):
    """Return the result of ``fit`` in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    """Measure what is missing, and print all."""
    results = Results("curves", ["growing", *SMALL])
    runs = [
        (growing, SMALL | BESIDE[growing] | {growing: size})
        for growing, sizes in GROWING.items()
        for size in sizes
    ]
    print(f"{'growing':12} {'size':>9} {'seconds':>9} {'MB':>8}")
    for growing, sizes in tqdm(runs, leave=False):
        found = results.row(lambda s=sizes: measured(s), growing=growing, **sizes)
        print(f"{growing:12} {sizes[growing]:9,} {found['seconds']:9.2f} {found['MB']:8,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help="sizes of a single fit, in JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(fit(**json.loads(arguments.one))))
    else:
        main()
