"""The smaller module: what it computes, what it is."""

import warnings

import numpy as np
import pytest
import torch
from networks import (
    CELLS,
    FOLLOWED,
    N_FEATURES,
    N_NODES,
    UNFOLLOWED,
    Net,
    linear_reference,
    make_rnn,
    surgery_of,
)
from oracles import fold, layer_weights, run_cell
from pairs import pairwise
from torch import nn

from skspectral.rnn.layers.stack import merge_layers
from skspectral.rnn.surgery.reduction import LayerReduction

SUPPORT = [1, 4, 6]
STAYS = "The reconstruction of layer 'rnn.l0' remains a separate linear layer behind it, because"

every_cell = pytest.mark.parametrize("cell", CELLS)
OPTIONS = {"cell": CELLS, "batch_first": [True, False], "bias": [True, False]}
every_option = pairwise(**OPTIONS, affine=[True, False])


@pytest.fixture
def x(rng):
    return torch.as_tensor(rng.normal(size=(5, 6, N_FEATURES)))


def any_cut(rng, affine, support=SUPPORT):
    """Some reconstruction, which rebuilds the kept nodes as themselves."""
    A, c = rng.normal(size=(N_NODES, len(support))), affine * rng.normal(size=N_NODES)
    A[support], c[support] = np.eye(len(support)), 0.0
    return LayerReduction.from_arrays(np.array(support), A, c)


KEEP_ALL = LayerReduction.from_arrays(np.arange(N_NODES), np.eye(N_NODES), np.zeros(N_NODES))


def pruned(module, cut, x):
    surgery = surgery_of(module, x)
    reductions = {surgery.layers[0].name: cut}
    small = surgery.build_checked(reductions)
    surgery.warn(reductions)
    return merge_layers(small)


def answers(module, x):
    """All tensors a module answers with, batch first or time first as it likes."""
    with torch.no_grad():
        answer = module(x if module.batch_first else x.transpose(0, 1))
    return [part.numpy() for part in (answer if isinstance(answer, tuple) else (answer,))]


def small_states(rnn, cut, x):
    """States of the kept nodes alone, by the recurrence on the folded weights."""
    weights = fold(rnn.mode, layer_weights(rnn), cut.support.tolist(), cut.A.numpy(), cut.c.numpy())
    return run_cell(rnn.mode, weights, x.numpy())


def assert_all_close(found, expected):
    expected = expected if isinstance(expected, tuple) else (expected,)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


@pairwise(name=FOLLOWED, **OPTIONS, affine=[True, False])
def test_folded_module_is_the_small_recurrence(cell, batch_first, bias, affine, name, rng, x):
    pattern, cut = FOLLOWED[name], any_cut(rng, affine)
    net = Net(make_rnn(cell, batch_first=batch_first, bias=bias), pattern.read, bias=bias)
    states = small_states(net.rnn, cut, x)
    expected = pattern.reference(states, linear_reference(net.head, cut.A.numpy(), cut.c.numpy()))
    assert_all_close(answers(pruned(net, cut, x), x), expected)


@pairwise(name=UNFOLLOWED, **OPTIONS, affine=[True, False])
def test_unfolded_module_reads_rebuilt_states(cell, batch_first, bias, affine, name, rng, x):
    pattern, cut = UNFOLLOWED[name], any_cut(rng, affine)
    net = Net(make_rnn(cell, batch_first=batch_first, bias=bias), pattern.read, bias=bias)
    states = small_states(net.rnn, cut, x) @ cut.A.numpy().T + cut.c.numpy()
    with pytest.warns(UserWarning, match=STAYS):
        small = pruned(net, cut, x)
    assert_all_close(answers(small, x), pattern.reference(states, linear_reference(net.head)))


@pairwise(name=[*FOLLOWED, *UNFOLLOWED], **OPTIONS)
def test_keeping_all_nodes_changes_nothing(cell, batch_first, bias, name, x):
    read = (FOLLOWED | UNFOLLOWED)[name].read
    net = Net(make_rnn(cell, batch_first=batch_first, bias=bias), read, bias=bias).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=STAYS)
        small = pruned(net, KEEP_ALL, x)
    assert_all_close(answers(small, x), tuple(answers(net, x)))


@every_option
def test_folded_and_unfolded_agree(cell, batch_first, bias, affine, rng, x):
    def read(net, states, h):
        return net.head(h[-1]), net.other(states)

    net = Net(make_rnn(cell, batch_first=batch_first, bias=bias), read, bias=bias).eval()
    surgery, reductions = surgery_of(net, x), {"rnn.l0": any_cut(rng, affine)}
    folded, unfolded = surgery.build(reductions), surgery.expanded(reductions)
    assert_all_close(answers(folded, x), tuple(answers(unfolded, x)))


@every_option
def test_a_bare_layer_becomes_a_smaller_layer(cell, batch_first, bias, affine, rng, x):
    rnn, cut = make_rnn(cell, batch_first=batch_first, bias=bias), any_cut(rng, affine)
    small = pruned(rnn, cut, x)
    assert type(small) is type(rnn)
    assert (small.input_size, small.hidden_size) == (N_FEATURES, 3)
    assert (small.batch_first, small.bias) == (batch_first, bias or affine)
    states = small(x if batch_first else x.transpose(0, 1))[0].detach()
    states = states if batch_first else states.transpose(0, 1)
    np.testing.assert_allclose(states, small_states(rnn, cut, x), rtol=0, atol=1e-12)


@every_cell
def test_the_head_becomes_a_smaller_linear(cell, rng, x):
    net = Net(make_rnn(cell), FOLLOWED["h_n[-1]"].read)
    small = pruned(net, any_cut(rng, False), x)
    assert type(small) is Net
    assert type(small.rnn) is type(net.rnn)
    assert type(small.head) is nn.Linear
    assert (small.rnn.hidden_size, small.head.in_features, small.head.out_features) == (3, 3, 2)


@every_cell
def test_a_state_that_is_passed_in_has_the_old_size_where_unfolded(cell, rng, x):
    net = Net(make_rnn(cell), UNFOLLOWED["relu"].read)
    cut = any_cut(rng, False)
    with pytest.warns(UserWarning, match=STAYS):
        layer = pruned(net, cut, x).rnn
    with torch.no_grad():
        whole, _ = layer(x)
        first, state = layer(x[:, :2])
        rest, _ = layer(x[:, 2:], state)
    np.testing.assert_allclose(torch.cat([first, rest], 1), whole, rtol=0, atol=1e-12)
