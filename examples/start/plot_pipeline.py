"""
Can the pruner stand in a Pipeline?
===================================

The pruner is an estimator like any other. Here it follows a step that makes sequences out of
images, and a grid search chooses how much of the network to keep.
"""

# %%
# Images, as scikit-learn ships them
# ----------------------------------
# Five kinds of handwritten digits, each a row of 64 gray values from 0 to 16. The first step of the
# pipeline scales them and makes 16 steps of four pixels out of each.

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
# A grid over ratios
# ------------------
# The network has not been trained: each fold trains it on its own part of the digits, and then
# prunes it. With ``memory`` the pruner keeps the trained network of a fold, so that it is trained
# once and not again for every ratio.

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
# Result
# ------
# Yes. Its parameters stand in a grid, the search copies and scores it, and the best pipeline
# predicts from plain images. Half of the nodes are as good as all, within the spread of the folds.
# Where lost nodes are deleted and not rebuilt, every ratio below one costs much.

score = search.score(X_test, y_test)
print(f"best ratio {search.best_params_['prune__m']}: accuracy {score:.3f} on new digits")

# %%
# The picture
# -----------
# ``"linear"`` rebuilds the lost nodes from the kept ones, ``"none"`` deletes them.

ScoreCurveDisplay.from_estimator(search, score_name="accuracy")
plt.show()
