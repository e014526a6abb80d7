"""Reading comprehension in small: a passage and a question in, the span of the answer out.

A passage tells six facts: an entity, a relation and a value of one to four words, names in either
order and other words between, of which some are left out or belong to other facts' names. The
question names an entity and a relation in the same way; decoys share one of the two. Two
bidirectional LSTMs read the question and, with what was understood of it, the passage. Everything
is made here.
"""

import numpy as np
import torch
from torch import nn

N_ENTITIES, N_RELATIONS, N_VALUES, N_FILLERS, N_FACTS = 200, 50, 100, 10, 6
N_STEPS, N_ASKED = 54, 5
RUNS = np.cumsum([1, N_FILLERS, N_ENTITIES, N_RELATIONS, N_VALUES])  # 0 is no word
FILLERS, ENTITIES, RELATIONS, VALUES, N_WORDS = map(int, RUNS)


def passages(n_passages, seed):
    """Passages (n, 54) and questions (n, 5) of word numbers, and first and last word of answers."""
    rng = np.random.default_rng(seed)
    texts, questions = np.zeros((n_passages, N_STEPS), int), np.zeros((n_passages, N_ASKED), int)
    spans = np.zeros((n_passages, 2), int)
    for text, question, span in zip(texts, questions, spans, strict=True):
        entities = rng.choice(N_ENTITIES, N_FACTS, replace=False)
        relations = rng.choice(N_RELATIONS, N_FACTS, replace=False)
        entities[1], relations[2] = entities[0], relations[0]  # decoys of what is asked for
        asked = names(rng, entities[0], relations[0])
        question[: len(asked)] = asked
        start = 0
        for fact in rng.permutation(N_FACTS):
            told = names(rng, entities[fact], relations[fact])
            value = VALUES + rng.integers(N_VALUES, size=rng.integers(1, 5))
            end = start + len(told) + len(value)
            text[start:end] = *told, *value
            if fact == 0:
                span[:] = start + len(told), end - 1
            start = end
    return texts, questions, spans


def names(rng, entity, relation):
    """Words that name both, in either order, with others around them."""
    words = rng.permutation([ENTITIES + entity, RELATIONS + relation])
    first, second = (FILLERS + rng.integers(N_FILLERS, size=rng.integers(3)) for _ in range(2))
    return [words[0], *first, words[1], *second][:N_ASKED]


class SpanNet(nn.Module):
    """Log-odds of every step to be the first and the last of the answer."""

    def __init__(self, n_nodes=64, n_inputs=32):
        super().__init__()
        self.embedding = nn.Embedding(N_WORDS, n_inputs)
        self.question = nn.LSTM(n_inputs, n_nodes, bidirectional=True, batch_first=True)
        self.passage = nn.LSTM(
            n_inputs + 2 * n_nodes, n_nodes, bidirectional=True, batch_first=True
        )
        self.head = nn.Linear(2 * n_nodes, 2)

    def loss(self, inputs, spans):
        """Mean cross entropy of both steps."""
        return nn.functional.cross_entropy(self(*inputs).flatten(0, 1), spans.flatten())

    def forward(self, text, question):
        """Of shape (n_sequences, 2, n_steps)."""
        _, (h, _) = self.question(self.embedding(question))
        asked = torch.cat([h[0], h[1]], 1)[:, None].expand(-1, text.shape[1], -1)
        output, _ = self.passage(torch.cat([self.embedding(text), asked], 2))
        return self.head(output).transpose(1, 2)
