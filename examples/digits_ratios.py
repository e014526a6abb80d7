"""
How small can a digit reader get?
=================================

A GRU and an IRNN of 128 nodes read handwritten digits pixel by pixel, 64 steps each. Both
are pruned without labels, and compared with the same nodes before they are fitted to the
trajectory of the dense network, and with plain deletion. Training takes a few minutes the first
time; the trained networks are cached.
"""

# sphinx_gallery_thumbnail_path = '_static/digits_ratios.png'

# %%
# The data
# --------
# The digits that ship with scikit-learn, 8 × 8 pixels, as sequences of 64 gray values.

import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, train_test_split
from tqdm.auto import tqdm

from skspectral import RNNClassifier, SpectralRNNPruner

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)[:, :, None]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)

# %%
# Two trained networks
# --------------------

memory = joblib.Memory(Path.home() / ".cache" / "skspectral", verbose=0)


@memory.cache
def train(cell, **options):
    """Train once; later runs read the network from the cache."""
    network = RNNClassifier(128, cell, random_state=0, verbose=1, **options)
    return network.fit(X_train, y_train)


networks = {
    "GRU": train("gru", max_epochs=40),
    "IRNN": train("irnn", max_epochs=300, lr=1e-3, batch_size=64),
}

# %%
# Grid search over ratios
# -----------------------
# The pruner is an estimator like any other. ``FrozenEstimator`` keeps the search from
# training the network anew in every fold; the network has seen these digits, so the scores
# tell what pruning costs and not how well it reads new digits.

RATIOS = [0.125, 0.25, 0.33, 0.5, 1.0]
GRID = {"m": RATIOS, "solver": ["greedy", "convex"]}


def search(name, network):
    """Cross-validated accuracy of every ratio and solver."""
    with tqdm(total=3 * 2 * len(RATIOS), desc=f"grid search {name}") as bar:

        def accuracy(pruner, X, y):
            bar.update()
            return pruner.score(X, y)

        pruner = SpectralRNNPruner(FrozenEstimator(network))
        return GridSearchCV(pruner, GRID, scoring=accuracy, cv=3, refit=False).fit(X_train, y_train)


for name, network in networks.items():
    results = search(name, network).cv_results_
    print(f"{name}: cross-validated accuracy of the pruned network")
    for solver in GRID["solver"]:
        rows = results["param_solver"] == solver
        scores = zip(results["param_m"][rows], results["mean_test_score"][rows], strict=True)
        print(f"  {solver:6}", "  ".join(f"m={m}: {score:.3f}" for m, score in scores))

# %%
# What is lost
# ------------
# For every size: accuracy of the pruned network on the test digits, the same nodes without
# the trajectory fit and without any reconstruction, the relative information loss and its lower
# bound, and the time one sequence takes on one thread.


def latency(module, repeats=50):
    """Median milliseconds for one sequence, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sequence, times = torch.as_tensor(X_test[:1]), []
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            module(sequence)
            times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 1e3 * float(np.median(times))


def compare(network, m):
    """One row of the table."""
    # With memory, what does not depend on m or on the solver is worked out once.
    pruner = SpectralRNNPruner(FrozenEstimator(network), m=m, memory=memory).fit(X_train)
    deleted = clone(pruner).set_params(reconstruction="none").fit(X_train)
    folded = clone(pruner).set_params(trajectory_fit=0).fit(X_train)
    return {
        "nodes": pruner.m_,
        "parameters": pruner.n_parameters_,
        "dense": network.score(X_test, y_test),
        "pruned": pruner.score(X_test, y_test),
        "folded": folded.score(X_test, y_test),
        "deleted": deleted.score(X_test, y_test),
        "loss": pruner.information_loss_,
        "bound": pruner.loss_lower_bound_,
        "ms dense": latency(network.module_),
        "ms pruned": latency(pruner.pruned_module_),
    }


tables = {
    name: [compare(network, m) for m in tqdm(RATIOS, desc=f"pruning {name}")]
    for name, network in networks.items()
}

# %%

FORMATS = ["5d", "10d", "6.3f", "6.3f", "7.3f", "6.3f", "8.1e", "8.1e", "8.2f", "9.2f"]
columns = list(tables["GRU"][0])
print(
    "net  ",
    "  ".join(f"{name:>{len(f'{0:{form}}')}}" for name, form in zip(columns, FORMATS, strict=True)),
)
for name, rows in tables.items():
    for row in rows:
        cells = (f"{value:{form}}" for value, form in zip(row.values(), FORMATS, strict=True))
        print(f"{name:5}", "  ".join(cells))

# %%
# The picture
# -----------

figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
for (name, rows), (top, bottom) in zip(tables.items(), axes.T, strict=True):
    ratios = [row["nodes"] / 128 for row in rows]
    top.axhline(rows[0]["dense"], color="0.6", linestyle=":", label="dense")
    for key, color, marker in (
        ("pruned", "C0", "o"),
        ("folded", "C1", "s"),
        ("deleted", "C3", "x"),
    ):
        label = {"folded": "not fitted", "deleted": "no reconstruction"}.get(key, key)
        top.plot(ratios, [row[key] for row in rows], color=color, marker=marker, label=label)
    top.set(title=name, ylabel="test accuracy", ylim=(0, 1.02))
    # Where nothing is lost a logarithmic axis has no place for the point.
    loss, bound = ([row[key] or np.nan for row in rows] for key in ("loss", "bound"))
    bottom.semilogy(ratios, loss, "C0o-", label="loss")
    bottom.semilogy(ratios, bound, "k--", label="lower bound")
    bottom.set(xlabel="kept part of 128 nodes", ylabel="relative information loss")
axes[0, 0].legend()
axes[1, 0].legend()
picture = Path("digits_ratios.png").resolve()
figure.savefig(picture, dpi=120)
print(f"Saved the picture as {picture}")
