"""Levels and directions as layers of their own: the same numbers as torch."""

import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, make_rnn
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._pytree import tree_leaves

from skspectral import SpectralRNNPruner
from skspectral.rnn.layers.stack import merge_layers, split_layers
from skspectral.rnn.runtime.stack import StackedRNN

SHAPES = {"two levels": (2, False), "two directions": (1, True), "both": (3, True)}
STARTED, LENGTHS = (True, False), {"unsorted": [3, 6, 1, 4], "sorted": [6, 4, 3, 1]}

every_shape = pytest.mark.parametrize("shape", SHAPES)
every_cell = pytest.mark.parametrize("cell", CELLS)
every_order = pytest.mark.parametrize("batch_first", [True, False])


def stacks(cell, shape, **options):
    """The module of torch, its layers laid out, and the two put together again."""
    n_levels, both = SHAPES[shape]
    rnn = make_rnn(cell, num_layers=n_levels, bidirectional=both, **options)
    return rnn, split_layers(rnn), merge_layers(split_layers(rnn))


def start(rnn, n_sequences, rng):
    """States to start from."""
    shape = rnn.num_layers * (1 + rnn.bidirectional), n_sequences, N_NODES
    h, c = torch.as_tensor(rng.normal(size=(2, *shape)))
    return (h, c) if rnn.mode == "LSTM" else h


def assert_same(one, other, *args):
    for a, b in zip(tree_leaves(one(*args)), tree_leaves(other(*args)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@every_cell
@every_shape
@every_order
@pytest.mark.parametrize("bias", [True, False])
def test_layers_compute_what_torch_computes(cell, shape, batch_first, bias, rng):
    rnn, layers, again = stacks(cell, shape, batch_first=batch_first, bias=bias)
    x = torch.as_tensor(rng.normal(size=(4, 6, N_FEATURES)))
    hx = start(rnn, 4 if batch_first else 6, rng)
    for other in (layers, again):
        for args in ((x,), (x, hx), (x[0],)):
            assert_same(rnn, other, *args)


@every_cell
@every_shape
@pytest.mark.parametrize("lengths", LENGTHS)
def test_packed_sequences_too(cell, shape, lengths, rng):
    rnn, layers, again = stacks(cell, shape)
    x = torch.as_tensor(rng.normal(size=(4, 6, N_FEATURES)))
    is_sorted = lengths == "sorted"
    packed = pack_padded_sequence(
        x, torch.tensor(LENGTHS[lengths]), batch_first=True, enforce_sorted=is_sorted
    )
    for other in (layers, again):
        for args in ((packed,), (packed, start(rnn, 4, rng))):
            assert_same(rnn, other, *args)


@every_shape
def test_put_together_is_what_it_was(shape):
    rnn, layers, again = stacks("lstm", shape, dropout=0.3 if "levels" in shape else 0.0)
    assert isinstance(layers, StackedRNN)
    assert repr(again) == repr(rnn)
    for name, weight in rnn.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=0)


def test_frozen_weights_stay_frozen():
    rnn = make_rnn("gru", num_layers=2)
    rnn.weight_hh_l1.requires_grad_(False)
    layers = split_layers(rnn)
    assert not layers.l1.weight_hh_l0.requires_grad
    assert layers.l0.weight_hh_l0.requires_grad
    again = merge_layers(layers)
    assert not again.weight_hh_l1.requires_grad
    assert again.weight_hh_l0.requires_grad


def test_layers_with_and_without_bias_are_put_together_with_one():
    layers = split_layers(make_rnn("gru", num_layers=2, bias=False))
    layers["l1"] = make_rnn("gru", n_features=N_NODES)
    again, x = merge_layers(layers), torch.randn(4, 6, N_FEATURES, dtype=torch.float64)
    assert type(again) is nn.GRU
    assert_same(again, layers, x)


def test_layers_of_different_sizes_stay_apart():
    layers = split_layers(make_rnn("gru", num_layers=2))
    layers.l1 = nn.GRU(N_NODES, 3, batch_first=True).double()
    assert type(merge_layers(layers)) is StackedRNN
    states, final = layers(torch.zeros(2, 5, N_FEATURES, dtype=torch.float64))
    assert states.shape == (2, 5, 3)
    assert [tuple(h.shape) for h in final] == [(2, N_NODES), (2, 3)]


class Chain(nn.Module):
    """Layers that read what other layers make."""

    def __init__(self, shape):
        super().__init__()
        n_levels, both = SHAPES[shape]
        options = {"num_layers": n_levels, "bidirectional": both}
        self.first = make_rnn("lstm", **options)
        n_read = N_NODES * (1 + both)
        self.second = make_rnn("gru", n_features=n_read, **options)
        self.head = nn.Linear(n_read, 2, dtype=torch.float64)

    def forward(self, x):
        return self.head(self.second(self.first(x)[0])[0])


@every_shape
@pytest.mark.parametrize("m", [N_NODES, 3])
def test_layers_that_read_pruned_layers_become_those_of_torch(shape, m, rng):
    torch.manual_seed(0)
    net, x = Chain(shape).eval(), torch.as_tensor(rng.normal(size=(40, 6, N_FEATURES)))
    pruner = SpectralRNNPruner(net, m, trajectory_fit=0).fit(x.numpy())
    small = pruner.pruned_module_
    _, both = SHAPES[shape]
    assert isinstance(small.second, nn.GRU)
    assert small.second.input_size == m * (1 + both)
    assert small.second.weight_ih_l0.shape == (3 * m, m * (1 + both))
    if m == N_NODES:
        assert_same(net, small, x)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_between_levels(training):
    torch.manual_seed(0)
    rnn = make_rnn("gru", num_layers=2, dropout=0.5).train(training)
    layers, x = split_layers(rnn), torch.ones(2, 50, N_FEATURES, dtype=torch.float64)
    assert torch.equal(layers(x)[0], layers(x)[0]) is not training


def test_the_given_module_is_left_alone():
    net = nn.Sequential(make_rnn("gru", num_layers=2))
    split_layers(net)
    assert isinstance(net[0], nn.GRU)
