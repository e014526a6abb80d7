"""
Which nodes stay, and why?
==========================

The nodes that move most are not the ones that are kept. A node stays if the other kept ones cannot
stand in for it. This example shows that for one network.
"""

# %%
# A pruned network
# ----------------
# A GRU of 64 nodes reads handwritten digits, 16 steps of four pixels, and is pruned to 16 nodes.
# With ``objective="input"`` the loss is that of the states alone, whatever reads them, so that
# nothing but their covariance decides.

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
# How much a node moves
# ---------------------
# That is its second moment, the diagonal of the covariance. Keeping the 16 nodes of the largest is
# the simplest choice of all, and it has a solver.

moment = covariance.diagonal()
loudest = SpectralRNNPruner(network, m=16, objective="input", solver="variance").fit(X)
shared = np.intersect1d(pruner.support_, loudest.support_)
print(f"{len(shared)} of the 16 nodes that move most are kept")
print(f"loss {pruner.information_loss_:.3f}; with those 16 {loudest.information_loss_:.3f}")

# %%
# How much of it is its own
# -------------------------
# Each node is predicted from the kept ones, by regression; a kept node from the other 15. What is
# left of its second moment is what would be lost with the node.

inverse = np.linalg.inv(covariance[np.ix_(kept, kept)])
left_over = moment - np.einsum("ij,jk,ik->i", covariance[:, kept], inverse, covariance[:, kept])
left_over[kept] = 1 / inverse.diagonal()
for name, values in {"second moment": moment, "left over": left_over}.items():
    medians = np.median(values[kept]), np.median(values[~kept])
    print(f"{name}: kept {medians[0]:.3f}, lost {medians[1]:.3f} (medians)")

# %%
# Result
# ------
# Those stay of which most is their own. Of a typical kept node about twice as much is left over as
# of a typical lost one, though some of the lost ones move more than most of the kept. The choice is
# one of a team: half of the nodes that move most are not needed beside the others.

ratio = np.median(left_over[kept]) / np.median(left_over[~kept])
print(f"left over of a kept node: {ratio:.1f} times what is of a lost one (medians)")

# %%
# The picture
# -----------
# On the left, how alike nodes are, from −1 to 1. The kept ones come first. On the right, each node
# by how much it moves and how much of that is left over.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
SupportDisplay.from_estimator(pruner, ax=left)
right.plot(moment[~kept], left_over[~kept], "o", color="#666666", fillstyle="none", label="lost")
right.plot(moment[kept], left_over[kept], "s", color="#D55E00", label="kept")
right.set(
    xlabel="second moment (no unit)",
    ylabel="left over by the other kept nodes (no unit)",
    title="How much a node moves, and what is its own",
)
right.legend()
plt.show()
