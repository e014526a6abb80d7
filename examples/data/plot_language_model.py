"""
What does pruning cost a language model?
========================================

A small LSTM guesses the next character of a text. It is pruned as it is, and pruned and distilled,
and judged in bits per character.
"""

# %%
# Characters
# ----------
# The text is what scikit-learn says of its linear models, in small letters. It is cut into passages
# of 32 characters; each has to be guessed from those before it in its passage.

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
# The model
# ---------
# An embedding, an LSTM of 64 nodes, and a head that answers at every step.


class CharacterModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(alphabet), 16)
        self.lstm = nn.LSTM(16, 64, batch_first=True)
        self.head = nn.Linear(64, len(alphabet))

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


def surprise(model, passages):
    """Mean negative log-likelihood of the next character, in bits."""
    answers = model(passages[:, :-1]).flatten(0, 1)
    return nn.functional.cross_entropy(answers, passages[:, 1:].flatten()) / np.log(2)


model = CharacterModel()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(5):
    for batch in train[torch.randperm(len(train))].split(32):
        optimizer.zero_grad()
        surprise(model, batch).backward()
        optimizer.step()

# %%
# Smaller models
# --------------
# Integer tokens go in as they are, and of the answers we say that they are logits of classes. The
# second way distils for three epochs: the folded weights learn to answer as the dense model does.

sizes = [16, 32, 48, 56]
ways = {"pruned": 0, "pruned, distilled": Distillation(3, lr=0.01)}
bits = {}
with TemporaryDirectory() as folder:
    for name, distill in ways.items():
        options = {"likelihood": "categorical", "distill": distill, "memory": folder}
        small = [prune(model, train[:600, :-1], m=m, **options) for m in sizes]
        bits[name] = [surprise(each, held_out).item() for each in small]
dense = surprise(model, held_out).item()
print(f"dense, 64 nodes: {dense:.2f} bits per character")
for name, values in bits.items():
    print(name, "  ".join(f"{m}: {value:.2f}" for m, value in zip(sizes, values, strict=True)))

# %%
# Result
# ------
# A lot. This small model needs nearly all of its nodes: with half of them gone it is far from the
# dense one, and even an eighth is missed. Distillation wins back a part of it at every size, and
# never all.

lost = bits["pruned, distilled"][1] - dense
print(f"32 of 64 nodes, distilled: {lost:.2f} bits per character more than the dense model")

# %%
# The picture
# -----------
# The dashed line is the entropy of the characters, which a model without any memory reaches.

shares = torch.bincount(tokens) / len(tokens)
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
axes.plot(sizes, bits["pruned"], "s-", color="#D55E00", label="pruned")
axes.plot(sizes, bits["pruned, distilled"], "o-", color="#0072B2", label="pruned, distilled")
axes.axhline(dense, color="#666666", linestyle=":", label="dense, 64 nodes")
entropy = -(shares * shares.log2()).sum()
axes.axhline(entropy, color="#666666", linestyle="--", label="character frequencies alone")
axes.set(xlabel="nodes kept", ylabel="bits per character", title="Guessing the next character")
axes.legend()
plt.show()
