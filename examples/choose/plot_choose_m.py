"""
How small can it get?
=====================

Cross-validation tells what every number of nodes costs, and the rule of one standard error takes
the smallest that costs nothing which can be told from chance.
"""

# %%
# A network, and digits that it has not seen
# ------------------------------------------
# Some of the digits train the network, others choose the number of nodes, and the rest tell how
# good the choice was.

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
# Every number of nodes
# ---------------------
# The network is trained, so no fold trains it again. Each fold runs its sequences once, for all the
# numbers together, and so trying ten of them costs little more than trying one.

pruner = SpectralRNNPrunerCV(
    network, ms=[6, 8, 12, 16, 20, 24, 32, 40, 48, 64], cv=5, one_standard_error=True
)
pruner.fit(X_choice, y_choice)
results = pruner.cv_results_
errors = results["std_test_score"] / np.sqrt(5 - 1)
for m, mean, error in zip(pruner.ms, results["mean_test_score"], errors, strict=True):
    print(f"{m:2d} nodes: accuracy {mean:.3f} ± {error:.3f}")

# %%
# Result
# ------
# Not very small, if nothing may be lost that can be told from chance: fewer than 40 nodes cost more
# than one standard error. On digits that took no part in the choice, 40 cost a point and a half.
# Whoever can spare three points in the folds takes 24. How far training after pruning goes is seen
# in :doc:`/auto_examples/repair/plot_distill_finetune`.

dense, small = network.score(X_test, y_test), pruner.score(X_test, y_test)
print(f"{pruner.m_} of 64 nodes: accuracy {small:.3f} on new digits, dense {dense:.3f}")

# %%
# The picture
# -----------
# The chosen number is the first whose mean reaches the dashed line, that of the best less its
# standard error. The band is a standard deviation of the folds.

display = ScoreCurveDisplay.from_estimator(pruner, score_name="accuracy")
best = results["mean_test_score"].argmax()
line = results["mean_test_score"][best] - errors[best]
display.ax_.axhline(line, color="#666666", linestyle="--", label="best less one standard error")
display.ax_.legend()
plt.show()
