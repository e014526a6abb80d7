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
        return self.head(self.states(numbers))

    logits = forward

    def states(self, numbers):
        """What the head reads."""
        output, _ = self.rnn(self.dropout(self.embedding(numbers)))
        return self.dropout(output)

    def loss(self, numbers, labels):
        """Mean cross entropy of the next words, or of their probabilities."""
        states = self.states(numbers).flatten(0, 1).float()
        with torch.autocast(states.device.type, enabled=False):
            return WordLoss.apply(states, self.head.weight, self.head.bias, labels.flatten(0, 1))


class WordLoss(torch.autograd.Function):
    """Mean cross entropy of a head on states, a few words at a time, so that logits stay near."""

    N_WORDS = 128

    @staticmethod
    def forward(ctx, states, weight, bias, labels):
        """Loss; the gradients are worked out along with it."""
        gradients = torch.empty_like(states), torch.zeros_like(weight), torch.zeros_like(bias)
        by_states, by_weight, by_bias = gradients
        loss, n_words, dtype = 0.0, len(labels), dtype_of_products()
        states, weight, bias = (each.to(dtype) for each in (states, weight, bias))
        parts = (each.split(WordLoss.N_WORDS) for each in (states, by_states, labels))
        for part, by_part, wanted in zip(*parts, strict=True):
            found = torch.addmm(bias, part, weight.T).float().log_softmax(1)
            if wanted.is_floating_point():
                loss = loss - (found * wanted).sum() / n_words
                found.exp_().sub_(wanted)
            else:
                loss = loss - found.gather(1, wanted[:, None]).sum() / n_words
                found.exp_()[torch.arange(len(wanted), device=wanted.device), wanted] -= 1.0
            by_bias += found.sum(0)
            found = found.to(dtype)
            by_part.copy_(found @ weight)
            by_weight += found.T @ part
        ctx.save_for_backward(*gradients)
        ctx.n_words = n_words
        return loss

    @staticmethod
    def backward(ctx, gradient):
        """Scale the gradients."""
        return *(each * (gradient / ctx.n_words) for each in ctx.saved_tensors), None


def dtype_of_products():
    """The type of numbers that the precision of matrix products asks for."""
    is_medium = torch.get_float32_matmul_precision() == "medium"
    return torch.bfloat16 if is_medium else torch.float32


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


@torch.inference_mode()
def perplexity(module, text, n_streams=10, n_steps=200):
    """Of a text in a few long streams, each from a state of zeros, the state handed on."""
    device = next(module.eval().parameters()).device
    length = (len(text) - 1) // n_streams
    inputs, labels = (
        torch.from_numpy(text[i : i + n_streams * length]).view(n_streams, length).to(device)
        for i in (0, 1)
    )
    state, loss = None, 0.0
    for start in range(0, length, n_steps):
        part = slice(start, start + n_steps)
        output, state = module.rnn(module.embedding(inputs[:, part]), state)
        logits, wanted = module.head(output).flatten(0, 1), labels[:, part].flatten()
        loss += nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
    return float(np.exp(loss / labels.numel()))
