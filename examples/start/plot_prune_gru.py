"""
Prune a GRU in plain torch
==========================

The function :func:`~skspectral.prune` takes a trained torch module and some
sequences, and returns a smaller module. It needs no labels. This example
measures the size, the accuracy and the inference time of the smaller
modules.
"""

# %%
# Train a network
# ---------------
# Any module that contains an ``nn.GRU`` can be pruned. The GRU of this one
# has 64 hidden nodes. It classifies handwritten digits that are presented
# as sequences of 16 steps with four pixels each. The training loop is plain
# torch.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.benchmark import Timer

from skspectral import prune


class DigitClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16).float().reshape(-1, 16, 4), torch.tensor(y)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=1000, random_state=0)

torch.manual_seed(0)
network = DigitClassifier()
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(12):
    for batch in torch.randperm(len(X_train)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X_train[batch]), y_train[batch]).backward()
        optimizer.step()

# %%
# Prune to several sizes
# ----------------------
# The head returns logits, which cannot be distinguished from other real
# numbers. With ``likelihood="categorical"``, the pruner treats them as
# logits of classes.

sizes = [8, 12, 16, 24, 32, 48]
options = {"likelihood": "categorical"}
pruned = {m: prune(network, X_train, m=m, **options) for m in sizes}
print(pruned[32])

# %%
# Measure size, accuracy and time
# -------------------------------
# The accuracy is measured on test digits. The time is that of one forward
# pass over all test digits on one thread.


def measure(module):
    """Return the parameters, the accuracy and the time in milliseconds."""
    with torch.inference_mode():
        accuracy = (module(X_test).argmax(1) == y_test).float().mean().item()
        timer = Timer("module(X)", globals={"module": module, "X": X_test}, num_threads=1)
        seconds = timer.blocked_autorange(min_run_time=0.1).median
    return sum(p.numel() for p in module.parameters()), accuracy, 1e3 * seconds


modules = pruned | {64: network}
results = {m: measure(module) for m, module in modules.items()}
for m, (n_parameters, accuracy, ms) in results.items():
    print(f"{m:2d} nodes  {n_parameters:6,d} parameters  accuracy {accuracy:.3f}  {ms:4.1f} ms")

# %%
# Results
# -------
# With 32 of 64 nodes, the pruned network is about as accurate as the dense
# one. It has less than a third of the parameters and runs in less than half
# of the time. Smaller networks lose accuracy: a few points with 16 nodes,
# and about ten points with 8 nodes.

pairs = zip(results[32], results[64], strict=True)
n_parameters, accuracy, ms = (after / before for after, before in pairs)
print(
    f"32 of 64 nodes: {accuracy:.0%} of the accuracy with"
    f" {n_parameters:.0%} of the parameters, in {ms:.0%} of the time"
)

# %%
# Plot accuracy and time
# ----------------------
# The dotted lines show the dense network.

figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
_, *columns = zip(*results.values(), strict=True)
labels = ["accuracy on test digits", f"time for {len(X_test)} digits (ms)"]
colors = ["#0072B2", "#D55E00"]
for axes, values, label, color in zip(panels, columns, labels, colors, strict=True):
    axes.plot(sizes, values[:-1], "o-", color=color, label="pruned")
    axes.axhline(values[-1], color="#666666", linestyle=":", label="dense, 64 nodes")
    axes.set(xlabel="nodes kept", ylabel=label)
    axes.legend(loc="lower right")
panels[1].set_ylim(0)
plt.show()
