"""Models of several layers, and whatever people build around them."""

import numpy as np
import torch
from networks import N_FEATURES, make_rnn
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves

from skspectral import SpectralRNNPruner

N_NODES, M = 8, 3
STAYS = "ignore:The reconstruction of:UserWarning"
SHRINKS = "ignore:The hidden state of layer:UserWarning"  # what did not run on X

# Levels and directions, told apart from one layer


class Stack(nn.Module):
    """Levels and directions, and a head that reads them in its own way."""

    def __init__(self, cell, n_levels, both, batch_first, bias, read):
        super().__init__()
        self.rnn = make_rnn(
            cell,
            n_nodes=N_NODES,
            num_layers=n_levels,
            bidirectional=both,
            batch_first=batch_first,
            bias=bias,
        )
        width = N_NODES * (1 + both)
        self.head = nn.Linear(width, 2, dtype=torch.float64)
        self.read = READS[read][0]

    def forward(self, x):
        if not self.rnn.batch_first:
            x = x.transpose(0, 1)
        states, final = self.rnn(x)
        states = states if self.rnn.batch_first else states.transpose(0, 1)
        return self.read(self, states, final[0] if isinstance(final, tuple) else final)


def last_states(net, states, h):
    both = net.rnn.bidirectional
    return net.head(torch.cat([h[-2], h[-1]], -1) if both else h[-1])


# How a head reads, and the same on NumPy states: forward ones, then backward ones.
READS = {
    "every step": (lambda net, states, h: net.head(states), lambda s, head: head(s)),
    "last states": (
        last_states,
        lambda s, head: head(
            np.concatenate([s[:, -1, :N_NODES], s[:, 0, N_NODES : s.shape[2]]], axis=-1)
        ),
    ),
    "relu": (
        lambda net, states, h: net.head(states.relu()),
        lambda s, head: head(np.maximum(s, 0.0)),
    ),
}
SHAPES = [(2, False), (1, True), (2, True)]


def sequences(n=24, n_steps=6):
    return np.random.default_rng(0).normal(size=(n, n_steps, N_FEATURES))


def fitted(module, X, **params):
    params = {"n_refit": 0, "objective": "one-step"} | params
    return SpectralRNNPruner(module, **params, trajectory_fit=0).fit(X)


# Whatever people build


def rnn_of(kind=nn.GRU, n_inputs=N_FEATURES, **options):
    return kind(n_inputs, N_NODES, batch_first=True, dtype=torch.float64, **options)


def linear(n_inputs=N_NODES, n_outputs=2, **options):
    return nn.Linear(n_inputs, n_outputs, dtype=torch.float64, **options)


class Model(nn.Module):
    """Has parts, and a function for ``forward``."""

    def __init__(self, run, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def two_layers(net, x):
    return net.head(net.second(net.between(net.first(x)[0]))[0][:, -1])


def encoder_decoder(net, x, y):
    _, state = net.encoder(x)
    return net.head(net.decoder(y, state)[0])


def cell_loop(net, x):
    h = x.new_zeros(len(x), N_NODES)
    for t in range(x.shape[1]):
        h = net.cell(x[:, t], h)
    return net.head(h)


def cell_loop_of_its_size(net, x):
    h = x.new_zeros(len(x), net.cell.hidden_size)
    for t in range(x.shape[1]):
        h = net.cell(x[:, t], h)
    return net.head(h)


def lstm_cells(net, x):
    first, second, outputs = None, None, []
    for t in range(x.shape[1]):
        first = net.first(x[:, t], first)
        second = net.second(first[0], second)
        outputs.append(second[0])
    return net.head(torch.stack(outputs, 1))


def packed(net, x, lengths):
    inputs = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(net.rnn(inputs)[0], batch_first=True)
    return net.head(states[torch.arange(len(x)), lengths - 1])


def given_start(net, x):
    h = torch.zeros(net.rnn.num_layers, len(x), N_NODES, dtype=x.dtype)
    return net.head(net.rnn(x, h)[0][:, -1])


def learned_start(net, x):
    return net.head(net.rnn(x, net.start.expand(-1, len(x), -1).contiguous())[0][:, -1])


def chunks(net, x):
    state, answers = None, []
    for part in x.split(2, dim=1):
        states, state = net.rnn(part, state)
        answers.append(net.head(states))
    return torch.cat(answers, 1)


def attention(net, x):
    states = net.rnn(x)[0]
    return net.head(net.attention(states, states, states, need_weights=False)[0][:, -1])


def dot_product(net, x, y):
    a, b = net.first(x)[0], net.second(y)[0]
    scores = (a @ b.transpose(1, 2)).softmax(-1)
    return net.head(torch.cat([scores @ b, a], -1))


def convolved(net, x):
    return net.head(net.convolution(net.rnn(x)[0].transpose(1, 2)).relu().mean(-1))


def tied(net, tokens):
    return net.head(net.rnn(net.embedding(tokens))[0])


def flow(net, x):
    states, _ = net.rnn(x)
    if float(x.sum()) > 1e9:
        return net.other(states[:, 0])
    return net.head(states[:, -1]) if x.shape[1] > 1 else net.other(states[:, -1])


def joined_with_input(net, x):
    return net.head(torch.cat([x, net.rnn(x)[0]], -1))


def feeds_itself(net, x):
    states, h = net.rnn(x)
    y, answers = states[:, -1:], []
    for _ in range(3):
        y, h = net.decoder(y, h)
        answers.append(net.head(y))
    return torch.cat(answers, 1)


def keywords(net, *, x, scale):
    return scale * net.head(net.rnn(x)[0][:, -1])


def state_and_answer(net, x, state=None):
    states, state = net.rnn(x, state)
    return net.head(states), state


def cell_state_starts_another(net, x, y):
    _, (h, c) = net.encoder(x)
    return net.head(net.decoder(y, (net.bridge(h), c))[0])


def tied_parts():
    embedding = nn.Embedding(20, N_NODES, dtype=torch.float64)
    head = linear(N_NODES, 20)
    head.weight = embedding.weight
    return {"embedding": embedding, "rnn": rnn_of(n_inputs=N_NODES), "head": head}


RNG = np.random.default_rng(1)
X = torch.as_tensor(RNG.normal(size=(24, 6, N_FEATURES)))
Y = torch.as_tensor(RNG.normal(size=(24, 5, N_FEATURES)))
LENGTHS = torch.as_tensor(RNG.integers(1, 7, size=24))
TOKENS = torch.as_tensor(RNG.integers(0, 20, size=(24, 6)))

# Parts, forward, a batch, and the hosts whose reconstruction stays a layer of its own.
MODELS = {
    "one layer after another": (
        lambda: {
            "first": rnn_of(),
            "between": nn.Dropout(0.3),
            "second": rnn_of(nn.LSTM, N_NODES),
            "head": linear(),
        },
        two_layers,
        (X,),
        set(),
    ),
    "encoder and decoder": (
        lambda: {"encoder": rnn_of(nn.LSTM), "decoder": rnn_of(nn.LSTM), "head": linear()},
        encoder_decoder,
        (X, Y),
        {"encoder"},
    ),
    "encoder and decoder of two levels": (
        lambda: {
            "encoder": rnn_of(nn.LSTM, num_layers=2),
            "decoder": rnn_of(nn.LSTM, num_layers=2),
            "head": linear(),
        },
        encoder_decoder,
        (X, Y),
        {"encoder"},
    ),
    "cell state alone starts another": (
        lambda: {
            "encoder": rnn_of(nn.LSTM),
            "bridge": linear(N_NODES, N_NODES),
            "decoder": rnn_of(nn.LSTM),
            "head": linear(),
        },
        cell_state_starts_another,
        (X, Y),
        {"encoder"},
    ),
    "cell in a loop": (
        lambda: {"cell": nn.GRUCell(N_FEATURES, N_NODES, dtype=torch.float64), "head": linear()},
        cell_loop,
        (X,),
        set(),
    ),
    "cell in a loop, of its size": (
        lambda: {"cell": nn.RNNCell(N_FEATURES, N_NODES, dtype=torch.float64), "head": linear()},
        cell_loop_of_its_size,
        (X,),
        set(),
    ),
    "relu cell": (
        lambda: {
            "cell": nn.RNNCell(N_FEATURES, N_NODES, nonlinearity="relu", dtype=torch.float64),
            "head": linear(),
        },
        cell_loop,
        (X,),
        set(),
    ),
    "cells on cells": (
        lambda: {
            "first": nn.LSTMCell(N_FEATURES, N_NODES, dtype=torch.float64),
            "second": nn.LSTMCell(N_NODES, N_NODES, dtype=torch.float64),
            "head": linear(),
        },
        lstm_cells,
        (X,),
        set(),
    ),
    "packed inside": (
        lambda: {"rnn": rnn_of(bidirectional=True), "head": linear(2 * N_NODES)},
        packed,
        (X, LENGTHS),
        set(),
    ),
    "given start": (
        lambda: {"rnn": rnn_of(num_layers=2), "head": linear()},
        given_start,
        (X,),
        set(),
    ),
    "learned start": (
        lambda: {
            "rnn": rnn_of(num_layers=2),
            "start": nn.Parameter(torch.randn(2, 1, N_NODES, dtype=torch.float64)),
            "head": linear(),
        },
        learned_start,
        (X,),
        set(),
    ),
    "chunk after chunk": (
        lambda: {"rnn": rnn_of(nn.LSTM), "head": linear()},
        chunks,
        (X,),
        set(),
    ),
    "attention": (
        lambda: {
            "rnn": rnn_of(bidirectional=True),
            "attention": nn.MultiheadAttention(
                2 * N_NODES, 2, batch_first=True, dtype=torch.float64
            ),
            "head": linear(2 * N_NODES),
        },
        attention,
        (X,),
        {"rnn"},
    ),
    "states meet in a dot product": (
        lambda: {"first": rnn_of(), "second": rnn_of(), "head": linear(2 * N_NODES)},
        dot_product,
        (X, Y),
        {"first", "second"},
    ),
    "relu": (
        lambda: {"rnn": rnn_of(num_layers=2), "head": linear()},
        lambda net, x: net.head(net.rnn(x)[0].relu()),
        (X,),
        {"rnn"},
    ),
    "convolution": (
        lambda: {
            "rnn": rnn_of(num_layers=2),
            "convolution": nn.Conv1d(N_NODES, 4, 3, dtype=torch.float64),
            "head": linear(4),
        },
        convolved,
        (X,),
        set(),
    ),
    "tied weights": (tied_parts, tied, (TOKENS,), {"rnn"}),
    "control flow": (
        lambda: {"rnn": rnn_of(), "head": linear(), "other": linear()},
        flow,
        (X,),
        set(),
    ),
    "joined with the input": (
        lambda: {"rnn": rnn_of(), "head": linear(N_NODES + N_FEATURES)},
        joined_with_input,
        (X,),
        set(),
    ),
    "feeds itself": (
        lambda: {"rnn": rnn_of(), "decoder": rnn_of(n_inputs=N_NODES), "head": linear()},
        feeds_itself,
        (X,),
        {"rnn", "decoder"},
    ),
    "keywords": (
        lambda: {"rnn": rnn_of(), "head": linear()},
        keywords,
        {"x": X, "scale": torch.tensor(2.0, dtype=torch.float64)},
        set(),
    ),
    "state returned": (
        lambda: {"rnn": rnn_of(nn.LSTM, num_layers=2), "head": linear()},
        state_and_answer,
        (X,),
        set(),
    ),
    "unused layer": (
        lambda: {"rnn": rnn_of(), "spare": rnn_of(), "head": linear()},
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        (X,),
        set(),
    ),
}


def make(name):
    torch.manual_seed(0)
    parts, run, batch, stays = MODELS[name]
    return Model(run, **parts()).eval(), batch, stays


def answers(module, batch):
    with torch.no_grad():
        output = module(**batch) if isinstance(batch, dict) else module(*batch)
    return tree_leaves(output)


def assert_same(one, other, tolerance=1e-10):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
