"""
What if the sequences do not fit into memory?
=============================================

Then they stay in their file, or come batch by batch. All that a fit has to remember of them are the
moments of the hidden states, and these can be added up in any portions.
"""

# %%
# A file of sequences
# -------------------
# Noisy copies of handwritten digits, 16 steps of four pixels, in a file of NumPy. They are sorted:
# first a thousand zeros, then a thousand ones, which is a bad order for a stream. The network, a
# GRU of 64 nodes, has learned to read the digits without noise.

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
# From the file
# -------------
# A memory map is read slice by slice. So that everything depends on the moments alone, we take an
# objective that is made of them and of the weights, and leave the head as it is folded. By default
# it is fitted again, to a sample of the sequences, which is another one in every portion.

params = {"m": 24, "objective": "one-step", "n_refit": 0}
sequences = np.load(path, mmap_mode="r")
at_once = SpectralRNNPruner(network, **params).fit(sequences)
covariance = at_once.covariance_
print(f"{path.stat().st_size / 1e6:.1f} MB in the file, {at_once.moments_.n_steps} steps")
print(f"{at_once.moments_.products_.nbytes / 1e3:.0f} kB of moments")

# %%
# Batch by batch
# --------------
# ``partial_fit`` adds a batch to what was seen before, and chooses the nodes again.

pruner = SpectralRNNPruner(network, **params)
distances, accuracies = [], []
for batch in np.split(sequences, 10):
    pruner.partial_fit(batch)
    distances.append(np.linalg.norm(pruner.covariance_ - covariance) / np.linalg.norm(covariance))
    accuracies.append(pruner.score(X_test, y_test))
    print(f"{len(distances):2d} batches: {distances[-1]:.0e} off, accuracy {accuracies[-1]:.3f}")
print(f"the same nodes: {np.array_equal(pruner.support_, at_once.support_)}")

# %%
# On several machines
# -------------------
# Each can take a part of the file, and the moments are added up afterwards.

moments = HiddenStateMoments(64)
for part in np.split(sequences, 4):
    moments.merge(SpectralRNNPruner(network, **params).fit(part).moments_)
print(f"four parts: {np.abs(moments.covariance - covariance).max():.0e} off")
folder.cleanup()

# %%
# Result
# ------
# The moments are the same to rounding, whichever way they were added up, and so are the nodes. On
# the way, the covariance is far from that of the file until the last digits are in. The accuracy is
# not: after zeros alone it is too low, and from the second batch on it goes up and down around that
# of the file.

print(f"batch by batch or at once: covariance {distances[-1]:.0e} apart")

# %%
# The picture
# -----------
# Every batch brings a new digit.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
batches = np.arange(1, 11)
left.plot(batches, distances, "o-", color="#0072B2")
left.set(
    xlabel="batches seen",
    ylabel="relative distance from that of the file",
    title="Covariance of the states",
    ylim=0,
)
right.plot(batches, accuracies, "o-", color="#0072B2", label="batch by batch")
right.axhline(at_once.score(X_test, y_test), color="#D55E00", linestyle="--", label="file at once")
right.axhline(network.score(X_test, y_test), color="#666666", linestyle=":", label="dense")
right.set(xlabel="batches seen", ylabel="accuracy on test digits", title="24 nodes")
right.legend()
plt.show()
