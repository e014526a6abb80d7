"""
Inspect which nodes are kept
============================

The nodes with the largest activations are not always the ones to keep. The
pruner keeps nodes that cannot be predicted from the other kept nodes. This
example compares both properties on one network.
"""

# %%
# Prune a network
# ---------------
# A GRU with 64 nodes classifies handwritten digits, presented as sequences
# of 16 steps with four pixels each. It is pruned to 16 nodes. With
# ``objective="input"``, the loss is the reconstruction error of the hidden
# states, with equal weight for all nodes. The selection then depends only
# on the covariance of the states.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skspectral import RNNClassifier, SpectralRNNPruner
from skspectral.inspection import SupportDisplay

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 16, 4)
network = RNNClassifier(64, max_epochs=12, lr=0.01, batch_size=64, random_state=0).fit(X, y)
pruner = SpectralRNNPruner(network, m=16, objective="input").fit(X)
kept, covariance = pruner.get_support(), pruner.covariance_

# %%
# Compare with the nodes of largest second moment
# -----------------------------------------------
# The second moments of the nodes are the diagonal of the covariance matrix.
# The solver ``"variance"`` keeps the 16 nodes with the largest second
# moments.

moment = covariance.diagonal()
by_variance = SpectralRNNPruner(
    network,
    m=16,
    objective="input",
    solver="variance",
).fit(X)
n_shared = np.intersect1d(pruner.support_, by_variance.support_).size
print(f"{n_shared} of the 16 nodes with largest second moment are kept")
losses = pruner.information_loss_, by_variance.information_loss_
print(f"loss: pruner {losses[0]:.3f}, largest second moments {losses[1]:.3f}")

# %%
# Compute the residual of each node
# ---------------------------------
# Each removed node is predicted by linear regression on the kept nodes, and
# each kept node by regression on the other 15. The residual is the second
# moment of the prediction error.

inverse = np.linalg.inv(covariance[np.ix_(kept, kept)])
with_kept = covariance[:, kept]
explained = np.einsum("ij,jk,ik->i", with_kept, inverse, with_kept)
residual = moment - explained
residual[kept] = 1 / inverse.diagonal()
for name, values in {"second moment": moment, "residual": residual}.items():
    of_kept, of_removed = np.median(values[kept]), np.median(values[~kept])
    print(f"median {name}: kept {of_kept:.3f}, removed {of_removed:.3f}")

# %%
# Results
# -------
# The kept nodes have large residuals: the median is more than twice that of
# the removed nodes. The second moments differ much less, and only about a
# third of the nodes with the largest second moments are kept. Keeping all
# of those instead gives a loss about one and a half times as large.

ratio = np.median(residual[kept]) / np.median(residual[~kept])
print(f"median residual: {ratio:.1f} times as large for kept nodes")

# %%
# Plot covariance and residuals
# -----------------------------
# Left: the covariance, normalized to values from −1 to 1, with the kept
# nodes first. Right: the residual of each node against its second moment.
# Some of the removed nodes have larger second moments than most of the kept
# nodes.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
SupportDisplay.from_estimator(pruner, ax=left)
right.plot(
    moment[~kept],
    residual[~kept],
    "o",
    color="#666666",
    fillstyle="none",
    label="removed",
)
right.plot(moment[kept], residual[kept], "s", color="#D55E00", label="kept")
right.set(
    xlabel="second moment (no unit)",
    ylabel="residual given the other kept nodes (no unit)",
    title="Second moment and residual of each node",
)
right.legend()
plt.show()
