"""The given module: what comes out of it, what it keeps, what it may be asked."""

import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, make_rnn, surgery_of
from test_paths import M, Net, X, assert_same, fitted, linear, may_stay, rebuilt, sequences
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from skspectral import SpectralRNNPruner, prune
from skspectral.rnn.layers.stack import merge_layers
from skspectral.rnn.runtime.stack import StackedRNN
from skspectral.rnn.surgery.reduction import LayerReduction

# Outputs, whatever holds them


@dataclass
class Out:
    logits: torch.Tensor
    last: torch.Tensor


class Rows(Mapping):
    def __init__(self, **rows):
        self.rows = rows

    def __getitem__(self, name):
        return self.rows[name]

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)


class Slotted:
    __slots__ = ("logits", "states")

    def __init__(self, logits, states):
        self.logits, self.states = logits, states


HOLDERS = {
    "dataclass": (Out, lambda out: (out.logits, out.last)),
    "mapping": (lambda a, b: Rows(logits=a, states=b), lambda out: (out["logits"], out["states"])),
    "slots": (Slotted, lambda out: (out.logits, out.states)),
    "nested": (
        lambda a, b: [{"all": Out(a, b)}],
        lambda out: (out[0]["all"].logits, out[0]["all"].last),
    ),
}


@may_stay
@pytest.mark.parametrize("objective", ["one-step", "combined"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_states_that_come_out_in_an_object_keep_their_size(holder, objective):
    hold, parts = HOLDERS[holder]

    def run(net, x):
        states = net.rnn(x)[0]
        return hold(net.head(states), states)

    net = Net(run, head=linear())
    pruner = fitted(net, [(X,)], objective=objective)
    states = rebuilt(pruner, net.rnn, X)
    logits, shown = parts(pruner.pruned_module_(X))
    assert_same(logits, net.head(states))
    assert_same(shown, states)


def test_a_distribution_is_looked_into():
    def run(net, x):
        return torch.distributions.Categorical(logits=net.head(net.rnn(x)[0][:, -1]))

    net = Net(run, head=linear(4))
    pruner = fitted(net, [(X,)], objective="combined", likelihood="categorical")
    expected = net.head(rebuilt(pruner, net.rnn, X)[:, -1])
    assert_same(pruner.pruned_module_(X).logits, expected.log_softmax(-1))


def test_tags_as_lists_are_compared_by_what_the_head_makes():
    net = Net(lambda net, x: net.head(net.rnn(x)[0]).argmax(-1).tolist(), head=linear(4))
    pruner = fitted(net, [(X,)])
    assert pruner.pruned_module_.head.in_features == M
    states = rebuilt(pruner, net.rnn, X)
    assert pruner.pruned_module_(X) == net.head(states).argmax(-1).tolist()


def test_where_nothing_can_be_compared_nothing_is_pruned():
    def run(net, x):
        return F.linear(net.rnn(x)[0], net.head.weight).argmax(-1).tolist()

    with pytest.raises(ValueError, match="leads to no output that could be compared"):
        fitted(Net(run, head=linear(4)), [(X,)])


def test_small_columns_count_as_much_as_large_ones():
    """A map that is wrong in a column of small numbers is not hidden by one of large numbers."""
    net = Net(lambda net, x: net.head(net.rnn(x)[0]), head=linear())
    with torch.no_grad():
        net.head.weight[1] *= 1e12
    surgery = surgery_of(net, X)
    small, cut = None, LayerReduction.keep_first(N_NODES, N_NODES // 2)
    small = surgery.build({"rnn.l0": cut})
    assert objection(surgery, small, cut) is None
    with torch.no_grad():
        small.head.weight[0, 0] += 1e-3
    assert "leads to other outputs" in objection(surgery, small, cut)


def objection(surgery, small, cut):
    return surgery._judge.objection(merge_layers(small), {"rnn.l0": cut})


@pytest.mark.parametrize("error", [1e-6, 1e-3])
@pytest.mark.parametrize(
    "weight", ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_hh_l0", "head.weight", "head.bias"]
)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_any_weight_that_is_wrong_is_seen(weight, error, is_fitted):
    net = Net(lambda net, x: net.head(net.rnn(x)[0]), head=linear())
    surgery, cut = surgery_of(net, X), LayerReduction.keep_first(N_NODES, N_NODES // 2)
    if is_fitted:
        weights = cut.small_weights(net.rnn)
        cut = replace(cut, fitted={name: 1.1 * each for name, each in weights.items()})
    small = surgery.build({"rnn.l0": cut})
    assert objection(surgery, small, cut) is None
    with torch.no_grad():
        small.get_parameter(weight).flatten()[0] += error
    assert objection(surgery, small, cut)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("row", range(2))
def test_a_wrong_gate_is_seen_in_every_kind_of_layer(cell, is_packed, row):
    """The readers see both networks with the same states, so that only their steps differ."""

    def run(net, x):
        if is_packed:
            lengths = [1 + i % x.shape[1] for i in range(len(x))]
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return net.head(net.rnn(x)[0].data)
        return net.head(net.rnn(x)[0])

    net = Net(run, rnn=make_rnn(cell), head=linear())
    surgery, cut = surgery_of(net, (X,)), LayerReduction.keep_first(N_NODES, N_NODES // 2)
    small = surgery.build({"rnn.l0": cut})
    assert objection(surgery, small, cut) is None
    with torch.no_grad():
        small.rnn.weight_hh_l0[-1 - row] += 1e-3
    assert "takes other steps" in objection(surgery, small, cut)


def test_a_small_layer_that_starts_elsewhere_is_seen():
    def run(net, x):
        return net.head(net.rnn(x, net.start.expand(1, len(x), -1))[0])

    net = Net(run, head=linear(), start=nn.Parameter(torch.ones(N_NODES, dtype=torch.float64)))
    surgery, cut = surgery_of(net, X), LayerReduction.keep_first(N_NODES, N_NODES // 2)
    small = surgery.build({"rnn.l0": cut})
    assert objection(surgery, small, cut) is None
    swapped = replace(cut, support=cut.support.flip(0))
    with torch.no_grad():
        small.start[0] = 0.5
    assert "starts from other states" in objection(surgery, small, cut)
    assert swapped.support[0] != cut.support[0]


def test_a_fold_that_is_wrong_with_the_chosen_nodes_alone_is_found():
    """The plan is made on trial; the nodes that were chosen are compared once more."""

    class Peeking(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = make_rnn(), linear()

        def forward(self, x):
            states = self.rnn(x)[0]
            if states.shape[-1] == self.rnn.hidden_size == 4:  # not what is tried
                states = 2.0 * states
            return self.head(states)

    net = Peeking()
    with pytest.warns(UserWarning, match="'rnn.l0' remains a separate linear layer"):
        pruner = fitted(net, [(X,)], m=4)
    assert_same(pruner.pruned_module_(X), net.head(rebuilt(pruner, net.rnn, X)))


# What calibration leaves behind


class Stateful(nn.Module):
    """Goes on from where the last batch ended, counts, and normalizes."""

    def __init__(self):
        super().__init__()
        self.rnn, self.norm, self.head = make_rnn(), nn.BatchNorm1d(N_FEATURES).double(), linear()
        self.state, self.seen = None, []
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.count += len(x)
        self.seen.append(len(x))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        states, state = self.rnn(x, self.state)
        self.state = state.detach()
        return self.head(states)


KEEPS = "ignore:The hidden state of layer 'rnn.l0' has fewer nodes:UserWarning"


@pytest.mark.filterwarnings(KEEPS)
@pytest.mark.parametrize("params", [{}, {"distill": 2, "objective": "combined"}])
def test_nothing_is_left_of_calibration(params):
    net = Stateful().eval()
    given = {name: value.clone() for name, value in net.state_dict().items()}
    batches = [(X[:8],), (X[8:],), (X[8:12],)]
    params = {"likelihood": "gaussian", "random_state": 0} | params
    small = fitted(net, batches, **params).pruned_module_
    for module in (net, small):
        assert module.state is None
        assert module.seen == []
        for name, value in given.items():
            if "norm" in name or name == "count":
                assert torch.equal(module.state_dict()[name], value)


@pytest.mark.filterwarnings(KEEPS)
def test_every_batch_begins_anew():
    net = Stateful().eval()
    whole = SpectralRNNPruner(net, m=M, objective="one-step", n_refit=0, trajectory_fit=0).fit(
        np.asarray(X)
    )
    parts = fitted(Stateful().eval(), [(X,)])
    assert whole.moments_.n_steps == parts.moments_.n_steps
    small = fitted(net, [(X[:12],), (X[12:],)], m=1.0).pruned_module_
    assert_same(small(X), net(X))


# Other ways in


def test_a_state_of_the_old_size_that_calibration_did_not_give():
    class Streaming(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = make_rnn("lstm"), linear()

        def forward(self, x, state=None):
            return self.head(self.rnn(x, state)[0])

        def encode(self, x):
            return self.rnn(x)[0]

    net = Streaming()
    with pytest.warns(UserWarning, match=r"'rnn.l0' has fewer nodes.*encode\(\) calls the layer"):
        pruner = fitted(net, [(X,)])
    small, zero = pruner.pruned_module_, torch.zeros(1, len(X), N_NODES, dtype=torch.float64)
    expected = net.head(rebuilt(pruner, net.rnn, X))
    assert_same(small(X), expected)
    assert_same(small(X, (zero, zero)), expected)
    assert_same(small(X, [zero, zero]), expected)


def test_methods_that_forward_uses_are_not_warned_of():
    class Encoding(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = make_rnn(), linear()

        def forward(self, x):
            return self.head(self.encode(x))

        def encode(self, x):
            return self.rnn(x)[0]

    assert fitted(Encoding(), [(X,)]).pruned_module_.head.in_features == M


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_inputs_by_name_and_states_in_lists(cell):
    def run(net, x):
        zero = x.new_zeros(1, len(x), net.rnn.hidden_size)
        states = net.rnn(input=x, hx=[zero, zero] if cell == "lstm" else zero)[0]
        return net.head(input=states)

    net = Net(run, make_rnn(cell), head=linear())
    pruner = fitted(net, [(X,)], n_refit=100)
    assert pruner.pruned_module_.head.in_features == M
    assert_same(fitted(net, [(X,)]).pruned_module_(X), net.head(rebuilt(pruner, net.rnn, X)))


def test_cell_states_that_are_returned_are_rebuilt():
    net = Net(lambda net, x: net.rnn(x)[1], make_rnn("lstm"))
    with pytest.warns(UserWarning, match="is returned by forward"):
        pruner = fitted(net, [(X,)])
    h, c = pruner.pruned_module_(X)
    assert_same(h[0], rebuilt(pruner, net.rnn, X)[:, -1])
    lost = [node for node in range(N_NODES) if node not in pruner.support_]
    assert bool((c[..., lost] != 0.0).all())


def test_a_buffer_that_is_written_over_after_it_was_read():
    def run(net, x):
        states, final = net.rnn(x, net.start)
        net.start.copy_(final)
        return net.head(states)

    net = Net(run, head=linear())
    net.register_buffer("start", torch.zeros(1, len(X), N_NODES, dtype=torch.float64))
    pruner = fitted(net, [(X,)])
    small = pruner.pruned_module_
    assert not net.start.any()
    assert small.start.shape == (1, len(X), M)
    parts = [small(part) for part in X.split(2, dim=1)]
    assert_same(torch.cat(parts, 1), net.head(rebuilt(pruner, net.rnn, X)))


def test_autocast_within_forward():
    def run(net, x):
        with torch.autocast("cpu", torch.bfloat16):
            return net.head(net.rnn(x)[0]).float()

    rnn, x = make_rnn(dtype=torch.float32), X.float()
    small = fitted(Net(run, rnn, head=linear().float()), [(x,)]).pruned_module_
    assert small.head.in_features == M


def test_a_layer_that_runs_torch_by_its_name_is_told_to_call_super():
    class Named(nn.GRU):
        def forward(self, x, hx=None):
            return nn.GRU.forward(self, x, hx)

    net = Net(lambda net, x: net.head(net.rnn(x)[0]), Named(3, 7, batch_first=True).double())
    net.head = linear()
    with pytest.raises(ValueError, match=r"layer 'rnn' is a Named, whose forward runs.*super"):
        fitted(net, [(X,)])


# Questions, masks, chance


QUESTIONS = {
    "zeros_like": lambda states, h, c: torch.zeros_like(c) + torch.zeros_like(h),
    "isnan": lambda states, h, c: not torch.isnan(c).any() and torch.isfinite(states).all().item(),
    "type": lambda states, h, c: (
        c.is_complex(),
        states.is_floating_point(),
        states.dtype,
        c.shape,
    ),
    "repr": lambda states, h, c: c.new_zeros(c.shape),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_are_no_reading(question):
    def run(net, x):
        states, (h, c) = net.rnn(x)
        QUESTIONS[question](states, h, c)
        return net.head(states)

    small = fitted(Net(run, make_rnn("lstm"), head=linear()), [(X,)]).pruned_module_
    assert small.head.in_features == M


def policy(net, x, starts):
    lstm = isinstance(net.rnn, nn.LSTM)
    zero = x.new_zeros(1, len(x), N_NODES)
    state, outputs = ((zero, zero) if lstm else zero), []
    for t in range(x.shape[1]):
        keep = (1.0 - starts[:, t]).view(1, -1, 1)
        state = tuple(keep * each for each in state) if lstm else state * keep
        output, state = net.rnn(x[:, t : t + 1], state)
        outputs.append(output)
    return net.head(torch.cat(outputs, 1))


@pytest.mark.parametrize("cell", ["gru", "lstm", "tanh"])
def test_states_that_are_masked_go_back_to_their_layer(cell):
    net = Net(policy, make_rnn(cell), head=linear())
    starts = torch.as_tensor(np.random.default_rng(0).integers(0, 2, (24, 6))).double()
    pruner = fitted(net, [(X, starts)])
    small = pruner.pruned_module_
    assert small.head.in_features == M
    for row in range(4):  # a sequence that starts anew is one that begins there
        begins = [0, *(t for t in range(1, 6) if starts[row, t]), 6]
        for begin, end in pairwise(begins):
            part = X[row : row + 1, begin:end]
            found = small(X, starts)[row : row + 1, begin:end]
            assert_same(found, net.head(rebuilt(pruner, net.rnn, part)))


def zoneout(net, x):
    h = c = x.new_zeros(len(x), net.size or net.rnn.hidden_size)
    outputs = []
    for step in x.unbind(1):
        new_h, new_c = net.rnn(step, (h, c))
        h, c = 0.1 * h + 0.9 * new_h, torch.lerp(new_c, c, 0.2)
        outputs.append(h)
    return net.head(torch.stack(outputs, 1))


@may_stay
@pytest.mark.parametrize("size", [None, N_NODES])
def test_zoneout_is_pruned(size):
    cell = nn.LSTMCell(N_FEATURES, N_NODES, dtype=torch.float64)
    net = Net(zoneout, cell, head=linear(), size=size)
    small = fitted(net, [(X,)]).pruned_module_
    assert small.head.in_features == M
    assert small.size == (size and M)
    assert_same(fitted(net, [(X,)], m=1.0).pruned_module_(X), net(X))


def test_a_cell_state_that_is_read_is_refused_all_the_same():
    net = Net(lambda net, x: net.head(net.rnn(x)[1][1][0]), make_rnn("lstm"), head=linear())
    with pytest.raises(ValueError, match=r"cell state of layer 'rnn.l0' is read by linear"):
        fitted(net, [(X,)])


READS = {
    "sum": (lambda s, x: s.sum(1), lambda s, x: s.sum(1)),
    "masked mean": (
        lambda s, x: (s * (x[..., :1] > 0)).sum(1) / 6.0,
        lambda s, x: (s * (x[..., :1] > 0)).sum(1) / 6.0,
    ),
    "scaled": (lambda s, x: -2.0 * s, lambda s, x: -2.0 * s),
    "mixed": (
        lambda s, x: torch.where(x[..., :1] > 0, s, s.flip(1)),
        lambda s, x: torch.where(x[..., :1] > 0, s, s.flip(1)),
    ),
    "masked_fill": (
        lambda s, x: s.masked_fill(x[..., :1] > 0, 0.0),
        lambda s, x: s.masked_fill(x[..., :1] > 0, 0.0),
    ),
}


@may_stay
@pytest.mark.parametrize("kind", ["linear", "affine"])
@pytest.mark.parametrize("read", READS)
def test_what_is_linear_in_the_states_of_a_step_folds(read, kind):
    use, expected = READS[read]
    net = Net(lambda net, x: net.head(use(net.rnn(x)[0], x)), head=linear())
    pruner = fitted(net, [(X,)], reconstruction=kind)
    assert_same(pruner.pruned_module_(X), net.head(expected(rebuilt(pruner, net.rnn, X), X)))
    if kind == "linear":
        assert pruner.pruned_module_.head.in_features == M


@pytest.mark.parametrize("dropout", [F.dropout, F.alpha_dropout])
def test_a_forward_that_draws_folds(dropout):
    net = Net(lambda net, x: net.head(dropout(net.rnn(x)[0], 0.3, training=True)), head=linear())
    state = torch.get_rng_state()
    small = fitted(net, [(X,)]).pruned_module_
    assert small.head.in_features == M
    assert torch.equal(torch.get_rng_state(), state)


def test_random_numbers_of_every_kind_are_the_same_for_both():
    def run(net, x):
        noise = torch.randn(2).double() + random.random() + np.random.rand()  # noqa: NPY002
        return net.head(net.rnn(x)[0]) * noise

    assert fitted(Net(run, head=linear()), [(X,)]).pruned_module_.head.in_features == M


# Dtypes, sizes, numbers of sequences


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_layer_of_another_dtype(dtype):
    def run(net, x):
        states = net.rnn(net.enter(x).to(dtype))[0]
        return net.head(states.to(torch.float32))

    rnn = nn.GRU(N_NODES, 300, batch_first=True, dtype=dtype)
    net = Net(run, rnn, enter=nn.Linear(N_FEATURES, N_NODES), head=nn.Linear(300, 2)).eval()
    x = sequences(60, 20)
    for form in (x.numpy(), [(x.float(),)]):
        small = prune(net, form, m=150, objective="one-step", trajectory_fit=0)
        assert (small.head.in_features, small.rnn.weight_hh_l0.dtype) == (150, dtype)
        error = (small(x.float()) - net(x.float())).abs().max()
        assert error < 0.05


def test_states_in_low_precision_on_their_way():
    net = Net(lambda net, x: net.head(net.rnn(x)[0].to(torch.bfloat16)), make_rnn(n_nodes=300))
    net.rnn.float()
    net.head = nn.Linear(300, 2, dtype=torch.bfloat16)
    small = prune(
        net.eval(), [(sequences(60, 20).float(),)], m=150, objective="one-step", trajectory_fit=0
    )
    assert small.head.in_features == 150


def test_copies_that_fill_up_a_batch_are_counted_by_no_layer():
    """Words are run beside sentences; their layer sees other numbers of sequences."""

    def run(net, x):
        words = net.words(x.reshape(-1, 2, N_FEATURES))[1][-1]
        return net.head(net.rnn(words.reshape(len(x), -1, net.words.hidden_size))[0])

    net = Net(run, make_rnn(n_features=N_NODES), words=make_rnn(), head=linear()).eval()
    x = sequences(17)
    params = {"m": M, "objective": "one-step", "n_refit": 0}
    found = SpectralRNNPruner(net, **params, trajectory_fit=0).fit(np.asarray(x)).moments_
    assert (found["words.l0"].n_steps, found["rnn.l0"].n_steps) == (17 * 6, 17 * 3)
    expected = SpectralRNNPruner(net, **params, trajectory_fit=0).fit([(x,)]).moments_
    for name in found:
        np.testing.assert_allclose(found[name].products_, expected[name].products_, rtol=1e-12)


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (
            lambda net, x: net.head(net.rnn.forward(x)[0]),
            "run by their forward.. and not by a call",
        ),
        (lambda net, x: net.head(x.repeat(1, 1, 7)[..., :7]), "none of its recurrent layers runs"),
        (lambda net, x: net.head(net.rnn(x, net.start)[0]), "takes 24 sequences at a time and no"),
    ],
)
def test_errors_tell_what_was_seen(run, error):
    net = Net(run, head=linear()).eval()
    net.start = torch.zeros(1, 24, N_NODES, dtype=torch.float64)
    with pytest.raises(ValueError, match=error):
        prune(net, np.asarray(X), m=M, trajectory_fit=0)


def test_an_array_for_a_module_of_several_inputs_is_told_of_batches():
    class Packing(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = make_rnn(), linear()

        def forward(self, x, lengths):
            return self.head(self.rnn(x)[0])

    with pytest.raises(ValueError, match=r"takes \(x, lengths\).*each a tuple of all"):
        prune(Packing().eval(), np.asarray(X), m=M, trajectory_fit=0)


@may_stay
@pytest.mark.parametrize("wide", [False, True])
def test_a_layer_that_would_grow_keeps_all_nodes(wide):
    run = lambda net, x: net.head(net.rnn(x)[0].square())  # noqa: E731
    net = Net(run, make_rnn("tanh"), head=linear()).eval()
    params = {"m": N_NODES - 1 if wide else 1, "n_refit": 0, "objective": "one-step"}
    pruner = SpectralRNNPruner(net, **params, trajectory_fit=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pruner.fit([(X,)])
    told = [str(each.message) for each in caught if "would have more param" in str(each.message)]
    assert len(told) == wide
    assert pruner.m_ == (N_NODES if wide else 1)
    n_parameters = sum(p.numel() for p in net.parameters())
    assert (pruner.n_parameters_ == n_parameters) == wide
    assert pruner.n_parameters_ <= n_parameters
    assert_same(pruner.pruned_module_(X), net.head(rebuilt(pruner, net.rnn, X).square()))


class TrainingByHand(nn.Module):
    """Runs torch's layer in evaluation, and a loop of its own in training."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.rnn, self.head, self.scale = make_rnn("relu"), linear(), scale

    def forward(self, x):
        if not self.training:
            return self.head(self.rnn(x)[0][:, -1])
        rnn, state = self.rnn, x.new_zeros(len(x), self.rnn.weight_hh_l0.shape[1])
        for step in x.unbind(1):
            read = F.linear(step, rnn.weight_ih_l0, rnn.bias_ih_l0)
            state = (read + F.linear(state, rnn.weight_hh_l0, rnn.bias_hh_l0)).relu()
        return self.scale * self.head(state)


def test_a_recurrence_of_its_own_for_training_is_compared_with_evaluation():
    pruner = fitted(TrainingByHand(), [(X,)])
    small = pruner.pruned_module_
    with torch.no_grad():
        assert_same(small.train()(X), small.eval()(X))
    with pytest.raises(ValueError, match=r"'rnn\.l0' cannot be pruned"):
        fitted(TrainingByHand(scale=2.0), [(X,)])


class ReadingBothEnds(nn.Module):
    """Reads the last state of each direction by the ``hidden_size`` of the layer."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(
            N_FEATURES, N_NODES, 2, batch_first=True, bidirectional=True, dtype=torch.float64
        )
        self.head = linear(2, 2 * N_NODES)

    def forward(self, x):
        states, size = self.rnn(x)[0], self.rnn.hidden_size
        return self.head(torch.cat([states[:, -1, :size], states[:, 0, size:]], -1))


def test_separate_levels_tell_the_size_that_they_have():
    net = ReadingBothEnds().eval()
    surgery, cut = surgery_of(net, X), LayerReduction.keep_first(N_NODES, N_NODES // 2)
    small = surgery.build_checked(dict.fromkeys((layer.name for layer in surgery.layers), cut))
    assert small.rnn.hidden_size == N_NODES // 2
    with torch.no_grad():
        assert_same(small(X), merge_layers(small)(X))


def test_a_module_that_reads_separate_levels_in_another_way_is_refused(monkeypatch):
    monkeypatch.setattr(StackedRNN, "hidden_size", N_NODES)
    with pytest.raises(ValueError, match="while its levels are separate modules"):
        fitted(ReadingBothEnds(), [(X,)])
