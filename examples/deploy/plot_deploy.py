"""
Quantize to int8 and export to ONNX
===================================

A pruned network is an ordinary torch module, so the usual deployment tools
accept it. This example applies int8 quantization to the dense and to the
pruned network, and exports the pruned network to ONNX.
"""

# %%
# Train and prune a network
# -------------------------
# An LSTM with 64 nodes classifies handwritten digits, presented as
# sequences of 16 steps with four pixels each. It is pruned to 32 nodes.

import importlib.util
import io
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skspectral import RNNClassifier, export_onnx, prune

X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 16).float().reshape(-1, 16, 4)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=1000, random_state=0)
network = RNNClassifier(64, "lstm", max_epochs=12, lr=0.02, batch_size=64, random_state=0)
dense = network.fit(X_train, y_train).module_.eval()
pruned = prune(dense, X_train, m=32, likelihood="categorical")

# %%
# Quantize to int8
# ----------------
# Dynamic quantization in torch stores the weights as 8-bit integers. We
# suppress its deprecation warning.

quantize, types = torch.ao.quantization.quantize_dynamic, {nn.LSTM, nn.Linear}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    models = {
        "dense": dense,
        "dense, int8": quantize(dense, types),
        "pruned": pruned,
        "pruned, int8": quantize(pruned, types),
    }


def kilobytes(model):
    """Return the size of a file that contains the weights."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1000


with torch.no_grad():
    outputs = {name: each(X_test).numpy() for name, each in models.items()}
sizes = {name: kilobytes(model) for name, model in models.items()}

# %%
# Export to ONNX
# --------------
# The export needs one example sequence. The exported network accepts any
# number of sequences. This step is skipped if ``onnx`` or ``onnxruntime``
# is not installed.

if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(pruned, X_test[:1], f"{folder}/pruned.onnx")
        runtime = onnxruntime.InferenceSession(path)
        sizes["pruned, ONNX"] = path.stat().st_size / 1000
    name = runtime.get_inputs()[0].name
    outputs["pruned, ONNX"] = runtime.run(None, {name: X_test.numpy()})[0]
else:
    print("onnx or onnxruntime is not installed; the export is skipped.")

# %%
# Compare sizes and predictions
# -----------------------------
# For each network, we print the file size, the accuracy on test digits, and
# the fraction of test digits on which it agrees with the dense network.

labels = {name: logits.argmax(1) for name, logits in outputs.items()}
accuracy = {name: np.mean(label == y_test.tolist()) for name, label in labels.items()}
for name, size in sizes.items():
    agreement = np.mean(labels[name] == labels["dense"])
    print(
        f"{name:13} {size:4.1f} kB, accuracy {accuracy[name]:.3f},"
        f" agreement with dense {agreement:.1%}"
    )

# %%
# Results
# -------
# Pruning or quantization alone reduces the file to less than a third of its
# size, and both together reduce it to about an eighth. Pruning to half of
# the nodes costs one or two points of accuracy. Quantization changes almost
# no predictions, with or without pruning. The ONNX file is about as large
# as the torch file of the pruned network.

share = sizes["pruned, int8"] / sizes["dense"]
changed = np.mean(labels["pruned, int8"] != labels["pruned"])
print(f"pruned, int8: {share:.0%} of the size of the dense network")
print(f"int8 changes {changed:.1%} of the pruned network's predictions")

# %%
# Plot sizes and accuracies
# -------------------------

figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
colors = ["#666666", "#666666", "#0072B2", "#0072B2", "#D55E00"]
bars = axes.barh(list(sizes), list(sizes.values()), color=colors[: len(sizes)])
axes.bar_label(bars, [f"accuracy {accuracy[name]:.3f}" for name in sizes], padding=4)
axes.invert_yaxis()
axes.set(
    xlabel="file size (kB)",
    title="LSTM with 64 nodes, pruned to 32",
    xlim=(0, 95),
)
plt.show()
