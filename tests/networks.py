"""Torch modules to prune, and what each head answers, in NumPy."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from skspectral.calibration.previous import PreviousCalibration
from skspectral.data.checks import check_sequences
from skspectral.pruners.steps import calibrate, train_dense
from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.layers.find import find_layers
from skspectral.rnn.layers.stack import split_layers
from skspectral.rnn.states.collector import StateCollector
from skspectral.rnn.surgery.surgery import Surgery
from skspectral.rnn.tracing.tracer import find_readers

N_FEATURES, N_NODES = 3, 7


def tanh_rnn(*args, **options):
    return nn.RNN(*args, nonlinearity="tanh", **options)


def relu_rnn(*args, **options):
    return nn.RNN(*args, nonlinearity="relu", **options)


CELLS = {"tanh": tanh_rnn, "relu": relu_rnn, "gru": nn.GRU, "lstm": nn.LSTM}


def make_rnn(cell="gru", n_features=N_FEATURES, n_nodes=N_NODES, **options):
    """A float64 layer, batch first."""
    options = {"batch_first": True, "dtype": torch.float64} | options
    return CELLS[cell](n_features, n_nodes, **options)


def collector_of(module):
    """Of all layers of a module."""
    module = split_layers(module.eval())
    return StateCollector(module, find_layers(module))


def surgery_of(module, batch):
    """What prunes a module, with its readers found on a batch."""
    collector = collector_of(module)
    passes = [ForwardPass(*collector.arguments(batch))]
    readers = find_readers(collector.module, collector.layers, passes)
    return Surgery(collector.module, collector.layers, readers, passes, module)


def last(net, states):
    return states[:, -1] if net.batch_first else states[-1]


class Pattern(NamedTuple):
    """How a module reads its states, and the same on NumPy states (batch, time, node).

    ``reference`` gets the states and the head as a function.
    """

    read: object
    reference: object


class Net(nn.Module):
    """A layer and a head, which reads its states by a pattern."""

    def __init__(self, rnn, read, bias=True):
        super().__init__()
        n_nodes, dtype = rnn.hidden_size, rnn.weight_hh_l0.dtype
        self.rnn, self.read, self.batch_first = rnn, read, rnn.batch_first
        self.head = nn.Linear(n_nodes, 2, bias=bias, dtype=dtype)
        self.other = nn.Linear(n_nodes, 2, bias=bias, dtype=dtype)
        self.part = nn.Linear(3, 2, dtype=dtype)
        self.wide = nn.Linear(n_nodes + N_FEATURES, 2, dtype=dtype)
        self.bring = nn.Linear(N_FEATURES, n_nodes, dtype=dtype)
        self.norm = nn.LayerNorm(n_nodes, dtype=dtype)
        self.conv = nn.Conv1d(n_nodes, 2, 1, dtype=dtype)
        self.attention = nn.MultiheadAttention(n_nodes, 1, batch_first=True, dtype=dtype)
        self.dropout = nn.Dropout(0.5)
        self.own = nn.Parameter(torch.ones(2, n_nodes, dtype=dtype))
        if read is not None:
            self._drop_unused(torch.zeros(2, 2, rnn.input_size, dtype=dtype))

    def _drop_unused(self, x):
        """Keep what ``read`` uses alone."""
        parts, self._used = {**self._modules, **self._parameters}, set()
        was_training, _ = self.training, self.eval()
        with torch.no_grad():
            self(x)
        self.train(was_training)
        for name in parts.keys() - self._used - {"rnn"}:
            delattr(self, name)
        del self._used

    def __getattr__(self, name):
        if "_used" in vars(self):
            self._used.add(name)
        return super().__getattr__(name)

    def forward(self, x):
        self.x = x.detach()
        states, final = self.rnn(x)
        self.cell = final[1] if isinstance(final, tuple) else None
        answer = self.read(self, states, final[0] if isinstance(final, tuple) else final)
        del self.x, self.cell
        return answer


FOLLOWED = {
    "last step": Pattern(
        lambda net, states, h: net.head(last(net, states)), lambda s, head: head(s[:, -1])
    ),
    "h_n[-1]": Pattern(lambda net, states, h: net.head(h[-1]), lambda s, head: head(s[:, -1])),
    "h_n squeezed": Pattern(
        lambda net, states, h: net.head(h.squeeze(0)), lambda s, head: head(s[:, -1])
    ),
    "every step": Pattern(
        lambda net, states, h: net.head(states if net.batch_first else states.transpose(0, 1)),
        lambda s, head: head(s),
    ),
    "dropout between": Pattern(
        lambda net, states, h: net.head(net.dropout(h[-1])), lambda s, head: head(s[:, -1])
    ),
    "transposed": Pattern(
        lambda net, states, h: net.head(states.transpose(0, 1) if net.batch_first else states),
        lambda s, head: head(s.swapaxes(0, 1)),
    ),
    "flattened": Pattern(
        lambda net, states, h: net.head(
            (states if net.batch_first else states.transpose(0, 1)).reshape(-1, states.shape[-1])
        ),
        lambda s, head: head(s.reshape(-1, s.shape[-1])),
    ),
    "stacked": Pattern(
        lambda net, states, h: net.head(torch.stack([h[-1], last(net, states)])),
        lambda s, head: head(np.stack([s[:, -1], s[:, -1]])),
    ),
    "functional": Pattern(
        lambda net, states, h: nn.functional.linear(h[-1], net.head.weight, net.head.bias),
        lambda s, head: head(s[:, -1]),
    ),
    "mean over steps": Pattern(
        lambda net, states, h: net.head(states.mean(1 if net.batch_first else 0)),
        lambda s, head: head(s.mean(1)),
    ),
    "mean that keeps its axis": Pattern(
        lambda net, states, h: net.head(
            torch.mean(states, dim=(1,) if net.batch_first else 0, keepdim=True).flatten(0, 1)
        ),
        lambda s, head: head(s.mean(1)),
    ),
    "relu behind the head": Pattern(
        lambda net, states, h: net.head(h[-1]).relu(), lambda s, head: np.maximum(head(s[:, -1]), 0)
    ),
}


def softmax_pooled(net, states, h):
    scores = states.sum(-1).softmax(1 if net.batch_first else 0)
    pooled = (scores[..., None] * states).sum(1 if net.batch_first else 0)
    return net.head(pooled)


def softmax_pooled_reference(s, head):
    scores = np.exp(s.sum(-1))
    return head(((scores / scores.sum(1, keepdims=True))[..., None] * s).sum(1))


def layer_norm_reference(s, head):
    h = s[:, -1]
    variance = ((h - h.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True)
    return head((h - h.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-5))


UNFOLLOWED = {
    "relu": Pattern(
        lambda net, states, h: net.head(h[-1].relu()), lambda s, head: head(np.maximum(s[:, -1], 0))
    ),
    "mean over nodes": Pattern(
        lambda net, states, h: net.head(h[-1] - h[-1].mean(-1, keepdim=True)),
        lambda s, head: head(s[:, -1] - s[:, -1].mean(-1, keepdims=True)),
    ),
    "mean over all": Pattern(
        lambda net, states, h: net.head(h[-1]) + states.mean(),
        lambda s, head: head(s[:, -1]) + s.mean(),
    ),
    "layer norm": Pattern(lambda net, states, h: net.head(net.norm(h[-1])), layer_norm_reference),
    "softmax": Pattern(softmax_pooled, softmax_pooled_reference),
    "reversed": Pattern(
        lambda net, states, h: net.head(h[-1].flip(-1)), lambda s, head: head(s[:, -1, ::-1])
    ),
    "residual": Pattern(
        lambda net, states, h: net.head(h[-1]) + h[-1][:, :2],
        lambda s, head: head(s[:, -1]) + s[:, -1, :2],
    ),
    "returned": Pattern(
        lambda net, states, h: (net.head(h[-1]), last(net, states)),
        lambda s, head: (head(s[:, -1]), s[:, -1]),
    ),
}


def linear_reference(linear, A=None, c=None):
    """A torch linear map on NumPy states, which A and c rebuild first."""
    weight = linear.weight.detach().double().numpy()
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().double().numpy()
    if A is not None:
        weight, bias = weight @ A, bias + weight @ c
    return lambda states: states @ weight.T + bias


def calibration_of(pruner, X):
    """What the sequences show of the network of a fitted pruner."""
    sequences = check_sequences(X, pruner, reset=False)
    dense, data = train_dense(pruner, sequences, X, None)
    return calibrate(pruner, dense, data, PreviousCalibration())
