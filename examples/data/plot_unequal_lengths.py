"""
What if sequences are of unequal length?
========================================

Give them as a list. They run side by side, every step of theirs counts once, and nothing of padding
enters. This example checks that, and shows what padding by hand would do.
"""

# %%
# Waves of 5 to 79 steps
# ----------------------
# Noisy sines of three frequencies, to be told apart by a GRU of 32 nodes.

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch

from skspectral import HiddenStateMoments, RNNClassifier, SpectralRNNPruner

rng = np.random.default_rng(0)
y = rng.integers(3, size=600)
X = [
    np.sin((0.4 + 0.2 * label) * np.arange(length) + rng.uniform(0, 2 * np.pi))
    + 0.3 * rng.normal(size=length)
    for label, length in zip(y, rng.integers(5, 80, size=len(y)), strict=True)
]
X_train, X_test, y_train, y_test = X[:300], X[300:], y[:300], y[300:]
network = RNNClassifier(32, max_epochs=6, lr=0.02, batch_size=16, random_state=0)
network.fit(X_train, y_train)
n_steps = sum(map(len, X_train))
print(f"{n_steps} steps to fit; dense accuracy {network.score(X_test, y_test):.3f}")

# %%
# The list, and an array
# ----------------------
# The array is filled up with zeros to 80 steps, and nobody can know that these are no data. With
# ``memory``, what does not depend on the number of nodes is worked out once.

padded = np.zeros((len(X_train), 80))
for row, sequence in zip(padded, X_train, strict=True):
    row[: len(sequence)] = sequence

sizes = [4, 6, 8, 12]
with TemporaryDirectory() as folder:
    pruners = {
        name: [SpectralRNNPruner(network, m=m, memory=folder).fit(given) for m in sizes]
        for name, given in {"list": X_train, "padded": padded}.items()
    }
accuracies = {
    name: [pruner.score(X_test, y_test) for pruner in found] for name, found in pruners.items()
}
for name, values in accuracies.items():
    print(name, "  ".join(f"{m} nodes: {v:.3f}" for m, v in zip(sizes, values, strict=True)))

# %%
# Every sequence by itself
# ------------------------
# Run one by one and added up by hand, the states have the covariance that they should have.

moments = HiddenStateMoments(32)
with torch.no_grad():
    for sequence in X_train:
        states = network.module_.rnn(torch.tensor(sequence).float()[None, :, None])[0]
        moments.update(states[0])
for name, (pruner, *_) in pruners.items():
    error = np.abs(pruner.covariance_ - moments.covariance).max()
    print(f"{name}: {pruner.moments_.n_steps} steps, covariance off by {error:.0e}")

# %%
# Result
# ------
# The list gives the covariance of the sequences themselves, to the rounding of float32. In the
# padded array nearly half of the steps are zeros, the covariance is another, and the smallest
# networks are the worse for it. From 8 nodes on it makes no difference here.

by_list, by_padded = accuracies["list"][1], accuracies["padded"][1]
print(f"6 nodes: accuracy {by_list:.3f} from the list, {by_padded:.3f} from the padded array")

# %%
# The picture
# -----------
# On the left every dot is a node: its second moment, one by one and in the fit.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
styles = {"padded": ("#D55E00", "s"), "list": ("#0072B2", "o")}
for name, (color, marker) in styles.items():
    second = pruners[name][0].covariance_.diagonal()
    left.plot(moments.covariance.diagonal(), second, marker, color=color, label=name)
    right.plot(sizes, accuracies[name], f"{marker}-", color=color, label=name)
left.axline((0, 0), slope=1, color="#666666", linestyle=":", label="the same")
left.set(
    xlabel="second moment of a node, one by one (no unit)",
    ylabel="second moment in the fit (no unit)",
    title="Hidden states",
)
right.axhline(network.score(X_test, y_test), color="#666666", linestyle=":", label="dense")
right.set(xlabel="nodes kept", ylabel="accuracy on other sequences", title="Pruned networks")
left.legend()
right.legend()
plt.show()
