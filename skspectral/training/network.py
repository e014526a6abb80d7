"""Network of RNNClassifier and RNNRegressor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CELLS = ("gru", "irnn", "lstm", "tanh")


class RecurrentNet(nn.Module):
    """Network of one recurrent layer and a linear head on its last state.

    Parameters
    ----------
    cell : {"gru", "irnn", "lstm", "tanh"}
        Kind of layer.
    n_features : int
        Number of features of a step.
    hidden_size : int
        Number of hidden nodes.
    n_outputs : int
        Number of outputs of the head.
    """

    def __init__(self, cell: str, n_features: int, hidden_size: int, n_outputs: int) -> None:
        super().__init__()
        self.rnn = make_layer(cell, n_features, hidden_size)
        self.head = nn.Linear(hidden_size, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return outputs (n_sequences, n_outputs) of padded sequences with the given lengths."""
        states, _ = self.rnn(x)
        if lengths is None:
            return self.head(states[:, -1])
        return self.head(states[torch.arange(len(x)), lengths - 1])


def make_layer(cell: str, n_features: int, hidden_size: int) -> nn.RNNBase:
    """Return a new layer; an IRNN is a relu RNN whose ``weight_hh`` starts as the identity."""
    if cell == "gru":
        return nn.GRU(n_features, hidden_size, batch_first=True)
    if cell == "lstm":
        return nn.LSTM(n_features, hidden_size, batch_first=True)
    if cell == "tanh":
        return nn.RNN(n_features, hidden_size, batch_first=True)
    rnn = nn.RNN(n_features, hidden_size, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        rnn.get_parameter("weight_ih_l0").normal_(std=0.3)
        rnn.get_parameter("weight_hh_l0").copy_(torch.eye(hidden_size))
        rnn.get_parameter("bias_ih_l0").zero_()
        rnn.get_parameter("bias_hh_l0").zero_()
    return rnn
