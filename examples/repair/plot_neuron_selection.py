"""
Gates that learn, or spectral pruning?
======================================

``NeuronSelectionPruner`` gives every node a gate and trains gates and weights together, on labels.
This example sets it beside spectral pruning to as many nodes, trained for as many epochs.
"""

# %%
# A network that reads digits
# ---------------------------
# A GRU of 32 nodes; each digit is a sequence of 8 steps, a row of eight pixels at a time.

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
# Both ways
# ---------
# Gates cannot be told how many nodes to keep: that follows from the penalty, the price of a weight.
# Here it grows threefold each time. Spectral pruning is then given the number that came out.

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
    folded = SpectralRNNPruner(network, m=gates.m_, random_state=0).fit(X_train)
    tuned = SpectralRNNPruner(network, m=gates.m_, finetune=training, random_state=0)
    tuned.fit(X_train, y_train)
    rows.append([gates.m_, *(each.score(X_test, y_test) for each in (gates, folded, tuned))])
    m, *scores = rows[-1]
    print(
        f"penalty {penalty:.0e}, {m:2d} nodes: gates {scores[0]:.3f}, spectral {scores[1]:.3f},"
        f" fine-tuned {scores[2]:.3f}; the gates read pixels {gates.input_support_}"
    )

# %%
# Result
# ------
# Here spectral pruning is better at every size, even without training; at 27 nodes fine-tuning
# finds nothing better than the folded weights. But six epochs are few for gates, which have to
# close and to be learned around in that time, so with more of them it may come out otherwise. What
# gates bring is that they find the number of nodes by themselves, and that they close inputs too:
# the first and the last pixel of a row, which are nearly always empty, are read by none of these
# networks.

m, gated, _, tuned = rows[-1]
print(f"{m} nodes: spectral pruning and fine-tuning {tuned:.3f}, gates {gated:.3f}")

# %%
# The picture
# -----------
# Each gated network and the two spectral ones of as many nodes.

nodes, *columns = zip(*rows, strict=True)
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
axes.plot(nodes, columns[2], "o-", color="#0072B2", label="spectral, six epochs of fine-tuning")
axes.plot(nodes, columns[0], "s-", color="#D55E00", label="gates, six epochs")
axes.plot(nodes, columns[1], "^--", color="#666666", label="spectral, no training")
axes.axhline(dense, color="#666666", linestyle=":", label="dense, 32 nodes")
axes.set(xlabel="nodes kept", ylabel="accuracy on test digits", title="Gates and spectral pruning")
axes.legend()
plt.show()
