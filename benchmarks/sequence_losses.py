"""Measure which losses tell how a pruned network will answer.

``weights`` measures what weight the sensitivity should have in the objective, ``correlation``
compares losses by their rank correlation with the measured divergence of the answers.
"""

import argparse
import platform
import warnings
from dataclasses import replace

import numpy as np
import torch
from networks import DATA, is_batches, pixel_task, ptb_task, row_task, silero_task, vowel_task
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from skspectral import InformationLoss, SpectralRNNPruner
from skspectral.forms import check_sequences
from skspectral.reconstruction import reconstruct
from skspectral.rnn.closed_loop import ClosedLoop
from skspectral.rnn.cut import Cut
from skspectral.rnn.likelihood import Likelihood, answer_of
from skspectral.rnn.sensitivity import reading_gradients, with_exposed_layers
from skspectral.rnn.stacked import laid_out
from skspectral.sensitivity import reading_sensitivity
from skspectral.solvers import ExchangeSolver, GreedySolver
from skspectral.trials import TRIED

FRACTIONS = (1 / 4, 1 / 3, 1 / 2)
WEIGHTS = (0.0, 1.0, 10.0, 50.0, 200.0, np.inf)
DISCOUNT = 0.95  # of a step before the last
N_RANDOM, N_PERTURBED = 50, 10


def tasks(seeds=2):
    """Trained networks of several kinds."""
    for seed in range(seeds):
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
        pruner = SpectralRNNPruner(task.module, 1, likelihood=task.likelihood, objective="combined")
        sequences = pruner._train(task.X if not is_batches(task.X) else iter(task.X), None)
        collector = pruner._collector(laid_out(task.module))
        self.calibration = pruner._calibrate(collector, sequences)
        ((self.name, self.statistics),) = self.calibration.statistics.items()
        self.ridge = self.calibration.problems[self.name].ridge
        self.n_nodes = len(self.ridge)
        self.loop = ClosedLoop(
            collector,
            self.calibration.surgery,
            batches(task.X_test),
            self.calibration.likelihood,
        )

    def reconstruction(self, support, kind="linear"):
        """A and c."""
        return reconstruct(
            self.statistics.covariance, self.statistics.mean, support, self.ridge, kind
        )

    def divergence(self, support, kind="linear"):
        """Divergence of the answers to the test sequences."""
        cut = Cut.from_arrays(support, *self.reconstruction(support, kind))
        return self.loop.divergence(self.loop.pruned({self.name: cut}))


def batches(X):
    """X as batches."""
    return X if is_batches(X) else [batch for _, batch in check_sequences(X).batches(128)]


def with_sensitivity(weight):
    """The objective in which the sensitivity has a weight; infinity leaves it alone."""
    if np.isinf(weight):
        return InformationLoss(input=0.0, output=0.0, recurrent=0.0, sensitivity=1.0)
    return InformationLoss(sensitivity=weight)


def with_labels(subject):
    """The statistics with a sensitivity of drawn labels instead of projections."""
    calibration = subject.calibration
    likelihood = calibration.likelihood
    labels = LabelLikelihood(likelihood.family, likelihood.probabilities)
    units = {name: each.whitening for name, each in calibration.moments.items()}
    sample = calibration.sample
    found = reading_sensitivity(calibration.collector, sample, labels, units, seed=0)
    return replace(subject.statistics, sensitivities=found[subject.name])


def weights(labels):
    """Divergence on test sequences by the weight of the sensitivity."""
    print(f"{'network':15} {'nodes':>6} {'solver':>9}", *(f"{w:>9g}" for w in WEIGHTS))
    ratios = []
    for task in tasks():
        subject = Subject(task)
        statistics = with_labels(subject) if labels else subject.statistics
        for fraction in FRACTIONS:
            m = round(fraction * subject.n_nodes)
            for name, solver in (("greedy", GreedySolver()), ("exchange", ExchangeSolver())):
                row = []
                for weight in WEIGHTS:
                    problem = statistics.problem(with_sensitivity(weight), "linear")
                    row.append(subject.divergence(solver.select(problem, m).support))
                ratios.append(np.log(row) - np.log(row[0]))
                cells = " ".join(f"{value:9.4f}" for value in row)
                print(f"{task.name:15} {m:6d} {name:>9} {cells}", flush=True)
    means = np.exp(np.mean(ratios, axis=0))
    better = (np.array(ratios) < 0).mean(axis=0)
    print(f"{'geometric mean of the ratio to 0':32}", *(f"{mean:9.3f}" for mean in means))
    print(f"{'part of the rows better than 0':32}", *(f"{part:9.2f}" for part in better))


class LabelLikelihood(Likelihood):
    """Draws labels from the answers, instead of a direction to project them on."""

    def projected(self, outputs, generator):
        """Log-likelihood of the labels."""
        natural = self._natural(outputs)
        level = torch.rand(natural.shape[:-1], generator=generator)[..., None]
        if self.family == "categorical":
            below = natural.detach().softmax(-1).cumsum(-1)
            labels = torch.searchsorted(below, level * below[..., -1:])
            return natural.log_softmax(-1).gather(-1, labels).sum()
        yes = level < natural.detach().sigmoid()
        return torch.nn.functional.logsigmoid(torch.where(yes, natural, -natural)).sum()


class Traces:
    """Gradients and states of a network, step by step, and the matrices made of them."""

    def __init__(self, subject, likelihood, seed=0):
        collector = subject.calibration.collector
        module, exposed = with_exposed_layers(collector)
        (layer,) = exposed.values()
        generator = torch.Generator().manual_seed(seed)
        n = subject.n_nodes
        self.G, self.discounted, self.weighted = np.zeros((3, n, n))
        self.crossed = []  # sum over the steps of g hᵀ, of every sequence
        for batch in subject.calibration.sample:
            args, kwargs = collector.arguments(batch, whole=False)
            score = likelihood.projected(answer_of(module(*args, **kwargs)), generator)
            calls = {subject.name: layer.take()}
            (states,) = (call.output for call in calls[subject.name])
            g = reading_gradients(exposed, calls, score)[subject.name].reshape(states.shape).numpy()
            h = states.detach().double().numpy()
            late = DISCOUNT ** np.arange(g.shape[1])[::-1, None]
            strength = np.square(g).sum(-1, keepdims=True)
            self.G += product(g, g)
            self.discounted += product(late * g, g)
            self.weighted += product(strength * h, h)
            self.crossed.append(g.swapaxes(1, 2) @ h)
        self.crossed = np.concatenate(self.crossed).reshape(-1, n * n)


def product(x, y):
    """Sum of the outer products over sequences and steps."""
    return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


def drift(subject, cut):
    """Second moment of the error of the rebuilt states while the pruned network runs."""
    collector = subject.calibration.collector
    pruned = subject.calibration.surgery.expanded({subject.name: cut})
    moment, seen = 0.0, []
    for batch in subject.calibration.sample[:4]:
        args, kwargs = collector.arguments(batch, whole=False)
        for module in (pruned, collector.module):
            layer = module.get_submodule(collector.layers[0].host)
            with layer.register_forward_hook(lambda _l, _i, out: seen.append(out[0].double())):
                module(*args, **kwargs)
        error = (seen.pop() - seen.pop()).numpy()
        moment += product(error, error)
    return moment


def losses_of(subject):
    """Functions of the residual ``I − A P_J`` and the drift of a run, by name."""
    statistics = subject.statistics
    likelihood = subject.calibration.likelihood
    outputs = Traces(subject, likelihood)
    labels = Traces(subject, LabelLikelihood(likelihood.family, likelihood.probabilities))
    identity = np.eye(subject.n_nodes)

    def one_step(*strengths):
        return statistics.problem(InformationLoss(*strengths), "linear").weight

    def residual(Q, covariance=statistics.covariance):
        return lambda M, _D: np.vdot(Q, M @ covariance @ M.T)

    def across_time(traces):
        return lambda M, _D: np.square(traces.crossed @ M.ravel()).mean()

    return {
        "input": residual(identity),
        "output": residual(one_step(0, 1, 0, 0)),
        "recurrent": residual(one_step(0, 0, 1, 0)),
        "input + output + recurrent": residual(one_step(1, 1, 1, 0)),
        "sensitivity": residual(one_step(0, 0, 0, 1)),
        "sensitivity of the answers": residual(outputs.G),
        "one-step + 10 sensitivity": residual(one_step(1, 1, 1, 10)),
        "one-step + 200 sensitivity": residual(one_step(1, 1, 1, 200)),
        "sensitivity of drawn labels": residual(labels.G),
        "sensitivity, late steps": residual(outputs.discounted),
        "steps weighted by sensitivity": residual(identity, outputs.weighted),
        "both weighted by sensitivity": residual(outputs.G, outputs.weighted),
        "sensitivity across time": across_time(outputs),
        "drawn labels across time": across_time(labels),
        "drift of a run, input": lambda _M, D: np.trace(D),
        "drift of a run, sensitivity": lambda _M, D: np.vdot(outputs.G, D),
    }


def supports(subject, m, rng):
    """Random ones, and greedy ones of several objectives with more and more nodes swapped."""
    live = np.flatnonzero(subject.statistics.covariance.diagonal())
    for _ in range(N_RANDOM):
        yield np.sort(rng.permutation(live)[:m])
    for strengths in TRIED.values():
        problem = subject.statistics.problem(InformationLoss(*strengths), "linear")
        greedy = GreedySolver().select(problem, m).support
        for n_swapped in range(N_PERTURBED):
            kept = rng.permutation(greedy)[: m - n_swapped]
            others = rng.permutation(np.setdiff1d(live, greedy))[:n_swapped]
            yield np.sort(np.concatenate([kept, others]))


def correlations(task):
    """Spearman's rank correlation of every loss with the divergence on the test sequences."""
    subject, rng = Subject(task), np.random.default_rng(0)
    losses, found = losses_of(subject), []
    with torch.no_grad():
        for support in supports(subject, round(subject.n_nodes / 3), rng):
            A, c = subject.reconstruction(support)
            cut, M = Cut.from_arrays(support, A, c), np.eye(subject.n_nodes)
            M[:, support] -= A
            D = drift(subject, cut)
            row = [loss(M, D) for loss in losses.values()]
            found.append([subject.loop.divergence(subject.loop.pruned({subject.name: cut})), *row])
    ranks = spearmanr(np.array(found)).statistic[0, 1:]
    return dict(zip(losses, ranks, strict=True))


def correlation():
    """The table: a row for each loss, a column for each network."""
    columns = {task.name: correlations(task) for task in tqdm(list(tasks(1)), leave=False)}
    print(f"{'':30}", *(f"{name:>13}" for name in columns), f"{'mean':>7}")
    for loss in next(iter(columns.values())):
        row = [column[loss] for column in columns.values()]
        print(f"{loss:30}", *(f"{value:13.2f}" for value in row), f"{np.mean(row):7.3f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # what could not be folded
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["weights", "correlation"])
    parser.add_argument("--labels", action="store_true", help="draw labels for the sensitivity")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"one thread, Python {platform.python_version()}, torch {torch.__version__}")
    weights(arguments.labels) if arguments.what == "weights" else correlation()
