"""
What repairs a pruned network?
==============================

The errors of a pruned network add up through time. This example follows them, step by step, when
nodes are deleted, when the others are rebuilt from the kept ones, when the small layer is fitted to
the trajectory of the dense one, and after a few epochs of distillation. None of these needs labels.
"""

# %%
# A network that reads digits
# ---------------------------
# Each digit is a sequence of 16 steps, four pixels at a time. The network is a GRU of 64 nodes.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skspectral import RNNClassifier, SpectralRNNPruner

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 16, 4)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
network = RNNClassifier(64, max_epochs=20, random_state=0).fit(X_train, y_train)
print(f"dense: 64 nodes, accuracy {network.score(X_test, y_test):.3f}")

# %%
# Four ways to 14 nodes
# ---------------------
# No labels are used: the pruned networks see the training sequences, and what the dense network
# answers to them.

ways = {
    "deletion": {"reconstruction": "none"},
    "fold": {"trajectory_fit": 0},
    "trajectory fit (the default)": {},
    "trajectory fit, distillation": {"distill": 10},
}
pruners = {
    name: SpectralRNNPruner(FrozenEstimator(network), m=14, random_state=0, **params).fit(X_train)
    for name, params in ways.items()
}
for name, pruner in pruners.items():
    print(f"{name}: {pruner.m_} nodes, accuracy {pruner.score(X_test, y_test):.3f}")

# %%
# How the fit went
# ----------------
# ``trajectory_history_`` has the divergence on sequences held out, before the fit and after each
# fifth of its steps; ``divergence_`` is that of the finished network.

for name, pruner in pruners.items():
    history = " ".join(f"{value:.3f}" for value in pruner.trajectory_history_)
    print(f"{name}: {history or 'not fitted'}; finished {pruner.divergence_:.3f}")

# %%
# Divergence through time
# -----------------------
# At every step the head is asked what it would say of the states so far. The divergence is that of
# its answer from the dense network's, on digits that no network has seen.


def log_probabilities(module):
    """What a network would answer after each step, shape (n_sequences, n_steps, n_classes)."""
    with torch.no_grad():
        return module.head(module.rnn(torch.as_tensor(X_test))[0]).log_softmax(-1)


dense = log_probabilities(network.module_)
colors = {"deletion": "C3", "fold": "C1", "trajectory fit (the default)": "C0"}
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
for name, pruner in pruners.items():
    pruned = log_probabilities(pruner.pruned_module_)
    divergence = (dense.exp() * (dense - pruned)).sum(-1).mean(0)
    axes.semilogy(
        np.arange(1, 17),
        divergence,
        color=colors.get(name, "C2"),
        marker="o",
        label=f"{name}: accuracy {pruner.score(X_test, y_test):.3f}",
    )
axes.set(
    xlabel="step",
    ylabel="KL divergence from the dense network (nats)",
    title=f"GRU pruned from 64 to 14 nodes; dense accuracy {network.score(X_test, y_test):.3f}",
)
axes.legend()
plt.show()
