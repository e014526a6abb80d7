"""
Compare repair methods for a pruned network
===========================================

A recurrent network passes the errors of its hidden state on to later steps.
This example compares four ways to prune the same network: deletion of
nodes, reconstruction of the removed nodes from the kept ones, a fit of the
small layer to the hidden states of the dense one (the trajectory fit), and
distillation after this fit. None of them needs labels.
"""

# %%
# Train a network
# ---------------
# A GRU with 64 nodes classifies handwritten digits, presented as sequences
# of 16 steps with four pixels each.

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
# Prune to 14 nodes in four ways
# ------------------------------
# The calibration data are the training sequences without their labels. With
# ``trajectory_fit=0``, the reconstruction is folded into the weights, which
# are not trained further. The trajectory fit is on by default.

settings = {
    "deletion": {"reconstruction": "none"},
    "fold": {"trajectory_fit": 0},
    "trajectory fit (the default)": {},
    "trajectory fit, distillation": {"distill": 10},
}
pruners = {
    name: SpectralRNNPruner(FrozenEstimator(network), m=14, random_state=0, **params).fit(X_train)
    for name, params in settings.items()
}
for name, pruner in pruners.items():
    print(f"{name}: {pruner.m_} nodes, accuracy {pruner.score(X_test, y_test):.3f}")

# %%
# Print the history of the repairs
# --------------------------------
# ``trajectory_history_`` contains the divergence of the outputs on held-out
# calibration sequences, before the trajectory fit and after each fifth of
# its steps. ``divergence_`` is the divergence of the finished network. The
# last line shows the held-out divergence before and after every epoch of
# distillation.

for name, pruner in pruners.items():
    history = " ".join(f"{value:.3f}" for value in pruner.trajectory_history_)
    print(f"{name}: {history or 'not fitted'}; finished {pruner.divergence_:.3f}")
distilled = pruners["trajectory fit, distillation"].distillation_history_
history = " ".join(f"{value:.3f}" for value in distilled["held_out"])
print(f"distillation: {history}")

# %%
# Results
# -------
# Deletion makes the network useless. Folding the reconstruction recovers
# most of the accuracy, and the trajectory fit recovers most of the rest. It
# reduces the divergence of the finished network by a factor of about ten.
#
# In this example, distillation adds nothing: no epoch reduces the held-out
# divergence below its initial value, so the pruner keeps the weights of the
# trajectory fit. For a case where distillation helps, see
# :doc:`/auto_examples/repair/plot_distill_finetune`.

# %%
# Plot the divergence over time
# -----------------------------
# We apply the head after every step, not only after the last one, and
# compute the Kullback–Leibler divergence from the dense network on test
# digits. With deletion, the divergence grows over the whole sequence. With
# the trajectory fit, it is below that of the fold at every step. The two
# curves with the trajectory fit coincide.


def log_probabilities(module):
    """Return outputs for each step, (n_sequences, n_steps, n_classes)."""
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
