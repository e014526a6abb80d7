"""Ways through ``forward`` that some batches alone take."""

import numpy as np
import pytest
import torch
from networks import N_FEATURES, N_NODES, make_rnn
from oracles import fold, layer_weights, run_cell
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from skspectral import SpectralRNNPruner

M = 3
STAYS = "ignore:The reconstruction of:UserWarning"
may_stay = pytest.mark.filterwarnings(STAYS)


def linear(n_outputs=2, n_inputs=N_NODES):
    return nn.Linear(n_inputs, n_outputs, dtype=torch.float64)


class Net(nn.Module):
    """A layer, some readers, and a function for ``forward``."""

    def __init__(self, run, rnn=None, **parts):
        super().__init__()
        self.rnn, self.run = rnn or make_rnn(), run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def fitted(net, batches, **params):
    params = {"m": M, "n_refit": 0, "objective": "one-step"} | params
    return SpectralRNNPruner(net.eval(), **params, trajectory_fit=0).fit(iter(batches))


def rebuilt(pruner, rnn, x):
    """States of the kept nodes on their own, and all nodes rebuilt from them."""
    J, A, c = pruner.support_.tolist(), pruner.reconstruction_, pruner.intercept_
    weights = fold(rnn.mode, layer_weights(rnn), J, A, c)
    return torch.as_tensor(run_cell(rnn.mode, weights, x.numpy()) @ A.T + c)


def sequences(n=24, n_steps=6, scale=1.0):
    rng = np.random.default_rng(n_steps)
    return torch.as_tensor(scale * rng.normal(size=(n, n_steps, N_FEATURES)))


def assert_same(found, expected):
    if isinstance(found, tuple):
        for one, other in zip(found, expected, strict=True):
            if other is not None:
                assert_same(one, other)
        return
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=0, atol=1e-10)


def by_flag(net, x, flag):
    states = net.rnn(x)[0]
    return net.other(states) if flag else net.head(states)


def by_length(net, x):
    states = net.rnn(x)[0]
    return net.other(states) if x.shape[1] < 5 else net.head(states)


def by_silence(net, x):
    if not x.any():
        return x.new_zeros(len(x), x.shape[1], 2)
    return net.head(net.rnn(x)[0]).relu()


def squared_or_not(net, x, flag):
    states = net.rnn(x)[0]
    return net.head(states.square() if flag else states)


X, SHORT = sequences(), sequences(n_steps=3)


def flipped(net, x, flag):
    return net.head(net.rnn(x)[0].flip(-1 if flag else 1))


def returned(net, x, flag):
    states = net.rnn(x)[0]
    return (net.head(states), states) if flag else (net.head(states), None)


def gated(net, x, gate):
    return net.head(net.rnn(x)[0] * gate)


GATE = torch.linspace(0.5, 1.5, N_NODES, dtype=torch.float64)
WAYS = {
    "axis": (flipped, [(X, False), (X, True)]),
    "gate of every node": (gated, [(X, torch.tensor(2.0).double()), (X, GATE)]),
    "what is returned": (returned, [(X, False), (X, True)]),
    "flag": (by_flag, [(X, False), (X, True)]),
    "length": (by_length, [(X,), (SHORT,)]),
    "silence": (by_silence, [(0.0 * X,), (X,)]),
    "what is done to the states": (squared_or_not, [(X, False), (X, True)]),
}


@may_stay
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_order_of_the_batches_does_not_matter(way, turned):
    run, batches = WAYS[way]
    net = Net(run, head=linear(), other=linear())
    if way not in ("flag", "length"):
        del net.other
    pruner = fitted(net, batches[::-1] if turned else batches)
    for batch in batches:
        x, *rest = batch
        states = rebuilt(pruner, net.rnn, x)
        mirror = Net(run, rnn=lambda _, states=states: (states, None), head=net.head)
        mirror.other = getattr(net, "other", None)
        assert_same(pruner.pruned_module_(*batch), mirror(x, *rest))


@pytest.mark.parametrize("way", ["flag", "length"])
def test_every_head_is_narrowed(way):
    run, batches = WAYS[way]
    small = fitted(Net(run, head=linear(), other=linear()), batches).pruned_module_
    assert (small.head.in_features, small.other.in_features) == (M, M)


def test_a_head_that_did_not_run_is_warned_of():
    net = Net(by_flag, head=linear(), other=linear())
    with pytest.warns(UserWarning, match="'rnn.l0' has fewer nodes.*'other', of 7 inputs, did not"):
        fitted(net, [(X, False)])


def test_beside_heads_that_did_not_run_nothing_is_folded():
    def run(net, x, task):
        return net.heads[task](net.rnn(x)[0])

    net = Net(run, heads=nn.ModuleDict({"a": linear(2), "b": linear(3)}))
    with pytest.warns(UserWarning, match="not seen to reach 'heads.b'"):
        pruner = fitted(net, [(X, "a")])
    for task in "ab":
        expected = net.heads[task](rebuilt(pruner, net.rnn, X))
        assert_same(pruner.pruned_module_(X, task), expected)
    small = fitted(net, [(X, "a"), (X, "b")]).pruned_module_
    assert [head.in_features for head in small.heads.values()] == [M, M]


@may_stay
def test_two_layers_that_feed_one_head_in_turn():
    def run(net, x, which):
        return net.head(net.layers[which](x)[0])

    net = Net(run, layers=nn.ModuleDict({"a": make_rnn(), "b": make_rnn("lstm")}), head=linear())
    del net.rnn
    pruner = fitted(net, [(X, "a"), (X, "b"), (SHORT, "a")])
    for which, rnn in net.layers.items():
        layer = pruner.layers_[f"layers.{which}.l0"]
        J, A = layer.support.tolist(), layer.reconstruction
        weights = fold(rnn.mode, layer_weights(rnn), J, A, layer.intercept)
        states = torch.as_tensor(run_cell(rnn.mode, weights, X.numpy()) @ A.T)
        assert_same(pruner.pruned_module_(X, which), net.head(states))


def test_two_layers_that_change_places():
    def run(net, x, turned):
        a, b = net.rnn(x)[0], net.second(x)[0]
        return net.head(torch.cat([b, a] if turned else [a, b], -1))

    net = Net(run, second=make_rnn(), head=linear(2, 2 * N_NODES))
    with pytest.warns(UserWarning, match="beside other inputs at different times"):
        pruner = fitted(net, [(X, False), (X, True)])
    assert pruner.pruned_module_.head.in_features == 2 * N_NODES


def test_as_many_heads_as_there_are_batches():
    net = Net(lambda net, x, k: net.get_submodule(f"head{k}")(net.rnn(x)[0]))
    for k in range(20):
        net.add_module(f"head{k}", linear())
    pruner = fitted(net, [(X[:4], k) for k in range(20)])
    states = rebuilt(pruner, net.rnn, X)
    for k in range(20):
        assert_same(pruner.pruned_module_(X, k), net.get_submodule(f"head{k}")(states))


def test_a_head_of_training_alone_is_narrowed():
    def run(net, x):
        states = net.rnn(x)[0]
        return (net.head(states), net.aux(net.drop(states))) if net.training else net.head(states)

    net = Net(run, head=linear(), aux=linear(3), drop=nn.Dropout(0.0))
    pruner = fitted(net, [(X,)])
    answer, aux = pruner.pruned_module_.train()(X)
    states = rebuilt(pruner, net.rnn, X)
    assert_same(answer, net.head(states))
    assert_same(aux, net.aux(states))


def test_training_that_wants_more_than_it_is_given_is_left_out():
    def run(net, x, y=None):
        answer = net.head(net.rnn(x)[0])
        return answer - y if net.training else answer

    assert fitted(Net(run, head=linear()), [(X,)]).pruned_module_.head.in_features == M


@may_stay
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["linear", "affine"])
def test_zeros_behind_sequences_stay_zeros(kind, turned):
    def run(net, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(net.rnn(packed)[0], batch_first=True)[0]
        return net.head(states.mean(1))

    net = Net(run, head=linear())
    full, unequal = torch.full((24,), 6), torch.arange(24) % 6 + 1
    batches = [(X, full), (X, unequal)]
    pruner = fitted(net, batches[::-1] if turned else batches, reconstruction=kind)
    for x, lengths in batches:
        states = rebuilt(pruner, net.rnn, x)
        states[torch.arange(6) >= lengths[:, None]] = 0.0
        assert_same(pruner.pruned_module_(x, lengths), net.head(states.mean(1)))


@may_stay
def test_padding_that_calibration_did_not_show():
    def run(net, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return net.head(pad_packed_sequence(net.rnn(packed)[0], batch_first=True)[0]).sum(1)

    net, full, short = Net(run, head=linear()), torch.full((24,), 6), torch.arange(24) % 6 + 1
    pruner = fitted(net, [(X, full)], reconstruction="affine")
    states = rebuilt(pruner, net.rnn, X)
    states[torch.arange(6) >= short[:, None]] = 0.0
    assert_same(pruner.pruned_module_(X, short), net.head(states).sum(1))


@may_stay
def test_masks_that_calibration_did_not_show():
    net = Net(lambda net, x, mask: net.head(net.rnn(x)[0] * mask), head=linear())
    ones, mask = X.new_ones(24, 6, 1), (X[..., :1] > 0).double()
    pruner = fitted(net, [(X, ones)], reconstruction="affine")
    expected = net.head(rebuilt(pruner, net.rnn, X) * mask)
    assert_same(pruner.pruned_module_(X, mask), expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ways_are_seen_in_other_processes_and_in_arrays(n_jobs):
    x = np.concatenate([X, X, X])
    x[48:] *= np.sign(x[48:].sum((1, 2)))[:, None, None]

    def run(net, x):
        states = net.rnn(x)[0]
        return net.other(states) if bool((x.sum((1, 2)) > 0).all()) else net.head(states)

    net = Net(run, head=linear(), other=linear()).eval()
    params = {"m": M, "n_refit": 0, "objective": "one-step", "batch_size": 8, "n_jobs": n_jobs}
    with torch.random.fork_rng():
        small = SpectralRNNPruner(net, **params, trajectory_fit=0).fit(x).pruned_module_
    assert (small.head.in_features, small.other.in_features) == (M, M)
