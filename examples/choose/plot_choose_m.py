"""
Choose the number of nodes by cross-validation
==============================================

:class:`~skspectral.SpectralRNNPrunerCV` scores several numbers of nodes by
cross-validation. With ``one_standard_error=True``, it selects the smallest
number whose mean score is within one standard error of the best.
"""

# %%
# Train a network
# ---------------
# The digits are split into three parts: one to train the network, one to
# choose the number of nodes, and one to test the result.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skspectral import RNNClassifier, SpectralRNNPrunerCV
from skspectral.inspection import ScoreCurveDisplay

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 16, 4)
X_train, X_rest, y_train, y_rest = train_test_split(X, y, train_size=900, random_state=0)
X_choice, X_test, y_choice, y_test = train_test_split(X_rest, y_rest, test_size=0.4, random_state=0)
network = RNNClassifier(64, max_epochs=20, lr=0.01, batch_size=64, random_state=0)
network.fit(X_train, y_train)

# %%
# Cross-validate the number of nodes
# ----------------------------------
# The network is fitted, so it is not trained again in the folds. Each fold
# runs the dense network over its sequences once. It then prunes the network
# to each of the ten sizes.

pruner = SpectralRNNPrunerCV(
    network, ms=[6, 8, 12, 16, 20, 24, 32, 40, 48, 64], cv=5, one_standard_error=True
)
pruner.fit(X_choice, y_choice)
results = pruner.cv_results_
errors = results["std_test_score"] / np.sqrt(5 - 1)
for m, mean, error in zip(pruner.ms, results["mean_test_score"], errors, strict=True):
    print(f"{m:2d} nodes: accuracy {mean:.3f} ± {error:.3f}")

# %%
# Results
# -------
# The rule selects about half of the nodes. On the test digits, the pruned
# network is about one point less accurate than the dense one. The mean
# score falls slowly at first: 24 nodes cost one or two points in
# cross-validation, 8 nodes cost about nine. For training after pruning, see
# :doc:`/auto_examples/repair/plot_distill_finetune`.

dense, pruned = network.score(X_test, y_test), pruner.score(X_test, y_test)
print(f"dense: test accuracy {dense:.3f}")
print(f"{pruner.m_} of 64 nodes: test accuracy {pruned:.3f}")

# %%
# Plot the scores
# ---------------
# The dashed line is the best mean score minus its standard error. The
# selected number of nodes is the smallest one on or above this line. The
# band shows one standard deviation over the folds.

display = ScoreCurveDisplay.from_estimator(pruner, score_name="accuracy")
best = results["mean_test_score"].argmax()
threshold = results["mean_test_score"][best] - errors[best]
display.ax_.axhline(
    threshold,
    color="#666666",
    linestyle="--",
    label="best minus one standard error",
)
display.ax_.legend()
plt.show()
