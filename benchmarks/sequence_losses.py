"""Which losses tell how a pruned network will answer?

``weights`` measures what weight the sensitivity should have in the objective, ``correlation``
compares losses by their rank correlation with the measured divergence of the answers.
"""

import argparse
import platform
import warnings

import numpy as np
import torch
from networks import DATA, pixel_task, ptb_task, row_task, silero_task, vowel_task
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from skspectral import InformationLoss, SpectralRNNPruner
from skspectral.reconstruction import reconstruct
from skspectral.rnn.closed_loop import ClosedLoop
from skspectral.rnn.surgery import Cut
from skspectral.sequences import check_sequences
from skspectral.solvers import ExchangeSolver, GreedySolver, SelectionProblem

FRACTIONS = (1 / 4, 1 / 3, 1 / 2)
WEIGHTS = (0.0, 0.3, 1.0, 3.0, 10.0, np.inf)


def tasks():
    """Trained networks of several kinds."""
    for seed in range(2):
        yield pixel_task("gru", seed)
        yield pixel_task("lstm", seed)
        for cell in ("irnn", "gru", "lstm"):
            yield row_task(cell, seed)
    if DATA is None:
        print("SKSPECTRAL_DATA is not set: JapaneseVowels, silero_vad and ptb_lstm left out")
        return
    yield vowel_task(0)
    yield silero_task()
    yield ptb_task()


class Subject:
    """A network that has seen its calibration sequences, and how well smaller ones answer."""

    def __init__(self, task):
        pruner = SpectralRNNPruner(
            task.module, 1, likelihood=task.likelihood, objective="combined"
        )
        sequences = pruner._train(task.X if not is_batches(task.X) else iter(task.X), None)
        collector = pruner._collector(task.module)
        self.calibration = pruner._calibrate(collector, sequences)
        self.statistics = self.calibration.statistics
        self.ridge = self.calibration.problem.ridge
        self.n_nodes = len(self.ridge)
        self.loop = ClosedLoop(
            collector, self.calibration.readers, batches(task.X_test), self.calibration.likelihood
        )

    def reconstruction(self, support, kind="linear"):
        """A and c."""
        return reconstruct(
            self.statistics.covariance, self.statistics.mean, support, self.ridge, kind
        )

    def divergence(self, support, kind="linear"):
        """Divergence of the answers to the test sequences."""
        A, c = self.reconstruction(support, kind)
        return self.loop.divergence(Cut.from_arrays(support, A, c))


def is_batches(X):
    """Whether X holds batches for ``forward`` rather than sequences."""
    return isinstance(X, list) and isinstance(X[0], tuple)


def batches(X):
    """X as batches."""
    return X if is_batches(X) else [batch for _, batch in check_sequences(X).batches(128)]


def with_sensitivity(weight):
    """The objective in which the sensitivity has a weight; infinity leaves it alone."""
    if np.isinf(weight):
        return InformationLoss(input=0.0, output=0.0, recurrent=0.0, sensitivity=1.0)
    return InformationLoss(sensitivity=weight)


def weights():
    """Divergence on test sequences by the weight of the sensitivity."""
    print(f"{'network':15} {'nodes':>6} {'solver':>9}", *(f"{w:>9g}" for w in WEIGHTS))
    ratios = []
    for task in tasks():
        subject = Subject(task)
        for fraction in FRACTIONS:
            m = round(fraction * subject.n_nodes)
            for name, solver in (("greedy", GreedySolver()), ("exchange", ExchangeSolver())):
                row = []
                for weight in WEIGHTS:
                    problem = subject.statistics.problem(with_sensitivity(weight), "linear")
                    row.append(subject.divergence(solver.select(problem, m).support))
                ratios.append(np.log(row) - np.log(row[0]))
                cells = " ".join(f"{value:9.4f}" for value in row)
                print(f"{task.name:15} {m:6d} {name:>9} {cells}", flush=True)
    means = np.exp(np.mean(ratios, axis=0))
    better = (np.array(ratios) < 0).mean(axis=0)
    print(f"{'geometric mean of the ratio to 0':32}", *(f"{mean:9.3f}" for mean in means))
    print(f"{'part of the rows better than 0':32}", *(f"{part:9.2f}" for part in better))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["weights", "correlation"])
    what = parser.parse_args().what
    torch.set_num_threads(1)
    print(f"one thread, Python {platform.python_version()}, torch {torch.__version__}")
    {"weights": weights}[what]()
