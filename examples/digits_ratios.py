"""
Accuracy of digit classifiers at different pruning ratios
=========================================================

A GRU and an IRNN with 128 nodes classify handwritten digits pixel by pixel,
as sequences of 64 steps. Both are pruned without labels to several
fractions of their nodes. Two variants keep the same nodes for comparison:
one without the trajectory fit, and one without any reconstruction. The
trained GRU is cached, and the weights of the IRNN are included in the
examples.
"""

# sphinx_gallery_thumbnail_path = '_static/digits_ratios.png'

# %%
# Load the data
# -------------
# The images of scikit-learn's digits data set have 8 × 8 pixels. Each one
# is a sequence of 64 gray values.

from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from safetensors.torch import load_file
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
# Train the networks
# ------------------
# An IRNN is a ReLU network whose recurrent weights are initialized to the
# identity. This one was trained for 300 epochs with ``lr=1e-3`` and
# ``batch_size=64``. The script fits a network for one epoch to create its
# layers, and then loads the trained weights.

memory = joblib.Memory(Path.home() / ".cache" / "skspectral", verbose=0)


@memory.cache
def train(cell, max_epochs):
    """Train once; later runs read the network from the cache."""
    network = RNNClassifier(128, cell, max_epochs=max_epochs, random_state=0, verbose=1)
    return network.fit(X_train, y_train)


networks = {"GRU": train("gru", 30), "IRNN": train("irnn", 1)}
here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
networks["IRNN"].module_.load_state_dict(load_file(here / "digits_irnn.safetensors"))
for name, network in networks.items():
    print(f"{name}: accuracy {network.score(X_test, y_test):.3f} on test digits")

# %%
# Search over pruning ratios
# --------------------------
# The pruner is a scikit-learn estimator. With ``FrozenEstimator``, the
# network is not trained again in every fold. The network was trained on the
# same digits, so the scores measure the cost of pruning, not the accuracy
# on new digits.

GRID = {"m": [0.125, 0.25, 0.5], "solver": ["greedy", "exchange"]}

print("Grid search over 3 ratios and 2 solvers, 2 folds ...")
pruner = SpectralRNNPruner(FrozenEstimator(networks["GRU"]))
results = GridSearchCV(pruner, GRID, cv=2, refit=False, n_jobs=2).fit(X_train, y_train).cv_results_
print("GRU: cross-validated accuracy of the pruned network")
for solver in GRID["solver"]:
    rows = results["param_solver"] == solver
    scores = zip(results["param_m"][rows], results["mean_test_score"][rows], strict=True)
    print(f"  {solver:8}", "  ".join(f"m={m}: {score:.3f}" for m, score in scores))

# %%
# Compare accuracy and loss
# -------------------------
# The table contains, for every size, the test accuracy of the pruned
# network and of the same nodes without the trajectory fit and without any
# reconstruction, the relative information loss, and its lower bound. A loss
# of zero means that the removed nodes are rebuilt exactly. This happens at
# half of the nodes of the IRNN, because at least half of them are never
# active.


RATIOS = [0.125, 0.25, 0.33, 0.5]


def compare(network, m):
    """Return one row of the table."""
    # With memory, results that do not depend on m are computed once.
    pruner = SpectralRNNPruner(FrozenEstimator(network), m=m, memory=memory).fit(X_train)
    not_fitted = clone(pruner).set_params(trajectory_fit=0).fit(X_train)
    deleted = clone(pruner).set_params(reconstruction="none").fit(X_train)
    return {
        "nodes": pruner.m_,
        "parameters": pruner.n_parameters_,
        "pruned": pruner.score(X_test, y_test),
        "not fitted": not_fitted.score(X_test, y_test),
        "deleted": deleted.score(X_test, y_test),
        "loss": pruner.information_loss_,
        "bound": pruner.loss_lower_bound_,
    }


parallel = joblib.Parallel(n_jobs=2, return_as="generator")
tables = {}
for name, network in networks.items():
    rows = parallel(joblib.delayed(compare)(network, m) for m in RATIOS)
    tables[name] = list(tqdm(rows, desc=f"pruning {name}", total=len(RATIOS)))

# %%

FORMATS = ["5d", "10d", "6.3f", "10.3f", "7.3f", "7.1e", "7.1e"]
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
# Plot accuracy and loss
# ----------------------

figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
for (name, rows), (top, bottom) in zip(tables.items(), axes.T, strict=True):
    ratios = [row["nodes"] / 128 for row in rows]
    dense = networks[name].score(X_test, y_test)
    top.axhline(dense, color="0.6", linestyle=":", label="dense")
    for key, style in (("pruned", "C0o-"), ("not fitted", "C1s-"), ("deleted", "C3x-")):
        top.plot(ratios, [row[key] for row in rows], style, label=key)
    top.set(title=name, ylabel="test accuracy", ylim=(0, 1.02))
    # A loss of zero cannot be shown on a logarithmic axis.
    loss, bound = ([row[key] or np.nan for row in rows] for key in ("loss", "bound"))
    bottom.semilogy(ratios, loss, "C0o-", label="loss")
    bottom.semilogy(ratios, bound, "k--", label="lower bound")
    bottom.set(xlabel="fraction of 128 nodes kept", ylabel="relative information loss")
axes[0, 0].legend()
axes[1, 0].legend()
picture = Path("digits_ratios.png").resolve()
figure.savefig(picture, dpi=120)
print(f"Saved the picture as {picture}")
