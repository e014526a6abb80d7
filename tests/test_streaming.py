"""States that go in and out of ``forward``, chunk by chunk: small ones, unless asked otherwise."""

import copy

import pytest
import torch
from networks import N_FEATURES, N_NODES
from pairs import pairwise
from test_paths import M, X, assert_same, linear, may_stay
from torch import nn

from skspectral import SpectralRNNPruner, prune
from skspectral.rnn.runtime.wrappers import Expanded, RNNWrapper

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
FIT = {"m": M, "objective": "one-step", "n_refit": 0, "trajectory_fit": 0}


def small_of(net, *batch, **params):
    return prune(net.eval(), [batch or (X,)], **{**FIT, **params})


class Stream(nn.Module):
    """Answers a chunk, and gives the state to go on from."""

    def __init__(self, kind="GRU", levels=1, both=False, read=lambda states: states):
        super().__init__()
        options = {"batch_first": True, "num_layers": levels, "bidirectional": both}
        self.rnn = KINDS[kind](N_FEATURES, N_NODES, dtype=torch.float64, **options)
        self.head, self.read = linear(2, N_NODES * (1 + both)), read

    def forward(self, x, state=None):
        states, state = self.rnn(x, state)
        return self.head(self.read(states)), state


class Cells(nn.Module):
    """The same with a cell."""

    def __init__(self, kind="GRU"):
        super().__init__()
        cell = getattr(nn, f"{kind}Cell")
        self.cell, self.head = cell(N_FEATURES, N_NODES, dtype=torch.float64), linear()

    def forward(self, x, state=None):
        found = []
        for step in x.unbind(1):
            state = self.cell(step, state)
            found.append(self.head(state[0] if isinstance(state, tuple) else state))
        return torch.stack(found, 1), state


class Remembering(nn.Module):
    """Keeps its state in an attribute."""

    def __init__(self, kind="GRU", state=None):
        super().__init__()
        self.rnn = KINDS[kind](N_FEATURES, N_NODES, batch_first=True, dtype=torch.float64)
        self.head, self.state = linear(), state

    def forward(self, x):
        states, self.state = self.rnn(x, self.state)
        return self.head(states)


def sizes(state):
    return {each.shape[-1] for each in (state if isinstance(state, tuple) else (state,))}


def in_chunks(module, x, state=None):
    """Answers of chunks of unequal length, each started from the state after the one before."""
    found = []
    for chunk in x.split([1, 2, x.shape[1] - 3], dim=1):
        answer, state = module(chunk, state)
        found.append(answer)
    return torch.cat(found, 1), state


@may_stay
@pairwise(kind=KINDS, read=["folds", "stays"], levels=[1, 2], both=[False, True])
def test_states_go_on_at_the_size_of_the_kept_nodes(kind, read, levels, both):
    reads = {"folds": lambda states: states, "stays": torch.relu}
    net = Stream(kind, levels, both, reads[read])
    small = small_of(net)
    whole, state = small(X)
    assert sizes(state) == {M}
    if not both:  # a layer that runs backward needs all steps at once
        assert_same(in_chunks(small, X)[0], whole)
    assert any(isinstance(part, Expanded) for part in small.modules()) == (read == "stays")


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_a_cell_go_on_at_the_size_of_the_kept_nodes(kind):
    small = small_of(Cells(kind))
    whole, state = small(X)
    assert sizes(state) == {M}
    assert_same(in_chunks(small, X)[0], whole)


@may_stay
@pairwise(kind=KINDS, read=["folds", "stays"], levels=[1, 2])
def test_starts_of_the_old_size_are_the_kept_nodes(kind, read, levels):
    net = Stream(kind, levels, False, torch.relu if read == "stays" else lambda states: states)
    pruner = SpectralRNNPruner(net.eval(), **FIT).fit([(X,)])
    small = pruner.pruned_module_
    start = torch.randn(levels, len(X), N_NODES, dtype=torch.float64)
    supports = [layer.support for layer in pruner.layers_.values()]
    kept = torch.stack([each[:, J] for each, J in zip(start, supports, strict=True)])
    pair = (lambda h: (h, 0.1 * h)) if kind == "LSTM" else (lambda h: h)
    assert_same(small(X, pair(start))[0], small(X, pair(kept))[0])
    assert_same(small(X, pair(torch.zeros_like(start)))[0], small(X)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [None, torch.zeros(1, len(X), N_NODES, dtype=torch.float64)])
def test_a_state_in_an_attribute_goes_on_small(kind, state):
    pair = (state, state) if kind == "LSTM" and state is not None else state
    net = Remembering(kind, pair)
    small, fresh = (small_of(net) for _ in range(2))
    whole = small(X)
    assert sizes(small.state) == {M}
    assert_same(torch.cat([fresh(part) for part in X.split(2, 1)], 1), whole)
    assert net.state is pair


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_states_keep_their_size_where_that_is_asked_for(kind):
    net = Stream(kind)
    with pytest.warns(UserWarning, match="is returned by forward"):
        small = small_of(net, state_size="dense")
    whole, state = small(X)
    assert sizes(state) == {N_NODES}
    assert_same(in_chunks(small, X)[0], whole)
    assert_same(small_of(net)(X)[0], whole)


def test_another_word_for_the_size_is_refused():
    with pytest.raises(ValueError, match="state_size must be"):
        small_of(Stream(), state_size="small")


class Answering(Stream):
    """Is never given a state."""

    def forward(self, x):
        states, state = self.rnn(x)
        return self.head(states), state


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_is_never_started_is_one_of_torch(kind):
    small = small_of(Answering(kind))
    assert type(small.rnn) is KINDS[kind]
    assert sizes(small(X)[1]) == {M}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_may_be_started_takes_both_sizes(kind):
    small = small_of(Stream(kind))
    assert isinstance(small.rnn, RNNWrapper)
    assert type(small.rnn.rnn) is KINDS[kind]


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_no_streaming_network_grows(share):
    net = Stream("GRU")
    net.rnn, net.head = nn.GRU(8, 128, batch_first=True), nn.Linear(128, 1)
    x = torch.randn(200, 20, 8)
    small = prune(net.eval(), [(x,)], m=share, trajectory_fit=0, objective="one-step")
    n_given, n_pruned = (sum(each.numel() for each in m.parameters()) for m in (net, small))
    assert n_pruned < share * n_given * 1.01


def test_states_that_are_all_that_forward_returns_keep_their_size():
    class Encoder(Stream):
        def forward(self, x):
            return self.rnn(x)[1]

    with pytest.warns(UserWarning, match="is returned by forward"):
        small = small_of(Encoder())
    assert small(X).shape[-1] == N_NODES


def test_a_state_that_may_start_another_layer_keeps_its_size():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"batch_first": True, "dtype": torch.float64}
            self.encoder = nn.GRU(N_FEATURES, N_NODES, **options)
            self.decoder = nn.GRU(N_FEATURES, N_NODES, **options)
            self.head, self.other = linear(), linear()

        def forward(self, x, start=None):
            states, state = self.encoder(x)
            return self.head(states) + self.other(self.decoder(x, start)[0]), state

    with pytest.warns(UserWarning, match="returned by forward and may start another layer"):
        small = small_of(Both())
    assert small(X)[1].shape[-1] == N_NODES


def test_states_that_are_masked_on_their_way_out_are_small():
    class Masking(Stream):
        def forward(self, x, state=None):
            states, state = self.rnn(x, state)
            return self.head(states), state * (x[:, 0, :1] > 0).T[..., None]

    net = Masking()
    small = small_of(net)
    answer, state = small(X)
    assert state.shape == (1, len(X), M)
    assert not state[0, X[:, 0, 0] <= 0].any()
    plain = copy.deepcopy(small)
    assert_same(plain.rnn(X)[1] * (X[:, 0, :1] > 0).T[..., None], state)
    assert torch.isfinite(answer).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_small_state_goes_through_a_traced_module(kind):
    class Traced(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = KINDS[kind](N_FEATURES, N_NODES, batch_first=True, dtype=torch.float64)
            self.head = linear()

        def forward(self, x, h: torch.Tensor, c: torch.Tensor):
            start = (h, c) if self.rnn.mode == "LSTM" else h
            states, last = self.rnn(x, start)
            return self.head(states), last

    zeros = torch.zeros(1, len(X), N_NODES, dtype=torch.float64)
    small = small_of(Traced(), X, zeros, zeros)
    state = torch.randn(1, len(X), M, dtype=torch.float64)
    traced = torch.jit.trace(small, (X, state, state))
    assert_same(traced(X, state, state)[0], small(X, state, state)[0])
    assert sizes(small(X, zeros, zeros)[1]) == {M}
