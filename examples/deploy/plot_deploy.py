"""
Does a pruned network still deploy?
===================================

What comes out of pruning is an ordinary torch module, and so the tools for ordinary modules take
it. This example puts int8 quantization on top of pruning, and exports the small network to ONNX.
"""

# %%
# Dense and half as large
# -----------------------
# An LSTM of 64 nodes reads handwritten digits, 16 steps of four pixels, and is pruned to 32.

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
small = prune(dense, X_train, m=32, likelihood="categorical")

# %%
# In eight bits
# -------------
# Dynamic quantization of torch keeps the weights as integers of one byte. (It warns that it will
# move to another package, and that is left out here.)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    models = {
        "dense": dense,
        "dense, int8": torch.ao.quantization.quantize_dynamic(dense, {nn.LSTM, nn.Linear}),
        "pruned": small,
        "pruned, int8": torch.ao.quantization.quantize_dynamic(small, {nn.LSTM, nn.Linear}),
    }


def kilobytes(model):
    """Size of a file of the weights."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1000


with torch.no_grad():
    answers = {name: model(X_test).numpy() for name, model in models.items()}
sizes = {name: kilobytes(model) for name, model in models.items()}

# %%
# As ONNX
# -------
# The example is one sequence, and the file reads any number of them. Only if the packages are
# installed.

if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(small, X_test[:1], f"{folder}/small.onnx")
        runtime = onnxruntime.InferenceSession(path)
        sizes["pruned, ONNX"] = path.stat().st_size / 1000
    name = runtime.get_inputs()[0].name
    answers["pruned, ONNX"] = runtime.run(None, {name: X_test.numpy()})[0]
else:
    print("The packages for ONNX are not installed, and so there is no export.")

# %%
# What they weigh and what they answer
# ------------------------------------

labels = {name: answer.argmax(1) for name, answer in answers.items()}
accuracy = {name: np.mean(label == y_test.tolist()) for name, label in labels.items()}
for name, size in sizes.items():
    same = np.mean(labels[name] == labels["dense"])
    print(f"{name:13} {size:4.1f} kB, accuracy {accuracy[name]:.3f}, as dense on {same:.1%}")

# %%
# Result
# ------
# It does. Either of pruning and int8 brings the file to less than a third, and both together to an
# eighth. The accuracy that is lost is lost by pruning; int8 costs next to nothing on top. The ONNX
# file is as large as that of torch.

share = sizes["pruned, int8"] / sizes["dense"]
changed = np.mean(labels["pruned, int8"] != labels["pruned"])
print(f"pruned, in int8: {share:.0%} of the bytes; int8 changes {changed:.1%} of the answers")

# %%
# The picture
# -----------
# The size of each file, and how well the network in it reads digits.

figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
colors = ["#666666", "#666666", "#0072B2", "#0072B2", "#D55E00"]
bars = axes.barh(list(sizes), list(sizes.values()), color=colors[: len(sizes)])
axes.bar_label(bars, [f"accuracy {accuracy[name]:.3f}" for name in sizes], padding=4)
axes.invert_yaxis()
axes.set(xlabel="size of the file (kB)", title="An LSTM of 64 nodes, pruned to 32", xlim=(0, 95))
plt.show()
