"""
Prune a character-level language model
======================================

A small LSTM predicts the next character of a text. It is pruned to several
sizes, with and without distillation, and evaluated in bits per character.
"""

# %%
# Prepare the text
# ----------------
# The text consists of the docstrings of scikit-learn's linear models, in
# lowercase. It is split into passages of 32 characters. Each character is
# predicted from the preceding ones of its passage.

import inspect
import re
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn import linear_model
from torch import nn

from skspectral import Distillation, prune

text = " ".join(inspect.getdoc(getattr(linear_model, name)) for name in linear_model.__all__)
text = re.sub(r"[^a-z.,]+", " ", text.lower())[:60_000]
alphabet = sorted(set(text))
tokens = torch.tensor([alphabet.index(character) for character in text])
passages = tokens.unfold(0, 33, 32)
torch.manual_seed(0)
held_out, train = passages[torch.randperm(len(passages))].split([400, len(passages) - 400])

# %%
# Train the model
# ---------------
# The model consists of an embedding, an LSTM with 64 nodes, and a head that
# returns logits at every step.


class CharacterModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(alphabet), 16)
        self.lstm = nn.LSTM(16, 64, batch_first=True)
        self.head = nn.Linear(64, len(alphabet))

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


def bits_per_character(model, passages):
    """Return the mean cross entropy of the next character in bits."""
    logits = model(passages[:, :-1]).flatten(0, 1)
    targets = passages[:, 1:].flatten()
    return nn.functional.cross_entropy(logits, targets) / np.log(2)


model = CharacterModel()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(5):
    for batch in train[torch.randperm(len(train))].split(32):
        optimizer.zero_grad()
        bits_per_character(model, batch).backward()
        optimizer.step()

# %%
# Prune, with and without distillation
# ------------------------------------
# Integer tokens are accepted as input. With ``likelihood="categorical"``,
# the pruner treats the outputs as logits of classes. In the second variant,
# the pruned model is trained for three epochs on the outputs of the dense
# one.

sizes = [16, 32, 48, 56]
variants = {"pruned": 0, "pruned, distilled": Distillation(3, lr=0.01)}
bits = {}
with TemporaryDirectory() as folder:
    for name, distill in variants.items():
        options = {"likelihood": "categorical", "distill": distill, "memory": folder}
        small = [prune(model, train[:600, :-1], m=m, **options) for m in sizes]
        values = [bits_per_character(each, held_out) for each in small]
        bits[name] = [value.item() for value in values]
dense = bits_per_character(model, held_out).item()
print(f"dense, 64 nodes: {dense:.2f} bits per character")
for name, values in bits.items():
    print(name, "  ".join(f"{m}: {value:.2f}" for m, value in zip(sizes, values, strict=True)))

# %%
# Results
# -------
# This small model needs most of its nodes. With half of them, it needs
# about half a bit per character more than the dense model, and distillation
# recovers about a third of this difference. With 48 of 64 nodes, the
# difference is about a tenth of a bit. With 56 nodes, it is only a few
# hundredths. Distillation helps most at small sizes. It does not reach the
# dense model at any size.

lost = bits["pruned, distilled"][1] - dense
print(f"32 of 64 nodes, distilled: {lost:.2f} bits per character more than the dense model")

# %%
# Plot bits per character
# -----------------------
# The dashed line is the entropy of the character frequencies. A model that
# ignores the preceding characters can reach this value.

shares = torch.bincount(tokens) / len(tokens)
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
axes.plot(sizes, bits["pruned"], "s-", color="#D55E00", label="pruned")
axes.plot(sizes, bits["pruned, distilled"], "o-", color="#0072B2", label="pruned, distilled")
axes.axhline(dense, color="#666666", linestyle=":", label="dense, 64 nodes")
entropy = -(shares * shares.log2()).sum()
axes.axhline(entropy, color="#666666", linestyle="--", label="character frequencies alone")
axes.set(
    xlabel="nodes kept",
    ylabel="bits per character",
    title="Prediction of the next character",
)
axes.legend()
plt.show()
