"""
Can a skorch net be pruned, and trained on?
===========================================

A net of skorch goes into the pruner as it is. What comes out is a net of skorch again, with a
smaller module inside, and can be trained further like any other.
"""

# %%
# A net
# -----
# A GRU of 64 nodes reads handwritten digits, 16 steps of four pixels. A fifth of the training
# digits is set aside by skorch for validation.

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


class DigitReader(nn.Module):
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
net = NeuralNetClassifier(DigitReader, max_epochs=10, **options).fit(X_train, y_train)
print(f"dense: 64 nodes, accuracy {net.score(X_test, y_test):.3f}")

# %%
# Pruned
# ------
# The net is fitted, so it is not trained again, and no targets are needed.

pruner = SpectralRNNPruner(net, m=16).fit(X_train)
small = pruner.pruned_estimator_
pruned = pruner.score(X_test, y_test)
print(type(small).__name__, small.module_)
print(f"pruned: {pruner.m_} nodes, accuracy {pruned:.3f}")

# %%
# Trained on
# ----------
# ``partial_fit`` is skorch's own: ten epochs more, with the optimizer and the settings of the net.
# To compare, a net of 16 nodes is trained for all twenty epochs.

small.partial_fit(X_train, y_train)
fresh = NeuralNetClassifier(DigitReader, module__n_nodes=16, max_epochs=20, **options)
fresh.fit(X_train, y_train)
print(f"16 nodes from the start: accuracy {fresh.score(X_test, y_test):.3f}")

# %%
# Result
# ------
# Yes. Ten epochs of further training more than make up for what pruning lost. A net that has had 16
# nodes from the start is two points behind on new digits after as many epochs, but not on the
# validation digits, so it is not certain that training large and pruning is the better way here.

print(f"16 nodes: accuracy {pruned:.3f} when pruned, {small.score(X_test, y_test):.3f} trained on")

# %%
# The picture
# -----------
# The history of the pruned net goes on where that of the dense one ended.

figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
epochs = np.arange(1, 21)
pruned_history, fresh_history = (each.history[:, "valid_acc"] for each in (small, fresh))
axes.plot(epochs[:10], pruned_history[:10], "o-", color="#0072B2", label="dense, 64 nodes")
axes.plot(epochs[10:], pruned_history[10:], "o-", color="#D55E00", label="pruned to 16, trained on")
axes.plot(epochs, fresh_history, "s--", color="#666666", label="16 nodes from the start")
axes.axvline(10.5, color="#666666", linestyle=":")
axes.set(
    xlabel="epoch",
    ylabel="accuracy on validation digits",
    title="Ten epochs, pruning, ten epochs",
    xticks=epochs[1::2],
)
axes.legend()
plt.show()
