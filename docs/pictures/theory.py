"""The pictures of "Theoretical bounds"."""

from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skspectral import RNNClassifier, SpectralRNNPruner, error_propagation
from skspectral.inspection.display import BLUE, GRAY, ORANGE, VERMILION
from skspectral.solvers import GreedySolver, LeverageSolver, SelectionProblem
from skspectral.theory import Guarantee, lam_of, leverage_scores, sufficient_nodes

DELTA, N_DRAWS = 0.05, 200
memory = joblib.Memory(Path.home() / ".cache" / "skspectral", verbose=0)


def digits():
    """The digits, sequences of 16 steps of four pixels."""
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32).reshape(-1, 16, 4), y


@memory.cache
def network():
    """An Elman network of 64 nodes that reads digits."""
    return RNNClassifier(64, "tanh", max_epochs=20, random_state=0).fit(*digits())


def rate(covariance, lam, n_draws, rng):
    """How often the residual of so many draws is below what the theorem says."""
    scores = leverage_scores(covariance, lam)
    share = scores / scores.sum()
    limit = 4 * lam * np.linalg.solve(covariance + lam * np.eye(len(scores)), covariance)
    held = 0
    for counts in rng.multinomial(n_draws, share, size=N_DRAWS):
        nodes = np.flatnonzero(counts)
        columns = covariance[:, nodes]
        kept = columns[nodes] + np.diag(lam * n_draws * share[nodes] / counts[nodes])
        residual = covariance - columns @ np.linalg.solve(kept, columns.T)
        held += np.linalg.eigvalsh(limit - residual)[0] > -1e-9 * lam
    return held / N_DRAWS


def coverage():
    """How often the theorem holds, by the number of draws."""
    groups = np.kron(np.eye(4), np.ones((16, 16))) + 1e-3 * np.eye(64)
    trained = SpectralRNNPruner(network(), m=32).fit(digits()[0]).covariance_
    cases = {
        "four groups of like nodes": (groups, 4, BLUE),
        "trained network": (trained, 16, VERMILION),
    }
    rng, counts = np.random.default_rng(0), np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 54])
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, (covariance, freedom, color) in cases.items():
        lam = lam_of(covariance, freedom)
        enough = sufficient_nodes(covariance, lam, DELTA)
        tried = [*(counts * freedom // 4), enough]
        rates = [rate(covariance, lam, n_draws, rng) for n_draws in tried]
        ax.semilogx(tried, rates, ".-", color=color, label=f"{name}, N(λ) = {freedom}")
        ax.axvline(enough, color=color, linestyle=":", label=f"the theorem's draws, {enough}")
    ax.axhline(1 - DELTA, color=GRAY, linestyle="--", label=f"guaranteed, {1 - DELTA:g}")
    ax.set(
        title="64 nodes",
        xlabel="draws",
        ylabel=f"part of {N_DRAWS} simulations in which it holds",
    )
    ax.legend()


def guarantee():
    """What is guaranteed, and what is reached."""
    problem = SpectralRNNPruner(network(), m=32).fit(digits()[0]).layers_["rnn.l0"].problem
    problem = SelectionProblem(problem.covariance, problem.weight, problem.ridge)
    ms = np.unique(np.geomspace(1, 2000, 60).astype(int))
    sure = [Guarantee.of(problem.covariance, problem.weight, int(m)).information_loss for m in ms]
    sizes = np.arange(1, 64, 3)
    drawn = np.array(
        [
            [LeverageSolver(seed).select(problem, m).loss_path[-1] for seed in range(50)]
            for m in sizes
        ]
    )
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.loglog(ms, sure, color=ORANGE, label=f"guaranteed, δ = {DELTA}")
    low, middle, high = np.quantile(drawn / problem.total, [0.05, 0.5, 0.95], axis=1)
    ax.fill_between(sizes, low, high, color=VERMILION, alpha=0.2, linewidth=0)
    ax.loglog(sizes, middle, color=VERMILION, label="drawn by leverage scores")
    greedy = GreedySolver().select(problem, 63).loss_path / problem.total
    ax.loglog(greedy, color=BLUE, label="greedy")
    ax.loglog(problem.lower_bound()[:64] / problem.total, "--", color=GRAY, label="lower bound")
    ax.axvline(64, color=GRAY, linestyle=":", label="all nodes")
    ax.axhspan(1, max(sure), color=GRAY, alpha=0.1)
    ax.text(1.2, 2.0, "vacuous")
    ax.set(xlabel="nodes, or draws", ylabel="relative information loss")
    ax.legend()


def propagation():
    """How errors propagate, and how they could."""
    X = digits()[0]
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for m, color in ((56, BLUE), (32, VERMILION)):
        found = error_propagation(SpectralRNNPruner(network(), m=m).fit(X), X)
        # The first state is right, as far as the rounding goes, and has no place on a log axis.
        steps, errors, bounds = range(2, 17), found.state_errors, found.state_bounds
        norm = f"‖U'‖ = {found.recurrent_norm:.1f}"
        ax.semilogy(steps, errors[:, 1:].max(0), color=color, label=f"{m} nodes: largest error")
        ax.semilogy(steps, bounds[:, 1:].max(0), "--", color=color, label=f"its bound, {norm}")
    ax.axhline(2 * np.sqrt(64), color=GRAY, linestyle=":", label="no two states are further apart")
    ax.set(xlabel="step", ylabel="distance of the kept states")
    ax.legend()
