"""A word language model, the text it reads, and its perplexity."""

import numpy as np
import torch
from torch import nn

N_WORDS = 10_000


class LanguageNet(nn.Module):
    """Embedding, recurrent layers and a head over all words, which may share the embedding."""

    def __init__(self, kind, n_inputs, n_nodes, *, n_layers=1, dropout=0.2, tied=False):
        super().__init__()
        self.embedding = nn.Embedding(N_WORDS, n_inputs)
        self.dropout = nn.Dropout(dropout)
        self.rnn = getattr(nn, kind)(
            n_inputs, n_nodes, n_layers, dropout=dropout * (n_layers > 1), batch_first=True
        )
        self.head = nn.Linear(n_nodes, N_WORDS)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, numbers):
        """Logits of the next word."""
        output, _ = self.rnn(self.dropout(self.embedding(numbers)))
        return self.head(self.dropout(output))


class Pieces(torch.utils.data.Dataset):
    """A text in pieces; each word has to tell the next."""

    def __init__(self, text, n_steps):
        self.text, self.n_steps, self.start = torch.from_numpy(text), n_steps, 0

    def shift(self, seed):
        """Begin elsewhere."""
        self.start = int(np.random.default_rng(seed).integers(self.n_steps))

    def __len__(self):
        return (len(self.text) - 1 - self.start) // self.n_steps

    def __getitem__(self, i):
        first = self.start + i * self.n_steps
        piece = self.text[first : first + self.n_steps + 1]
        return piece[:-1], piece[1:]


class TokenLoss(nn.CrossEntropyLoss):
    """Cross entropy over classes along the last axis."""

    def forward(self, logits, labels):
        """Its mean over sequences and steps."""
        return super().forward(logits.flatten(0, -2), labels.flatten())


@torch.inference_mode()
def perplexity(module, text, n_streams=10, n_steps=200):
    """Of a text in a few long streams, each from a state of zeros, the state handed on."""
    module.eval()
    length = (len(text) - 1) // n_streams
    inputs, labels = (
        torch.from_numpy(text[i : i + n_streams * length]).view(n_streams, length) for i in (0, 1)
    )
    state, loss = None, 0.0
    for start in range(0, length, n_steps):
        part = slice(start, start + n_steps)
        output, state = module.rnn(module.embedding(inputs[:, part]), state)
        loss += TokenLoss(reduction="sum")(module.head(output), labels[:, part]).item()
    return float(np.exp(loss / labels.numel()))
