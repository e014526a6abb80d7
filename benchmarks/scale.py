"""What a fit costs beside running the network, in time and in memory."""

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import h5py
import numpy as np
import torch
from goals import begin, medians, row, seconds
from torch import nn

from skspectral import HiddenStateMoments, SpectralRNNPruner
from skspectral.calibration.moments import BLOCK
from skspectral.data.sequences import of_like_length

MANY, UNEQUAL = "many sequences", "unequal lengths"
FEATURES, N_STEPS, BATCH = 8, 28, 256
# Kind, nodes, sequences.
NETWORKS = [
    ("RNN", 128, 100_000),
    ("GRU", 128, 100_000),
    ("LSTM", 128, 100_000),
    ("GRU", 512, 20_000),
]


def network(kind, n_nodes):
    """A network with random weights, which cost as much as trained ones."""
    torch.manual_seed(0)
    return getattr(nn, kind)(FEATURES, n_nodes, batch_first=True).eval()


def sequences(n_sequences, n_steps=N_STEPS):
    """Sequences of noise."""
    shape = (n_sequences, n_steps, FEATURES)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@torch.inference_mode()
def bare(module, X):
    """Run the module over batches, and keep nothing."""
    for start in range(0, len(X), BATCH):
        module(torch.from_numpy(X[start : start + BATCH]))


def moments_alone(module):
    """A pruner that does little more than to run the sequences."""
    return SpectralRNNPruner(module, 8, objective="input", n_refit=0, trajectory_fit=0)


def products_alone(n_nodes, n_rows, dtype):
    """Seconds for nothing but the products of the states of so many rows, in blocks."""
    block = np.random.default_rng(0).normal(size=(BLOCK, n_nodes)).astype(dtype)
    return seconds(lambda: [block.T @ block for _ in range(50)]) / 50 * n_rows / BLOCK


def throughput():
    """Fit and transform beside bare forward passes over the same batches.

    The trajectory fit, whose cost does not depend on the number of sequences, is left out.
    """
    for kind, n_nodes, n_sequences in NETWORKS:
        beside_forward(f"{kind}({n_nodes})", network(kind, n_nodes), sequences(n_sequences))


def beside_forward(size, module, X):
    """The rows of one network."""
    pruner, alone = SpectralRNNPruner(module, 0.5, trajectory_fit=0), moments_alone(module)
    fit, moments, dense = medians(
        lambda: pruner.fit(X), lambda: alone.fit(X), lambda: bare(module, X)
    )
    row(MANY, f"fit, {len(X):,} sequences", size, fit / dense, 1.2, "bare forward")
    row(MANY, "the same, moments alone", size, moments / dense, 1.2, "bare forward")
    for dtype in (np.float64, np.float32):
        least = 1 + products_alone(module.hidden_size, len(X) * N_STEPS, dtype) / dense
        row(MANY, f"its products in {np.dtype(dtype)} alone", size, least, 1.2, "bare forward")
    small = pruner.pruned_module_
    transform, dense = medians(lambda: pruner.transform(X), lambda: bare(small, X))
    row(MANY, "transform", size, transform / dense, 1.1, "bare pruned forward")


def lengths():
    """Sequences of log-normal length beside as many steps in sequences of one length."""
    steps = np.ceil(np.random.default_rng(0).lognormal(np.log(50), 0.6, size=10_000)).astype(int)
    run = sum(steps[batch].max() * len(batch) for batch in of_like_length(steps, BATCH))
    row(UNEQUAL, "steps run, log-normal lengths", "padded", run / steps.sum(), 1.1, "own steps")
    equal = sequences(-(-steps.sum() // 50), 50)
    flat = equal.reshape(-1, FEATURES)
    ragged = np.split(flat[: steps.sum()], np.cumsum(steps)[:-1])
    layer = network("GRU", 128)
    for size, module in (("packed", layer), ("padded", nn.Sequential(layer, Last()))):
        pruner = moments_alone(module)
        unequal, straight = medians(lambda p=pruner: p.fit(ragged), lambda p=pruner: p.fit(equal))
        ratio = unequal / straight
        row(UNEQUAL, "fit, log-normal lengths", size, ratio, 1.1, "as many steps, one length")


class Last(nn.Module):
    """A head on the last state."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(128, 2)

    def forward(self, output):
        """Two numbers for each sequence."""
        return self.head(output[0][:, -1])


def memory():
    """Peak extra memory of a fit to a hundred thousand sequences beside that to a thousand."""
    for form in ("generator", "memmap", "HDF5"):
        few, many = (extra(form, n_sequences) for n_sequences in (1_000, 100_000))
        what = f"memory, {form}, 10⁵ sequences"
        row("memory", what, "GRU(256)", many / few, 1.1, "10³ sequences", MB=few)


def extra(form, n_sequences):
    """Megabytes, in a process of its own."""
    command = [sys.executable, __file__, "extra", form, str(n_sequences)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def report_extra(form, n_sequences):
    """Peak of what this process holds beside mapped files, above what it held before the fit."""
    module = network("GRU", 256)
    with tempfile.TemporaryDirectory() as folder:
        X = stored(form, n_sequences, Path(folder))
        # Of a thousand sequences as many are run again as of more.
        pruner = SpectralRNNPruner(module, 64, n_refit=512)
        before, peak, done = held(), [0.0], threading.Event()

        def watch():
            while not done.wait(0.001):
                peak[0] = max(peak[0], held())

        watcher = threading.Thread(target=watch)
        watcher.start()
        pruner.fit(X)
        done.set()
        watcher.join()
    print(peak[0] - before)


def stored(form, n_sequences, folder):
    """Sequences that are not in memory."""
    blocks = (sequences(250) for _ in range(0, n_sequences, 250))
    if form == "generator":
        return (torch.from_numpy(block) for block in blocks)
    shape = (n_sequences, N_STEPS, FEATURES)
    if form == "HDF5":
        X = h5py.File(folder / "X.h5", "w").create_dataset(
            "X", shape, "f4", chunks=(250, *shape[1:])
        )
    else:
        X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, shape)
    for i, block in enumerate(blocks):
        X[250 * i : 250 * (i + 1)] = block
    return X


def held():
    """Megabytes of memory that are this process's own."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def costs():
    """Measured rates of one thread, and the core-hours that follow from them."""
    n_nodes, kind = 2048, "GRU"
    module = network(kind, n_nodes)
    X = sequences(BATCH, 8)
    states = np.random.default_rng(0).normal(size=(8192, n_nodes)).astype(np.float32)
    moments = HiddenStateMoments(n_nodes)
    run, add = (
        seconds(function) for function in (lambda: bare(module, X), lambda: moments.update(states))
    )
    forward = BATCH * 8 * 6 * n_nodes * (n_nodes + FEATURES) / run / 1e9
    products = len(states) * n_nodes**2 / add / 1e9
    print(f"{kind}({n_nodes}): forward {forward:.0f}, moments {products:.0f} Gflop/s of a thread")
    print(f"{'nodes':>6} {'sequences':>10} {'core-hours':>11} {'moments':>8} {'Σ':>9}")
    for n_nodes in (128, 1024, 4096, 16384):
        for n_sequences in (10**5, 10**7, 10**9):
            steps = 100 * n_sequences / 3600
            passes = steps * 6 * n_nodes * (n_nodes + FEATURES) / forward / 1e9
            added = steps * n_nodes**2 / products / 1e9
            share = f"{added / (passes + added):.0%}"
            size = f"{8 * n_nodes**2 / 1e6:,.1f} MB"
            print(f"{n_nodes:6} {n_sequences:10.0e} {passes + added:11,.2f} {share:>8} {size:>9}")


PARTS = {"throughput": throughput, "lengths": lengths, "memory": memory}
OTHERS = {"costs": costs}

if __name__ == "__main__":
    if sys.argv[1:2] == ["extra"]:
        torch.set_num_threads(1)
        report_extra(sys.argv[2], int(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("what", nargs="*", choices=[*PARTS, *OTHERS, []], default=[])
        parser.add_argument("--threads", type=int, default=1)
        arguments = parser.parse_args()
        with begin(arguments.threads):
            for name in arguments.what or PARTS:
                (PARTS | OTHERS)[name]()
