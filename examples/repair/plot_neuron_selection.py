"""
Compare learned gates with spectral pruning
===========================================

:class:`~skspectral.NeuronSelectionPruner` adds a gate to every node and
every input, and trains gates and weights together on the labels. This
example compares it with spectral pruning to the same number of nodes. The
spectral pruner is used once without labels, and once with the same number
of epochs of fine-tuning.
"""

# %%
# Train a network
# ---------------
# A GRU with 32 nodes classifies handwritten digits. Each digit is a
# sequence of 8 steps, one row of eight pixels per step.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skspectral import FineTune, NeuronSelectionPruner, RNNClassifier, SpectralRNNPruner

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
network = RNNClassifier(32, max_epochs=10, lr=0.02, batch_size=64, random_state=0)
network.fit(X_train, y_train)
dense = network.score(X_test, y_test)
print(f"dense: 32 nodes, accuracy {dense:.3f}")

# %%
# Prune with both methods
# -----------------------
# ``NeuronSelectionPruner`` has no parameter for the number of nodes. The
# number results from the penalty on each remaining weight. We try three
# penalties and prune spectrally to the resulting numbers of nodes.

training = FineTune(6, lr=0.02, batch_size=64)
rows = []
for penalty in (1e-3, 3e-3, 1e-2):
    gates = NeuronSelectionPruner(
        network,
        penalty_inputs=penalty,
        penalty_nodes=penalty,
        training=training,
        gate_lr=0.2,
        random_state=0,
    ).fit(X_train, y_train)
    m = gates.m_
    spectral = SpectralRNNPruner(network, m, random_state=0).fit(X_train)
    tuned = SpectralRNNPruner(network, m, finetune=training, random_state=0)
    tuned.fit(X_train, y_train)
    pruners = gates, spectral, tuned
    scores = [pruner.score(X_test, y_test) for pruner in pruners]
    rows.append([m, *scores])
    print(
        f"penalty {penalty:.0e}, {m:2d} nodes: gates {scores[0]:.3f},"
        f" spectral {scores[1]:.3f}, fine-tuned {scores[2]:.3f};"
        f" pixels kept by gates: {gates.input_support_}"
    )

# %%
# Results
# -------
# In this example, spectral pruning is more accurate than the gates at every
# size, even without labels. Fine-tuning improves it further. The gates are
# trained for six epochs only, so the example does not show how they perform
# with longer training.
#
# The gates have two advantages: they choose the number of nodes, and they
# also remove inputs. None of the three gated networks uses the first and
# the last pixel of a row, which are nearly always empty.

m, gated, _, tuned = rows[-1]
print(f"{m} nodes: spectral, fine-tuned {tuned:.3f}, gates {gated:.3f}")

# %%
# Plot the accuracy
# -----------------

nodes, *columns = zip(*rows, strict=True)
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
axes.plot(nodes, columns[2], "o-", color="#0072B2", label="spectral, six epochs of fine-tuning")
axes.plot(nodes, columns[0], "s-", color="#D55E00", label="gates, six epochs")
axes.plot(
    nodes,
    columns[1],
    "^--",
    color="#666666",
    label="spectral, no labels",
)
axes.axhline(dense, color="#666666", linestyle=":", label="dense, 32 nodes")
axes.set(xlabel="nodes kept", ylabel="accuracy on test digits", title="Gates and spectral pruning")
axes.legend()
plt.show()
