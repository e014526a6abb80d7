"""Sequences of unequal length: run side by side, and the same as each by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import second_moment
from passes import passes
from torch import nn

from skspectral import SpectralRNNPruner
from skspectral.data.sequences import MOST_PADDED, Sequences, of_like_length
from skspectral.rnn.layers.find import find_layers
from skspectral.rnn.layers.stack import split_layers
from skspectral.rnn.states.collector import BLOCK, StateCollector
from skspectral.rnn.states.padded import Padded

N_NODES = 12
RNG = np.random.default_rng(0)
LENGTHS = np.ceil(RNG.lognormal(2.0, 0.6, size=90)).astype(int)
RAGGED = [RNG.normal(size=(length, 3)).astype(np.float32) for length in LENGTHS]
TOKENS = [RNG.integers(0, 7, size=length) for length in LENGTHS]


class Net(nn.Module):
    """Something before a layer, and the last state behind it."""

    def __init__(self, before, rnn):
        super().__init__()
        self.before, self.rnn = before, rnn
        self.head = nn.Linear(N_NODES * (1 + rnn.bidirectional), 2)

    def forward(self, x):
        return self.head(self.rnn(self.before(x))[0][:, -1])


class TimeFirst(Net):
    def forward(self, x):
        return self.head(self.rnn(self.before(x))[0][-1])


class Smoothed(nn.Conv1d):
    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Centered(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=1, keepdim=True)


class Unrolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, N_NODES), nn.Linear(N_NODES, 2)

    def forward(self, x):
        h = None
        for step in x.unbind(1):
            h = self.cell(step, h)
        return self.head(h)


def rnn(kind=nn.GRU, **options):
    return kind(3, N_NODES, **{"batch_first": True} | options)


# Modules, what they read, and whether zeros may follow.
MODULES = {
    "layer": (rnn, RAGGED, True),
    "layer, time first": (lambda: rnn(batch_first=False), RAGGED, True),
    "levels": (lambda: rnn(nn.LSTM, num_layers=2), RAGGED, True),
    "both directions": (lambda: rnn(nn.LSTM, num_layers=2, bidirectional=True), RAGGED, True),
    "module": (lambda: Net(nn.Linear(3, 3), rnn(nn.RNN)), RAGGED, True),
    "module, time first": (lambda: TimeFirst(nn.Identity(), rnn(batch_first=False)), RAGGED, True),
    "module, both directions": (lambda: Net(nn.Identity(), rnn(bidirectional=True)), RAGGED, False),
    "module, smoothed": (lambda: Net(Smoothed(3, 3, 3, padding=1), rnn()), RAGGED, True),
    "module, centered": (lambda: Net(Centered(), rnn()), RAGGED, False),
    "cell": (Unrolled, RAGGED, True),
    "tokens": (lambda: Net(nn.Embedding(7, 3), rnn(nn.LSTM)), TOKENS, True),
}


def names_of(module):
    return [layer.name for layer in find_layers(split_layers(module))]


def alone(module, data):
    """Hidden states of each sequence by itself."""
    module = split_layers(module)
    collector = StateCollector(module, find_layers(module))
    found = [collector.run(x[None]) for x in data]
    return {name: [states[name][0].double().numpy() for states in found] for name in found[0]}


@pytest.mark.parametrize("name", MODULES)
def test_moments_are_those_of_each_sequence_by_itself(name):
    make, data, ignores = MODULES[name]
    module = make().eval()
    with passes(N_NODES) as together:
        pruner = SpectralRNNPruner(module, 5, objective="input", n_refit=0, trajectory_fit=0).fit(
            data
        )
    for layer, states in alone(module, data).items():
        covariance, mean = second_moment(states)
        np.testing.assert_allclose(pruner._moments[layer].covariance, covariance, atol=1e-6)
        np.testing.assert_allclose(pruner._moments[layer].mean, mean, atol=1e-6)
        assert pruner._moments[layer].n_steps == LENGTHS.sum()
    if isinstance(module, Net):
        n_lengths = len(np.unique(LENGTHS))
        assert (together["evaluation"] < n_lengths) == ignores


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("output", ["last", "mean", "sequence"])
def test_transform_gives_each_sequence_as_by_itself(name, output):
    make, data, _ = MODULES[name]
    params = {"objective": "input", "n_refit": 0, "output": output}
    pruner = SpectralRNNPruner(make().eval(), 5, **params, trajectory_fit=0).fit(data)
    found = pruner.transform(data)
    assert len(found) == len(data)
    for row, x in zip(found, data, strict=True):
        np.testing.assert_allclose(row, pruner.transform([x])[0], atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_zeros_are_let_in_where_they_change_nothing(name):
    make, data, ignores = MODULES[name]
    module = split_layers(make().eval())
    collector = StateCollector(module, find_layers(module))
    ends = (torch.as_tensor(data[place]) for place in (LENGTHS.argmax(), LENGTHS.argmin()))
    assert collector.ignores_padding(*ends) == ignores


@given(st.lists(st.integers(1, 400), min_size=1, max_size=200), st.integers(1, 60))
def test_batches_of_like_length_hold_every_sequence_once(lengths, batch_size):
    lengths = np.array(lengths)
    batches = list(of_like_length(lengths, batch_size))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    for batch in batches:
        steps = lengths[batch]
        assert (np.diff(steps) <= 0).all()
        assert len(batch) <= BLOCK or steps[0] * len(batch) <= MOST_PADDED * steps.sum()


@pytest.mark.parametrize("spread", [0.25, 0.5, 1.0])
def test_padding_costs_less_than_a_tenth(spread):
    lengths = np.ceil(RNG.lognormal(4.0, spread, size=10_000)).astype(int)
    batches = list(of_like_length(lengths, 256))
    run = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert run < 1.1 * lengths.sum()
    assert len(batches) < 3 * 10_000 / 256


def test_equal_lengths_are_never_padded():
    equal = Sequences(list(RNG.normal(size=(20, 5, 3))), 3)
    assert all(isinstance(batch, np.ndarray) for _, batch in equal.batches(8, pad=True))


def test_own_steps_are_those_before_the_zeros():
    padded = Padded.of([torch.ones(3, 2), 2 * torch.ones(1, 2)])
    assert padded.filled.shape == (2, 3, 2)
    assert torch.equal(padded.own(padded.filled), torch.tensor([[1.0, 1]] * 3 + [[2.0, 2]]))
    assert torch.equal(padded.packed().batch_sizes, torch.tensor([2, 1, 1]))
