"""Layers that benchmarks rewrite for other methods have the outputs of the original layers."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
LAYERS = [
    nn.RNN(5, 8, batch_first=True),
    nn.RNN(5, 8, nonlinearity="relu", batch_first=True),
    nn.LSTM(5, 8, num_layers=2, batch_first=True),
]


@pytest.mark.parametrize("rnn", LAYERS, ids=["tanh", "relu", "lstm"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # the fastest loop
@torch.no_grad()
def test_rewritten_layers_have_the_outputs_of_the_dense_ones(rnn, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    instead = importlib.import_module("instead")
    net, x = nn.Module(), torch.randn(4, 11, 5)
    net.rnn, net.head = rnn, nn.Linear(8, 3)
    expected = rnn(x)[0]
    of_full_rank, _ = instead.LowRank(rnn, 8)(x)
    torch.testing.assert_close(of_full_rank, expected)
    torch.testing.assert_close(instead.Unrolled(net)(x), net.head(expected[:, -1]))
