"""
Prune with data that does not fit into memory
=============================================

The selection of the nodes needs only the moments of the hidden states.
Their size does not depend on the number of sequences, and the moments of
several batches can be added. This example prunes from a memory-mapped file,
batch by batch, and with moments from several machines.
"""

# %%
# Write a file of sequences
# -------------------------
# The network is a GRU with 64 nodes that classifies handwritten digits,
# presented as sequences of 16 steps with four pixels each. A NumPy file
# contains 10,000 noisy copies of the training digits. They are sorted by
# class: a thousand copies of the digit 0 come first, then those of the
# digit 1, and so on. This is an unfavorable order for streaming.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skspectral import HiddenStateMoments, RNNClassifier, SpectralRNNPruner

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 16, 4)
X_train, X_test, y_train, y_test = X[:1000], X[1000:], y[:1000], y[1000:]
network = RNNClassifier(64, max_epochs=10, lr=0.02, batch_size=64, random_state=0)
network.fit(X_train, y_train)

folder = TemporaryDirectory()
path = Path(folder.name) / "digits.npy"
rng = np.random.default_rng(0)
file = np.lib.format.open_memmap(path, mode="w+", dtype="float32", shape=(10_000, 16, 4))
for digit in range(10):
    copies = rng.choice(X_train[y_train == digit], 1000)
    file[1000 * digit : 1000 * (digit + 1)] = copies + rng.normal(scale=0.1, size=copies.shape)
del file

# %%
# Prune from the file
# -------------------
# The pruner reads a memory map one batch at a time. The objective
# ``"one-step"`` depends only on the moments and on the weights of the
# network. The default objective also uses the sensitivity of the outputs,
# which is estimated on a sample of the sequences.
#
# After the selection, the weights are fitted to a sample of the sequences,
# which is held in memory.

params = {"m": 24, "objective": "one-step"}
sequences = np.load(path, mmap_mode="r")
at_once = SpectralRNNPruner(network, **params).fit(sequences)
covariance = at_once.covariance_
print(f"{path.stat().st_size / 1e6:.1f} MB in the file, {at_once.moments_.n_steps} steps")
print(f"{at_once.moments_.products_.nbytes / 1e3:.0f} kB of moments")

# %%
# Prune batch by batch
# --------------------
# ``partial_fit`` adds the moments of a batch to those of the previous
# batches, and prunes the dense network again.

pruner = SpectralRNNPruner(network, **params)
distances, accuracies = [], []
for batch in np.split(sequences, 10):
    pruner.partial_fit(batch)
    distances.append(np.linalg.norm(pruner.covariance_ - covariance) / np.linalg.norm(covariance))
    accuracies.append(pruner.score(X_test, y_test))
    print(
        f"{len(distances):2d} batches:"
        f" covariance error {distances[-1]:.0e}, accuracy {accuracies[-1]:.3f}"
    )
print(f"file at once: accuracy {at_once.score(X_test, y_test):.3f}")
print(f"same nodes: {np.array_equal(pruner.support_, at_once.support_)}")

# %%
# Merge moments from several machines
# -----------------------------------
# Each machine can process a part of the file. The moments are then merged,
# and the result can be passed to ``fit`` as ``moments``.

moments = HiddenStateMoments(64)
for part in np.split(sequences, 4):
    moments.merge(SpectralRNNPruner(network, **params).fit(part).moments_)
error = np.abs(moments.covariance - covariance).max()
print(f"four parts: covariance error {error:.0e}")
folder.cleanup()

# %%
# Results
# -------
# The moments agree up to rounding errors in all three cases, and the
# selected nodes of the two pruners are the same. The final accuracies
# differ slightly because the weights are fitted to different samples of the
# sequences.
#
# Before the last batch, the covariance differs from that of the whole file.
# The accuracy is clearly lower after the first batch, which contains only
# the digit 0. From the second batch on, it is within a few points of that
# of the whole file.

print(f"batch by batch: final covariance error {distances[-1]:.0e}")

# %%
# Plot covariance error and accuracy
# ----------------------------------
# Each batch adds one new digit class.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
batches = np.arange(1, 11)
left.plot(batches, distances, "o-", color="#0072B2")
left.set(
    xlabel="batches seen",
    ylabel="relative distance from whole file",
    title="Covariance of the states",
    ylim=0,
)
right.plot(batches, accuracies, "o-", color="#0072B2", label="batch by batch")
right.axhline(at_once.score(X_test, y_test), color="#D55E00", linestyle="--", label="file at once")
right.axhline(network.score(X_test, y_test), color="#666666", linestyle=":", label="dense")
right.set(xlabel="batches seen", ylabel="accuracy on test digits", title="24 nodes")
right.legend()
plt.show()
