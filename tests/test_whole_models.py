"""Models of several layers: the same numbers as a plain recurrence, and nothing silently wrong."""

import copy
import warnings

import numpy as np
import pytest
import torch
from models import (
    MODELS,
    READS,
    SHAPES,
    SHRINKS,
    STAYS,
    M,
    Stack,
    answers,
    assert_same,
    fitted,
    make,
    sequences,
)
from networks import CELLS, linear_reference
from oracles import fold, layer_weights, run_cell
from pairs import pairwise
from torch import nn
from torch.utils._pytree import tree_map

from skspectral import SpectralRNNPruner
from skspectral.rnn.layers.stack import split_layers


def run_stack(rnn, x, layers=None):
    """States of the last level by the recurrence, rebuilt from those of the kept nodes."""
    parts = split_layers(rnn).layers
    for level in range(rnn.num_layers):
        outputs = []
        for suffix in ("", "_reverse")[: 1 + rnn.bidirectional]:
            weights, name = layer_weights(parts[f"l{level}{suffix}"]), f"rnn.l{level}{suffix}"
            turned = x[:, ::-1] if suffix else x
            if layers is None:
                states = run_cell(rnn.mode, weights, turned)
            else:
                J, A, c = (
                    layers[name].support.tolist(),
                    layers[name].reconstruction,
                    layers[name].intercept,
                )
                states = run_cell(rnn.mode, fold(rnn.mode, weights, J, A, c), turned) @ A.T + c
            outputs.append(states[:, ::-1] if suffix else states)
        x = np.concatenate(outputs, axis=-1)
    return x


@pytest.mark.filterwarnings(STAYS)
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("batch_first", [True, False])
@pairwise(cell=CELLS, shape=SHAPES, bias=[True, False])
def test_stacks_are_the_small_recurrence_on_the_folded_weights(
    cell, shape, batch_first, bias, read
):
    net = Stack(cell, *shape, batch_first, bias, read).eval()
    before, X = copy.deepcopy(net.state_dict()), sequences()
    for m, kind in ((M, "linear"), (M, "affine"), (1.0, "linear")):
        pruner = fitted(net, X, m=m, reconstruction=kind)
        with torch.no_grad():
            found = pruner.pruned_module_(torch.as_tensor(X)).numpy()
        layers = None if m == 1.0 else pruner.layers_
        expected = READS[read][1](run_stack(net.rnn, X, layers), linear_reference(net.head))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("read", ["every step", "last states"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stack_stays_a_module_of_torch(shape, read):
    net = Stack("lstm", *shape, True, True, read)
    small = fitted(net, sequences(), m=M).pruned_module_
    assert type(small.rnn) is nn.LSTM
    assert (small.rnn.num_layers, small.rnn.bidirectional) == shape
    assert small.rnn.hidden_size == M
    assert small.head.in_features == M * (1 + shape[1])


every_model = pytest.mark.parametrize("name", MODELS)


@pytest.mark.filterwarnings(STAYS)
@every_model
def test_keeping_all_nodes_is_the_identity(name):
    net, batch, _ = make(name)
    small = fitted(net, iter([batch]), m=1.0).pruned_module_
    assert_same(answers(small, batch), answers(net, batch))


@every_model
def test_what_folds_folds_and_nothing_else(name):
    net, batch, stays = make(name)
    before = copy.deepcopy(net.state_dict())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pruner = fitted(net, iter([batch]), m=M)
    told = " ".join(
        text for text in map(str, (warning.message for warning in caught)) if "remains" in text
    )
    assert {host for host in ("", *vars(net)["_modules"]) if f"'{host}." in told} == stays
    for key, weight in net.state_dict().items():
        torch.testing.assert_close(weight, before[key], rtol=0, atol=0)
    sizes = [weight.numel() for weight in pruner.pruned_module_.state_dict().values()]
    assert sum(sizes) < sum(weight.numel() for weight in before.values())


@pytest.mark.filterwarnings(STAYS)
@pytest.mark.filterwarnings(SHRINKS)
@every_model
def test_all_of_the_package_works_on_it(name):
    net, batch, _ = make(name)
    pruner = SpectralRNNPruner(net, m=M, distill=1, likelihood="gaussian", trajectory_fit=10)
    batches = [tree_map(lambda part: part[:12] if part.ndim else part, batch), batch]
    small = pruner.fit(iter(batches)).pruned_module_
    for a, b in zip(answers(small, batch), answers(net, batch), strict=True):
        assert a.shape[:-1] == b.shape[:-1]  # a last state that is returned has the small size
        assert torch.isfinite(a).all()


@pytest.mark.filterwarnings(STAYS)
def test_a_cell_state_that_starts_another_layer_is_rebuilt():
    net, batch, _ = make("encoder and decoder")
    found = []
    for cells in (True, False):
        pruner = SpectralRNNPruner(net, m={"encoder.l0": 6}, n_refit=0, trajectory_fit=0).fit(
            iter([batch])
        )
        small = pruner.pruned_module_
        if not cells:
            small.encoder.expand_cells = nn.ModuleList()
        errors = [a - b for a, b in zip(answers(small, batch), answers(net, batch), strict=True)]
        found.append(sum(float(error.square().sum()) for error in errors))
    assert found[0] < 0.5 * found[1]
