"""Layers that do more than torch's: subclasses, hooks, attributes of their own."""

import pickle

import numpy as np
import pytest
import torch
from networks import N_FEATURES, N_NODES
from test_paths import M, Net, X, assert_same, fitted, linear, may_stay, rebuilt
from torch import nn

from skspectral import load_pruned, prune, save_pruned

OPTIONS = {"batch_first": True, "dtype": torch.float64}


class Reversed(nn.GRU):
    def forward(self, x, hx=None):
        states, final = super().forward(x.flip(1), hx)
        return states.flip(1), final


class OutputsAlone(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class BatchFirstState(nn.GRU):
    def forward(self, x, hx=None):
        states, final = super().forward(x, None if hx is None else hx.transpose(0, 1))
        return states, final.transpose(0, 1)


class Dropping(nn.RNN):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.drop = nn.Dropout(0.4)

    def forward(self, x, hx=None):
        states, final = super().forward(self.drop(x), hx)
        return self.drop(states), final


class Scaled(nn.GRU):
    scale = 3.0

    def forward(self, x, hx=None):
        states, final = super().forward(self.scale * x, hx)
        return self.scale * states, final


class Squared(nn.LSTM):
    def forward(self, x, hx=None):
        states, final = super().forward(x, hx)
        return states.square(), final


class Renamed(nn.GRU):
    """Has no forward of its own, but what others read."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.gain = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))


def first(output):
    return output[0] if isinstance(output, tuple) else output


def read_all(net, x):
    return net.head(first(net.rnn(x)))


def read_last(net, x):
    return net.head(net.rnn(x)[1][:, 0])


def read_gain(net, x):
    return net.head(first(net.rnn(net.rnn.gain * x)))


# A kind of layer, how a module reads it, and what of the states rebuilt on what input it reads.
KINDS = {
    Reversed: (read_all, lambda x: x.flip(1), lambda s: s.flip(1)),
    OutputsAlone: (read_all, lambda x: x, lambda s: s),
    BatchFirstState: (read_last, lambda x: x, lambda s: s[:, -1]),
    Dropping: (read_all, lambda x: x, lambda s: s),
    Scaled: (read_all, lambda x: 3.0 * x, lambda s: 3.0 * s),
    Squared: (read_all, lambda x: x, torch.square),
    Renamed: (read_gain, lambda x: 2.0 * x, lambda s: s),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@may_stay
@every_kind
def test_what_a_layer_does_beside_torch_goes_on(kind):
    read, enter, leave = KINDS[kind]
    net = Net(read, kind(N_FEATURES, N_NODES, **OPTIONS), head=linear())
    pruner = fitted(net, [(X,)])
    expected = net.head(leave(rebuilt(pruner, net.rnn, enter(X))))
    assert_same(pruner.pruned_module_(X), expected)
    assert isinstance(pruner.pruned_module_.rnn, kind)
    assert_same(fitted(net, [(X,)], m=1.0).pruned_module_(X), net(X))


@every_kind
def test_such_a_layer_is_smaller_itself_where_nothing_stays(kind):
    read, *_ = KINDS[kind]
    if kind is not Squared:
        net = Net(read, kind(N_FEATURES, N_NODES, **OPTIONS), head=linear())
        layer = fitted(net, [(X,)]).pruned_module_.rnn
        assert type(layer) is kind
        assert (layer.hidden_size, layer.weight_hh_l0.shape[1]) == (M, M)


@may_stay
@pytest.mark.parametrize("kind", [Reversed, OutputsAlone, Squared])
@pytest.mark.parametrize("levels", [{"num_layers": 2}, {"bidirectional": True}])
def test_levels_and_directions_of_such_layers(kind, levels):
    width = N_NODES * (1 + levels.get("bidirectional", False))
    net = Net(read_all, kind(N_FEATURES, N_NODES, **levels, **OPTIONS), head=linear(2, width))
    assert_same(fitted(net, [(X,)], m=1.0).pruned_module_(X), net(X))
    small = fitted(net, [(X,)], m=N_NODES - 1).pruned_module_
    assert (
        sum(p.numel() for p in small.rnn.parameters())
        < sum(p.numel() for p in net.rnn.parameters()) + (kind is Squared) * width * width
    )
    assert_same(pickle.loads(pickle.dumps(small.rnn))(X)[0], small.rnn(X)[0])


@may_stay
@pytest.mark.parametrize(
    ("register", "enter", "leave"),
    [
        (lambda rnn: rnn.register_forward_pre_hook(halved), lambda x: 0.5 * x, lambda s: s),
        (lambda rnn: rnn.register_forward_hook(doubled), lambda x: x, lambda s: 2.0 * s),
        (lambda rnn: rnn.register_forward_hook(shifted), lambda x: x, lambda s: s + 1.0),
    ],
)
def test_hooks_go_on(register, enter, leave):
    net = Net(read_all, head=linear())
    register(net.rnn)
    pruner = fitted(net, [(X,)])
    assert_same(pruner.pruned_module_(X), net.head(leave(rebuilt(pruner, net.rnn, enter(X)))))


def halved(_layer, args):
    return (0.5 * args[0],)


def doubled(_layer, _args, output):
    return 2.0 * output[0], output[1]


def shifted(_layer, _args, output):
    return output[0] + 1.0, output[1]


class OwnCell(nn.LSTMCell):
    def forward(self, x, hx):
        h, c = hx
        gates = nn.functional.linear(x, self.weight_ih) + nn.functional.linear(h, self.weight_hh)
        gate_in, forget, new, gate_out = gates.chunk(4, 1)
        c = forget.sigmoid() * c + gate_in.sigmoid() * new.tanh()
        return gate_out.sigmoid() * c.tanh(), c


def test_a_layer_that_makes_its_states_itself_is_refused():
    def run(net, x):
        state = (x.new_zeros(len(x), N_NODES),) * 2
        for step in x.unbind(1):
            state = net.rnn(step, state)
        return net.head(state[0])

    net = Net(run, OwnCell(N_FEATURES, N_NODES, dtype=torch.float64), head=linear())
    with pytest.raises(ValueError, match="layer 'rnn' is a OwnCell, whose forward reads weight_ih"):
        fitted(net, [(X,)])


def test_the_given_layer_stays_as_it_was():
    net = Net(read_all, Reversed(N_FEATURES, N_NODES, **OPTIONS), head=linear())
    before = net(X)
    fitted(net, [(X,)])
    assert type(net.rnn) is Reversed
    assert net.rnn.hidden_size == N_NODES
    assert torch.equal(net(X), before)


def test_a_linear_map_of_a_class_of_its_own_stays_one():
    class Tripled(nn.Linear):
        def forward(self, x):
            return 3.0 * super().forward(x)

    net = Net(read_all, head=Tripled(N_NODES, 2, dtype=torch.float64))
    pruner = fitted(net, [(X,)])
    assert type(pruner.pruned_module_.head) is Tripled
    assert pruner.pruned_module_.head.in_features == M
    assert_same(pruner.pruned_module_(X), net.head(rebuilt(pruner, net.rnn, X)))


@may_stay
@pytest.mark.parametrize("kind", [Reversed, Squared])
def test_files_hold_such_layers(kind, tmp_path):
    torch.manual_seed(1)
    net, other = (Net(read_all, kind(N_FEATURES, N_NODES, **OPTIONS), head=linear()) for _ in "ab")
    small = fitted(net, [(X,)]).pruned_module_
    save_pruned(small, tmp_path / "small.safetensors")
    assert_same(load_pruned(tmp_path / "small.safetensors", into=other)(X), small(X))


def test_a_subclass_alone_becomes_a_smaller_layer_of_torch():
    rnn = Renamed(N_FEATURES, N_NODES, **OPTIONS)
    small = prune(rnn, np.asarray(X), M, trajectory_fit=0)
    assert (type(small), small.hidden_size) == (nn.GRU, M)
