"""
How do I make a trained GRU smaller?
====================================

One call does it: a trained torch module and some sequences go in, a smaller module comes out. No
labels are needed. This example looks at size, accuracy and time.
"""

# %%
# A network of your own
# ---------------------
# Any module that holds an ``nn.GRU`` will do. This one has 64 nodes, reads handwritten digits in 16
# steps of four pixels, and is trained in plain torch.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.benchmark import Timer

from skspectral import prune


class DigitReader(nn.Module):
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
network = DigitReader()
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(12):
    for batch in torch.randperm(len(X_train)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X_train[batch]), y_train[batch]).backward()
        optimizer.step()

# %%
# Smaller
# -------
# The head answers with logits, the unnormalized logarithms of probabilities. Nothing in the module
# says so, so we do: ``likelihood="categorical"``.

sizes = [8, 12, 16, 24, 32, 48]
small = {m: prune(network, X_train, m=m, likelihood="categorical") for m in sizes}
print(small[32])

# %%
# What it costs and what it brings
# --------------------------------
# Accuracy on digits that no network has seen, and the time that all of them take, in one batch on
# one thread.


def measure(module):
    """Parameters, accuracy, and milliseconds for the test digits."""
    with torch.inference_mode():
        accuracy = (module(X_test).argmax(1) == y_test).float().mean().item()
        timer = Timer("module(X)", globals={"module": module, "X": X_test}, num_threads=1)
        seconds = timer.blocked_autorange(min_run_time=0.1).median
    return sum(p.numel() for p in module.parameters()), accuracy, 1e3 * seconds


found = {m: measure(module) for m, module in (small | {64: network}).items()}
for m, (n_parameters, accuracy, ms) in found.items():
    print(f"{m:2d} nodes  {n_parameters:6,d} parameters  accuracy {accuracy:.3f}  {ms:4.1f} ms")

# %%
# Result
# ------
# By ``prune(network, X, m=32, likelihood="categorical")``. Half of the nodes read the digits nearly
# as well, in less than half of the time. A quarter of the nodes costs ten points of accuracy, and
# from there it gets worse quickly.

share, kept, faster = (after / before for after, before in zip(found[32], found[64], strict=True))
print(
    f"32 of 64 nodes: {kept:.0%} of the accuracy with {share:.0%} of the parameters,"
    f" in {faster:.0%} of the time"
)

# %%
# The picture
# -----------
# Accuracy and time against the number of nodes that are kept; the dotted lines are the dense
# network.

figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
_, *columns = zip(*found.values(), strict=True)
labels = ["accuracy on test digits", f"time for {len(X_test)} digits (ms)"]
colors = ["#0072B2", "#D55E00"]
for axes, values, label, color in zip(panels, columns, labels, colors, strict=True):
    axes.plot(sizes, values[:-1], "o-", color=color, label="pruned")
    axes.axhline(values[-1], color="#666666", linestyle=":", label="dense, 64 nodes")
    axes.set(xlabel="nodes kept", ylabel=label)
    axes.legend(loc="lower right")
panels[1].set_ylim(0)
plt.show()
