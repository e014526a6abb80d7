"""How good and how fast are the solvers? Loss with certificate, and seconds on one thread."""

import argparse
import importlib.util
import tracemalloc
import warnings

import numpy as np
from goals import begin, row, seconds
from networks import DATA, is_batches, ptb_task, row_task, silero_task, vowel_task
from results import Results
from scipy.linalg.lapack import dpstrf
from tqdm.auto import tqdm

from skspectral import InformationLoss, SpectralRNNPruner
from skspectral.solvers import (
    ConvexSolver,
    ExchangeSolver,
    ExhaustiveSolver,
    GreedySolver,
    PivotedCholeskySolver,
    RandomSolver,
    SelectionProblem,
)

INPUT_LOSS = InformationLoss(output=0.0, recurrent=0.0, sensitivity=0.0)

SOLVERS = {
    "random": RandomSolver(random_state=0),
    "pivoted": PivotedCholeskySolver(),
    "pivoted+": PivotedCholeskySolver(refine=True),
    "greedy": GreedySolver(),
    "greedy+": GreedySolver(refine=True),
    "exchange": ExchangeSolver(),
    "design": ConvexSolver(),
    "design+": ConvexSolver(refine=True),
    "lasso": ConvexSolver(relaxation="group_lasso"),
    "lasso+": ConvexSolver(relaxation="group_lasso", refine=True),
}


# Quality


def networks():
    """All trained networks that can be had, with their calibration sequences."""
    for cell in ("irnn", "lstm", "gru"):
        for seed in range(3):
            yield row_task(cell, seed)
    if DATA is None:
        print("SKSPECTRAL_DATA is not set: JapaneseVowels, silero_vad and ptb_lstm left out")
        return
    for seed in range(3):
        yield vowel_task(seed)
    yield silero_task()
    yield ptb_task()


def problems():
    """Selection problems of all networks, for the input loss and the combined one."""
    for task in networks():
        for kind, loss in (("input", INPUT_LOSS), ("combined", InformationLoss())):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # what could not be folded
                pruner = SpectralRNNPruner(
                    task.module,
                    1,
                    objective=loss,
                    likelihood=task.likelihood,
                    n_refit=0,
                    trajectory_fit=0,
                )
                pruner.fit(iter(task.X) if is_batches(task.X) else task.X)
            for name, layer in pruner.layers_.items():
                yield f"{task.name} {name}", kind, layer.problem


def quality():
    """Relative loss of each solver at a quarter of the nodes, and the best certificate."""
    names = [f"{name:>9}" for name in (*SOLVERS, "bound")]
    print(f"{'network':16} {'loss':8}", *names, " loss/bound")
    worse = 0
    for name, kind, problem in tqdm(problems(), desc="networks", leave=False):
        m = problem.n_nodes // 4
        losses = {
            key: problem.loss(solver.select(problem, m).support) / problem.total
            for key, solver in SOLVERS.items()
        }
        bound = problem.lower_bound()[m] / problem.total
        best = min(losses.values())
        worse += losses["design+"] > losses["greedy+"] * (1 + 1e-9)
        worse += losses["exchange"] > losses["pivoted+"] * (1 + 1e-9)
        cells = " ".join(f"{loss:9.3e}" for loss in losses.values())
        print(f"{name:16} {kind:8} {cells} {bound:9.3e} {best / bound:8.2f}", flush=True)
    print(f"'+': refined by swaps. design+ over greedy+, or exchange over pivoted+: {worse} times")


N_SUBSET, N_KEPT = 20, 5
COMPARED = {
    "greedy": "greedy",
    "greedy+": "greedy, refined",
    "pivoted+": "pivoted_cholesky, refined",
    "design+": "convex, refined",
    "exchange": "exchange",
}


def optimality():
    """Loss of solvers over that of the optimum, among a few nodes of each network."""
    results = Results("optimality", ["solver"])
    for network, kind, problem in tqdm(problems(), desc="networks", leave=False):
        for seed in range(2):
            few = np.sort(np.random.default_rng(seed).permutation(problem.n_nodes)[:N_SUBSET])
            square = np.ix_(few, few)
            part = SelectionProblem(
                problem.covariance[square], problem.weight[square], problem.ridge[few]
            )
            optimum = ExhaustiveSolver().select(part, N_KEPT).loss_path[-1]
            for solver, name in COMPARED.items():
                ratio = SOLVERS[solver].select(part, N_KEPT).loss_path[-1] / optimum
                key = {"network": network, "loss": kind, "solver": name, "seed": seed}
                results.add(key, {"ratio": ratio})
    for solver in COMPARED.values():
        ratios = [each["ratio"] for each in results.rows if each["solver"] == solver]
        print(f"{solver:26} mean {np.mean(ratios):.4f}, largest {max(ratios):.4f}")


# Speed


def relu_covariance(n_nodes, seed=0):
    """Σ of the states of a random relu network."""
    rng = np.random.default_rng(seed)
    W = 1.2 * rng.normal(size=(n_nodes, n_nodes)) / np.sqrt(n_nodes)
    U, b = rng.normal(size=(n_nodes, 20)), 0.1 * rng.normal(size=n_nodes)
    h, products = np.zeros((200, n_nodes)), np.zeros((n_nodes, n_nodes))
    for _ in range(40):
        h = np.maximum(h @ W.T + rng.normal(size=(200, 20)) @ U.T + b, 0.0)
        products += h.T @ h
    return products / 8000


def cur_selection(covariance, m):
    """CUR of scikit-matter on a square root of Σ, or None where it is not installed."""
    if importlib.util.find_spec("skmatter") is None:
        return None
    from skmatter.feature_selection import CUR  # noqa: PLC0415  optional

    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance))).T
    return lambda: CUR(n_to_select=m).fit(root)


def speed():
    """The goals, each measured beside what it is measured by."""
    for n, m in ((1024, 256), (2048, 512)):
        covariance = relu_covariance(n)
        readers = np.random.default_rng(1).normal(size=(n // 2, n))
        fortran = np.asfortranarray(covariance)
        pivoted = seconds(lambda S=fortran: dpstrf(S, lower=1))
        for name, Q in (("Q = I", np.eye(n)), ("dense Q", readers.T @ readers)):
            problem = SelectionProblem(covariance, Q, np.zeros(n))
            greedy = seconds(lambda p=problem, m=m: GreedySolver().select(p, m))
            row("solvers", f"greedy, {name}", f"{n}/{m}", greedy / pivoted, 3.0, "dpstrf")
            if n == 1024:
                exchange = seconds(lambda p=problem, m=m: ExchangeSolver().select(p, m))
                ratio = exchange / greedy
                row("solvers", f"exchange, {name}", f"{n}/{m}", ratio, 20.0, "greedy")
            if n == 1024 and name == "Q = I" and (cur := cur_selection(covariance, m)):
                ratio = greedy / seconds(cur, 1)
                row("solvers", "greedy, Q = I", f"{n}/{m}", ratio, 0.01, "CUR")
    covariance = relu_covariance(512)
    readers = np.random.default_rng(1).normal(size=(256, 512))
    for name, Q in (("Q = I", np.eye(512)), ("dense Q", readers.T @ readers)):
        problem = SelectionProblem(covariance, Q, np.zeros(512))
        greedy = seconds(lambda p=problem: GreedySolver().select(p, 128))
        convex = seconds(lambda p=problem: ConvexSolver().select(p, 128))
        row("solvers", f"convex, {name}", "512/128", convex / greedy, 50.0, "greedy")
    report_memory(8192, 1024)


def report_memory(n, m):
    """Time and peak memory of greedy on a large dense problem."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(n // 8, n)).astype(np.float32)
    tracemalloc.start()
    covariance = np.asarray(factor.T @ factor, dtype=np.float64)
    covariance[np.diag_indices(n)] += 1.0
    problem = SelectionProblem(covariance, covariance.copy(), np.zeros(n))
    tracemalloc.reset_peak()
    elapsed = seconds(lambda: GreedySolver().select(problem, m), 1)
    arrays = tracemalloc.get_traced_memory()[1] / (8 * n * n)
    what, beside = "memory of greedy, dense Q", {"seconds": elapsed}
    row("memory", what, f"{n}/{m}", arrays, 4.0, "n² arrays", **beside)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["quality", "optimality", "speed"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with begin(arguments.threads):
        {"quality": quality, "optimality": optimality, "speed": speed}[arguments.what]()
