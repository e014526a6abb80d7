"""States that go in and out of ``forward``, chunk by chunk: small ones, unless asked otherwise."""

import collections
import copy

import pytest
import torch
from networks import N_FEATURES, N_NODES
from pairs import pairwise
from test_paths import M, X, assert_same, linear, may_stay
from torch import nn

from skspectral import SpectralRNNPruner, load_pruned, prune, save_pruned
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
    """Run a cell over a chunk, and give the state to go on from."""

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


class Quiet(Stream):
    """Gives no state to go on from."""

    def forward(self, x):
        return super().forward(x)[0]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_levels_of_different_sizes_go_on_at_their_own_sizes(kind, both):
    torch.manual_seed(0)
    net, quiet = Stream(kind, 2, both), Quiet(kind, 2, both)
    quiet.load_state_dict(net.state_dict())
    unequal = {"m": {name: M + 2 - i for i, name in enumerate(names_of_layers(both))}}
    small = small_of(net, **unequal)
    assert not any(isinstance(part, Expanded) for part in small.modules())
    whole, state = small(X)
    hidden = state[0] if kind == "LSTM" else state
    assert [each.shape for each in hidden] == [(len(X), m) for m in unequal["m"].values()]
    assert_same(whole, small_of(quiet, **unequal)(X))
    if not both:
        assert_same(in_chunks(small, X)[0], whole)


def names_of_layers(both):
    ends = ("", "_reverse") if both else ("",)
    return [f"rnn.l{level}{end}" for level in range(2) for end in ends]


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

    with pytest.warns(UserWarning, match="starts another layer"):
        small = small_of(Both())
    assert small(X)[1].shape[-1] == N_NODES


class Split(nn.Module):
    """Takes and gives hidden and cell state in one tensor."""

    def __init__(self, where):
        super().__init__()
        options = {"batch_first": True, "dtype": torch.float64}
        self.rnn, self.head = nn.LSTM(N_FEATURES, N_NODES, **options), linear()
        self.where, self.size = where, N_NODES

    def forward(self, x, state):
        n = self.where(self, state)
        h, c = state[..., :n].contiguous(), state[..., n:].contiguous()
        states, last = self.rnn(x, (h, c))
        return self.head(states), torch.cat(last, -1)


SPLITS = {
    "at the half": lambda net, state: state.shape[-1] // 2,
    "at an attribute": lambda net, state: net.size,
    "at a number": lambda net, state: N_NODES,
}


@may_stay
@pytest.mark.parametrize("split", SPLITS)
def test_a_state_that_is_split_at_a_size_goes_on_right(split):
    start = torch.zeros(1, len(X), 2 * N_NODES, dtype=torch.float64)
    small = small_of(Split(SPLITS[split]), X, start)
    whole, state = small(X, start)
    assert sizes(state) == {2 * (M if split == "at the half" else N_NODES)}
    assert_same(in_chunks(small, X, start)[0], whole)


class Guarding(Remembering):
    """Starts anew where the state has not the size that it knows."""

    def __init__(self, known):
        super().__init__()
        self.size, self.known = N_NODES, known

    def forward(self, x):
        known = N_NODES if self.known == "number" else self.size
        if self.state is None or self.state.shape != (1, len(x), known):
            self.state = x.new_zeros(1, len(x), known)
        return super().forward(x)


@may_stay
@pytest.mark.parametrize("known", ["number", "attribute"])
def test_a_guard_of_the_size_does_not_forget_the_state(known):
    small = small_of(Guarding(known))
    fresh = copy.deepcopy(small)
    assert_same(torch.cat([fresh(part) for part in X.split(2, 1)], 1), small(X))
    assert sizes(small.state) == {N_NODES if known == "number" else M}


class Normalizing(nn.Module):
    """Starts from a state that is normalized over its nodes, so that its size matters."""

    def __init__(self, give=lambda answer, state: (answer, state)):
        super().__init__()
        options = {"batch_first": True, "dtype": torch.float64}
        self.rnn, self.head, self.give = nn.GRU(N_FEATURES, N_NODES, **options), linear(), give

    def forward(self, x, mask=None, state=()):
        if mask is not None:
            x = x * mask
        start = None if len(state) == 0 else torch.nn.functional.layer_norm(state, state.shape[-1:])
        states, state = self.rnn(x, start)
        return self.give(self.head(states), state)


GIVEN = {
    "a pair": (lambda answer, state: (answer, state), lambda output: output),
    "the third": (lambda answer, state: (answer, answer, state), lambda output: output[::2]),
    "by name": (
        lambda answer, state: {"y": answer, "state": state},
        lambda output: tuple(output.values()),
    ),
}


@pytest.mark.parametrize("give", GIVEN)
def test_a_state_is_fed_back_whatever_forward_gives(give):
    hold, parts = GIVEN[give]
    with pytest.warns(UserWarning, match="is used by layer_norm"):
        small = small_of(Normalizing(hold))
    first, state = parts(small(X[:, :2]))
    second, _ = parts(small(X[:, 2:], state=state))
    assert sizes(state) == {N_NODES}
    assert torch.isfinite(torch.cat([first, second], 1)).all()


class Counting(nn.Module):
    """Reads the states in another way from the second call on."""

    def __init__(self):
        super().__init__()
        options = {"batch_first": True, "dtype": torch.float64}
        self.rnn, self.head, self.calls = nn.GRU(N_FEATURES, N_NODES, **options), linear(), 0

    def forward(self, x):
        states, self.calls = self.rnn(x)[0], self.calls + 1
        return self.head(states.relu() if self.calls > 1 else states)


class Queueing(Counting):
    """Reads the states of the call before."""

    def __init__(self):
        super().__init__()
        self.before = collections.deque(maxlen=1)

    def forward(self, x):
        states = self.rnn(x)[0]
        read = states.relu() + self.before[0].square() if self.before else states
        self.before.append(states.detach())
        return self.head(read)


@pytest.mark.parametrize("kind", [Counting, Queueing])
def test_what_a_second_call_does_is_seen(kind):
    with pytest.warns(UserWarning, match="is used by"):
        small = small_of(kind())
    assert small.head.in_features == N_NODES


def test_a_forward_that_writes_into_its_input_does_not_change_x():
    class Scaling(Answering):
        def forward(self, x):
            x *= 1.5
            return super().forward(x)

    before, net = X.clone(), Scaling()
    for form in ([(X,), (X,)], X.numpy()):
        SpectralRNNPruner(net.eval(), **FIT).fit(form)
        assert torch.equal(X, before)


class Buffered(nn.Module):
    """Keeps the states of its levels in buffers."""

    def __init__(self, write, persistent=True):
        super().__init__()
        options = {"num_layers": 2, "batch_first": True, "dtype": torch.float64}
        self.rnn, self.head, self.write = nn.LSTM(N_FEATURES, N_NODES, **options), linear(), write
        for name in "hc":
            zeros = torch.zeros(2, 32, N_NODES, dtype=torch.float64)
            self.register_buffer(name, zeros, persistent=persistent)

    def forward(self, x):
        start = [each[:, : len(x)].contiguous() for each in (self.h, self.c)]
        states, last = self.rnn(x, tuple(start))
        for buffer, state in zip((self.h, self.c), last, strict=True):
            self.write(buffer, state.detach(), len(x))
        return self.head(states)


def assigned(buffer, state, n):
    buffer[:, :n] = state


WRITES = {"assigned": assigned, "copied": lambda buffer, state, n: buffer[:, :n].copy_(state)}


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("write", WRITES)
def test_states_in_buffers_go_on_small(write, persistent, tmp_path):
    small = small_of(Buffered(WRITES[write], persistent))
    save_pruned(small, tmp_path / "small")
    loaded = load_pruned(tmp_path / "small", into=Buffered(WRITES[write], persistent))
    assert small.h.shape == small.c.shape == loaded.h.shape == (2, 32, M)
    whole = small(X)
    assert_same(torch.cat([loaded(part) for part in X.split(2, 1)], 1), whole)
    assert small.h.any()


def test_states_of_cells_may_be_detached_in_place():
    class Detaching(Cells):
        def forward(self, x, state=None):
            found, state = super().forward(x, state)
            return found, state.detach_()

    assert sizes(small_of(Detaching())(X)[1]) == {M}


def test_the_first_output_is_what_is_compared_and_keeps_its_size():
    class Hydrology(Stream):
        def forward(self, x):
            states, state = self.rnn(x)
            return {"h_n": state, "y_hat": self.head(states)}

    with pytest.warns(UserWarning, match="is returned by forward"):
        pruner = SpectralRNNPruner(Hydrology().eval(), **FIT).fit([(X,), (X,)])
    assert pruner.pruned_module_(X)["h_n"].shape[-1] == N_NODES


def test_initial_states_of_other_sizes_are_refused():
    small, start = small_of(Stream()), torch.zeros(1, len(X), M - 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"must have {N_NODES} nodes, or the {M} that are kept"):
        small(X, start)


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


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
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
