"""
Prune a skorch net and continue training
========================================

The pruner accepts a skorch net. The pruned estimator is again a skorch net,
with a smaller module, and can be trained further.
"""

# %%
# Train a skorch net
# ------------------
# A GRU with 64 nodes classifies handwritten digits, presented as sequences
# of 16 steps with four pixels each. By default, skorch uses a fifth of the
# training digits for validation.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from skspectral import SpectralRNNPruner

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 16, 4)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=1000, random_state=0)


class DigitClassifier(nn.Module):
    def __init__(self, n_nodes=64):
        super().__init__()
        self.gru = nn.GRU(4, n_nodes, batch_first=True)
        self.head = nn.Linear(n_nodes, 10)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


options = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.Adam,
    "lr": 0.01,
    "batch_size": 64,
    "verbose": 0,
}
torch.manual_seed(0)
net = NeuralNetClassifier(DigitClassifier, max_epochs=10, **options)
net.fit(X_train, y_train)
print(f"dense: 64 nodes, accuracy {net.score(X_test, y_test):.3f}")

# %%
# Prune the net
# -------------
# The net is fitted, so the pruner does not train it again and needs no
# labels.

pruner = SpectralRNNPruner(net, m=16).fit(X_train)
pruned_net = pruner.pruned_estimator_
pruned = pruner.score(X_test, y_test)
print(type(pruned_net).__name__, pruned_net.module_)
print(f"pruned: {pruner.m_} nodes, accuracy {pruned:.3f}")

# %%
# Continue training
# -----------------
# The ``partial_fit`` method of skorch trains the pruned net for another ten
# epochs with the settings of the dense net. For comparison, a new net with
# 16 nodes is trained for twenty epochs.

pruned_net.partial_fit(X_train, y_train)
trained = pruned_net.score(X_test, y_test)
torch.manual_seed(0)
fresh = NeuralNetClassifier(
    DigitClassifier,
    module__n_nodes=16,
    max_epochs=20,
    **options,
)
fresh.fit(X_train, y_train)
print(f"16 nodes from the start: accuracy {fresh.score(X_test, y_test):.3f}")

# %%
# Results
# -------
# Pruning costs a few points of accuracy. After ten more epochs, the pruned
# net is more accurate than the dense net was after its ten epochs.
#
# The net with 16 nodes from the start is less accurate after twenty epochs.
# This is a single run with one seed, so it does not show that training a
# large net and pruning it is better in general.

print(f"16 nodes: accuracy {pruned:.3f}, after training {trained:.3f}")

# %%
# Plot the validation accuracy
# ----------------------------
# The history of the pruned net includes that of the dense net.

figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
epochs = np.arange(1, 21)
pruned_history = pruned_net.history[:, "valid_acc"]
fresh_history = fresh.history[:, "valid_acc"]
axes.plot(epochs[:10], pruned_history[:10], "o-", color="#0072B2", label="dense, 64 nodes")
axes.plot(
    epochs[10:],
    pruned_history[10:],
    "o-",
    color="#D55E00",
    label="pruned to 16 nodes",
)
axes.plot(epochs, fresh_history, "s--", color="#666666", label="16 nodes from the start")
axes.axvline(10.5, color="#666666", linestyle=":")
axes.set(
    xlabel="epoch",
    ylabel="accuracy on validation digits",
    title="Training before and after pruning",
    xticks=epochs[1::2],
)
axes.legend()
plt.show()
