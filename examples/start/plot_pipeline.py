"""
Prune inside a Pipeline
=======================

:class:`~skspectral.SpectralRNNPruner` is a scikit-learn estimator. In this
example, it follows a preprocessing step in a ``Pipeline``, and a grid
search chooses the fraction of nodes to keep.
"""

# %%
# Load the data
# -------------
# We use the digits 0 to 4. Each image is a row of 64 gray values from 0 to
# 16. The first step of the pipeline scales the values and converts each
# image into a sequence of 16 steps with four pixels each.

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skspectral import RNNClassifier, SpectralRNNPruner
from skspectral.inspection import ScoreCurveDisplay

X, y = load_digits(n_class=5, return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)


def as_sequences(X):
    return (X / 16).astype("float32").reshape(-1, 16, 4)


# %%
# Search over the fraction of nodes
# ---------------------------------
# The network is not trained yet. In each fold, the pruner trains it on the
# training part of the fold and then prunes it. With ``memory``, the trained
# network is cached, so that each fold trains it only once for all
# candidates of the grid. ``reconstruction="linear"`` rebuilds the removed
# nodes from the kept ones, and ``"none"`` deletes them.

ratios = [0.125, 0.25, 0.5, 0.75, 1.0]
network = RNNClassifier(48, max_epochs=12, lr=0.02, batch_size=64, random_state=0)
with TemporaryDirectory() as folder:
    pipe = Pipeline(
        [
            ("sequences", FunctionTransformer(as_sequences)),
            ("prune", SpectralRNNPruner(network, memory=folder)),
        ]
    )
    grid = {"prune__m": ratios, "prune__reconstruction": ["linear", "none"]}
    search = GridSearchCV(pipe, grid, cv=3).fit(X_train, y_train)
results = search.cv_results_
for params, mean, std in zip(
    results["params"], results["mean_test_score"], results["std_test_score"], strict=True
):
    print(f"{params}: accuracy {mean:.3f} ± {std:.3f}")
print(search.best_estimator_["prune"].summary())

# %%
# Results
# -------
# With the linear reconstruction, all fractions reach the accuracy of the
# dense network (1.0) within the spread of the folds. The search selects the
# highest mean score, but here the differences are too small to prefer one
# fraction. If nodes are deleted, every fraction below 1.0 reduces the
# accuracy, and small fractions reduce it strongly.
#
# The accuracy on test digits is higher than in the folds. One possible
# reason is that the final network is trained on all training digits, while
# each fold trains on two thirds of them.

score, m = search.score(X_test, y_test), search.best_params_["prune__m"]
print(f"best fraction {m}: accuracy {score:.3f} on test digits")

# %%
# Plot the scores
# ---------------

ScoreCurveDisplay.from_estimator(search, score_name="accuracy")
plt.show()
