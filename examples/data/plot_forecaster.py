"""
Prune a time series forecaster
==============================

A recurrent regressor forecasts the chaotic Mackey–Glass series twelve steps
ahead. It is pruned to several sizes without labels.
"""

# %%
# Generate the series
# -------------------
# In the Mackey–Glass delay equation, the derivative depends on the current
# value and on the value 17 units of time earlier. We integrate it with a
# small step size and keep every tenth value.

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
# Train the forecaster
# --------------------
# The network reads 32 values and forecasts the value twelve steps after the
# last of them. It is trained on the first 1200 windows. The test windows do
# not overlap with them. The baseline repeats the last value of the window
# (persistence).

windows = np.lib.stride_tricks.sliding_window_view(series, 32 + 12)
X, y = windows[:, :32].astype(np.float32), windows[:, -1]
X_train, X_test, y_train, y_test = X[:1200], X[1244:], y[:1200], y[1244:]
network = RNNRegressor(48, max_epochs=12, lr=0.02, batch_size=64, random_state=0)
network.fit(X_train, y_train)
dense = root_mean_squared_error(y_test, network.predict(X_test))
print(f"dense, 48 nodes: error {dense:.4f}")
persistence = root_mean_squared_error(y_test, X_test[:, -1])
print(f"persistence: error {persistence:.4f}")

# %%
# Prune to several sizes
# ----------------------

sizes = [2, 3, 4, 6, 8, 16, 24]
pruners = {m: SpectralRNNPruner(network, m=m).fit(X_train) for m in sizes}
errors = {
    m: root_mean_squared_error(y_test, pruner.predict(X_test)) for m, pruner in pruners.items()
}
for m, error in errors.items():
    print(f"{m:2d} nodes: error {error:.4f}")

# %%
# Results
# -------
# With 16 of 48 nodes, the error is about a fifth larger than that of the
# dense network. With 8 nodes, it is about a quarter larger. These errors
# are about a thirtieth of the persistence error. With fewer nodes, the
# error grows quickly: with 3 nodes, it is more than four times that of the
# dense network.

print(f"16 of 48 nodes: error {errors[16]:.4f}, dense {dense:.4f}")

# %%
# Plot the forecasts and the errors
# ---------------------------------
# Each forecast is shown at the step that it predicts. With 16 nodes, it is
# hard to distinguish from the series. With 3 nodes, it follows the waves
# but deviates at the peaks.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4), width_ratios=[3, 2], layout="constrained"
)
shown = slice(0, 120)
left.plot(
    y_test[shown],
    color="#666666",
    linewidth=5,
    alpha=0.4,
    label="series",
)
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
