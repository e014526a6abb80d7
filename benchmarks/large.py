"""A word language model of 66 million weights pruned end to end: seconds and memory of each phase.

LSTM(1500) x 2 over 10,000 words, as in large language models of the Penn Treebank. Its weights are
random, which cost as much as trained ones.
"""

import argparse
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from results import Results
from scale import held
from threadpoolctl import threadpool_limits
from torch import nn

from skspectral import SpectralRNNPruner, export_onnx
from skspectral.calibration.calibrator import Calibrator
from skspectral.pruners import steps

N_WORDS, N_NODES, N_STEPS, BATCH = 10_000, 1500, 35, 20
KEPT = {"first.l0": 373, "second.l0": 315}
# Functions that a fit calls once, and what they do.
PHASES = [
    (Calibrator, "_collect", "hidden states and moments"),
    (Calibrator, "_sensitivity", "sensitivity"),
    (steps, "select_nodes", "selection"),
    (steps, "trajectory_fitted", "trajectory fit"),
]


class WordModel(nn.Module):
    """A language model of two layers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(N_WORDS, N_NODES)
        self.first = nn.LSTM(N_NODES, N_NODES, batch_first=True)
        self.second = nn.LSTM(N_NODES, N_NODES, batch_first=True)
        self.head = nn.Linear(N_NODES, N_WORDS)

    def forward(self, tokens):
        """Logits of the next word."""
        return self.head(self.second(self.first(self.words(tokens))[0])[0])


class Clock:
    """Seconds and peak memory of phases."""

    def __init__(self, device):
        self.device, self.total = device, 0.0
        self.results = Results("large", ["phase", "device"])

    def held(self):
        """Megabytes held now, on the GPU or by this process."""
        if self.device == "cuda":
            return torch.cuda.memory_allocated() / 2**20
        return held()

    @contextmanager
    def phase(self, what):
        """Add a row."""
        most, done = [0.0], threading.Event()

        def watch():
            while not done.wait(0.01):
                most[0] = max(most[0], self.held())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            done.set()
            watcher.join()
        self.total += seconds
        self.add(what, {"seconds": seconds, "MB": most[0]})

    def add(self, what, measured):
        """Save and print a row."""
        self.results.add({"phase": what, "device": self.device}, measured)
        print(f"{what:28}", *(f"{value:8.1f}" for value in measured.values()), flush=True)

    def watch(self, owner, name, what):
        """Add a row whenever a function is called."""
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            with self.phase(what):
                return function(*args, **kwargs)

        setattr(owner, name, timed)


def main(n_batches, device):
    """Prune, and export."""
    torch.manual_seed(0)
    model = WordModel().eval().to(device)
    batches = [(torch.randint(N_WORDS, (BATCH, N_STEPS)),) for _ in range(n_batches)]
    clock = Clock(device)
    for each in PHASES:
        clock.watch(*each)
    print(f"{device}, {torch.get_num_threads()} thread(s); {n_batches * BATCH * N_STEPS:,} words")
    print(f"{'phase':28} {'seconds':>8} {'MB':>8}")
    start = time.perf_counter()
    pruner = SpectralRNNPruner(model, KEPT, likelihood="categorical").fit(iter(batches))
    rest = time.perf_counter() - start - clock.total
    clock.add("tracing, surgery, refit", {"seconds": rest})
    small = pruner.pruned_module_.cpu()
    with TemporaryDirectory() as folder, clock.phase("export to ONNX, checked"):
        export_onnx(small, batches[0], Path(folder) / "words.onnx")
    sizes = (sum(each.numel() for each in module.parameters()) for module in (model, small))
    clock.add("parameters", dict(zip(("before", "after"), sizes, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20, help="of 20 sequences of 35 words")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        main(arguments.batches, arguments.device)
