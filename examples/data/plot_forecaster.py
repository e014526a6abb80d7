"""
How few nodes forecast a chaotic series?
========================================

A recurrent regressor learns to look twelve steps ahead on the Mackey–Glass series, and is pruned
without any labels.
"""

# %%
# The series
# ----------
# The equation of Mackey and Glass is a delay equation: how the series goes on depends on where it
# was 17 units of time ago. It is solved by small steps, and every tenth of them is kept.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import root_mean_squared_error

from skspectral import RNNRegressor, SpectralRNNPruner

series = np.full(20_700, 1.2)
for t in range(170, len(series) - 1):
    past = series[t - 170]
    series[t + 1] = series[t] + 0.1 * (0.2 * past / (1 + past**10) - 0.1 * series[t])
series = series[700::10]

# %%
# The forecaster
# --------------
# It reads 32 values and answers with the one that comes twelve after the last. The first 1200
# windows train it, and those after a break in which no window reaches back tell how well it does.

windows = np.lib.stride_tricks.sliding_window_view(series, 32 + 12)
X, y = windows[:, :32].astype(np.float32), windows[:, -1]
X_train, X_test, y_train, y_test = X[:1200], X[1244:], y[:1200], y[1244:]
network = RNNRegressor(48, max_epochs=12, lr=0.02, batch_size=64, random_state=0)
network.fit(X_train, y_train)
dense = root_mean_squared_error(y_test, network.predict(X_test))
print(f"dense, 48 nodes: error {dense:.4f}")
print(f"the last value once more: error {root_mean_squared_error(y_test, X_test[:, -1]):.4f}")

# %%
# Smaller forecasters
# -------------------

sizes = [2, 3, 4, 6, 8, 16, 24]
pruners = {m: SpectralRNNPruner(network, m=m).fit(X_train) for m in sizes}
errors = {
    m: root_mean_squared_error(y_test, pruner.predict(X_test)) for m, pruner in pruners.items()
}
for m, error in errors.items():
    print(f"{m:2d} nodes: error {error:.4f}")

# %%
# Result
# ------
# Sixteen: a third of the nodes. Their error is less than a fifth larger than that of the dense
# network, and both are a thirtieth of that of saying the last value once more. With three nodes the
# forecast follows the waves and misses their shape.

print(f"16 of 48 nodes: error {errors[16]:.4f}, dense {dense:.4f}")

# %%
# The picture
# -----------
# Each forecast was made twelve steps before the step at which it is drawn.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4), width_ratios=[3, 2], layout="constrained"
)
shown = slice(0, 120)
left.plot(y_test[shown], color="#666666", linewidth=5, alpha=0.4, label="the series")
left.plot(pruners[16].predict(X_test[shown]), color="#0072B2", label="16 nodes")
left.plot(pruners[3].predict(X_test[shown]), "--", color="#D55E00", label="3 nodes")
left.set(xlabel="step", ylabel="value (no unit)", title="Twelve steps ahead")
left.legend(ncols=3, loc="lower right")
left.set_ylim(0.2)
right.semilogy(list(errors), list(errors.values()), "o-", color="#0072B2", label="pruned")
right.axhline(dense, color="#666666", linestyle=":", label="dense, 48 nodes")
right.set(xlabel="nodes kept", ylabel="root mean squared error (no unit)", title="Error")
right.legend()
plt.show()
