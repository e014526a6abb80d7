"""Compare folded modules with the given one, run with its states replaced by rebuilt ones."""

import copy
from types import SimpleNamespace

import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, make_rnn
from oracles import fold, layer_weights, run_cell
from test_paths import M, X, assert_same, linear
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from skspectral import SpectralRNNPruner
from skspectral.rnn.runtime.wrappers import Expanded

D = N_NODES


class Replaced(nn.Module):
    """Stands for a layer, and gives states that are known already."""

    def __init__(self, like, *output):
        super().__init__()
        self.output, self.hidden_size = output, like.hidden_size

    def forward(self, *_args):
        return self.output


class Net(nn.Module):
    """A layer that is read in some way, with parts for it."""

    def __init__(self, read, rnn, **parts):
        super().__init__()
        self.read, self.rnn, self.hidden_size = read, rnn, rnn.hidden_size
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        states, last = self.rnn(x)
        return self.read(self, x, states, last[0] if isinstance(last, tuple) else last)


def rebuilt(pruner, rnn, x):
    """States of every direction by the small recurrence, rebuilt, and the last ones."""
    states, last = [], []
    suffixes = ("", "_reverse")[: 1 + rnn.bidirectional]
    for layer, suffix in zip(pruner.layers_.values(), suffixes, strict=True):
        wide = make_rnn(n_nodes=rnn.hidden_size)
        names = [f"{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        wide = copy.deepcopy(rnn) if not rnn.bidirectional else one_way(rnn, suffix, names)
        J, A, c = layer.support.tolist(), layer.reconstruction, layer.intercept
        turned = x.flip(1) if suffix else x
        weights = fold(rnn.mode, layer_weights(wide), J, A, c)
        own = torch.as_tensor(run_cell(rnn.mode, weights, turned.numpy()) @ A.T + c)
        last.append(own[:, -1])
        states.append(own.flip(1) if suffix else own)
    return torch.cat(states, -1), torch.stack(last)


def one_way(rnn, suffix, names):
    """One direction of a layer as a layer."""
    one = type(rnn)(rnn.input_size, rnn.hidden_size, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name in names:
            one.get_parameter(name).copy_(rnn.get_parameter(name + suffix))
    return one


def pruned(net, **params):
    params = {"m": M, "objective": "one-step", "n_refit": 0, "trajectory_fit": 0} | params
    return SpectralRNNPruner(net.eval(), **params).fit([(X,)])


def judged(net, **params):
    """Prune a network and compare it with itself where its states are replaced."""
    before = copy.deepcopy(net.eval())
    pruner = pruned(net, **params)
    given = copy.deepcopy(before)
    given.rnn = Replaced(net.rnn, *rebuilt(pruner, net.rnn, X))
    with torch.no_grad():
        assert_same(pruner.pruned_module_(X), given(X))
        assert_same(net(X), before(X))
    return pruner


def weight(*shape):
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


def norm():
    found = nn.BatchNorm1d(D, dtype=torch.float64)
    with torch.no_grad():
        for each, least in (
            (found.running_mean, -1.0),
            (found.running_var, 0.5),
            (found.weight, 0.5),
            (found.bias, -1.0),
        ):
            each.uniform_(least, 2.0)
    return found


def conv(width, **options):
    return nn.Conv1d(D, 3, width, dtype=torch.float64, **options)


def written(net, x, s, h):
    found = torch.zeros_like(s)
    for step in range(s.shape[1]):
        found[:, step] = s[:, step]
    return net.head(found)


def set_to_zero(net, x, s, h):
    s[:, 0] = 0.0
    return net.head(s)


def contexts(net, x, s, h):
    """Reads a context of zeros at the first step, and averages of the states after that."""
    context, found = torch.zeros_like(s[:, 0]), []
    for step in range(3):
        found.append(net.wide(torch.cat([x[:, step], context], -1)))
        context = (s * x[:, step, None, :1]).sum(1)
    return torch.stack(found, 1)


STATISTICS = {"affine": True, "track_running_stats": True}


def score(net, s):
    return net.score(s).softmax(1)


def index(s, width):
    return torch.full((len(s), 1, 1), 2).expand(-1, 1, width)


HEAD = {"head": linear}
SCORED = HEAD | {"score": lambda: linear(1)}
FOLDS = {
    "attention by a sum": (lambda n, x, s, h: n.head((score(n, s) * s).sum(1)), SCORED),
    "attention by bmm": (
        lambda n, x, s, h: n.head(torch.bmm(score(n, s).mT, s).squeeze(1)),
        SCORED,
    ),
    "attention by einsum": (
        lambda n, x, s, h: n.head(torch.einsum("bt,bth->bh", score(n, s)[..., 0], s)),
        SCORED,
    ),
    "attention by a parameter": (
        lambda n, x, s, h: n.head((((s @ n.own)[..., 0]).softmax(1)[..., None] * s).sum(1)),
        HEAD | {"own": lambda: weight(D, 1)},
    ),
    "mask": (lambda n, x, s, h: n.head(s * (x[..., :1] > 0)), HEAD),
    "masked mean": (
        lambda n, x, s, h: n.head((s * (x[..., :1] > 0)).sum(1) / (x[..., :1] > -9).sum(1)),
        HEAD,
    ),
    "masked_fill": (lambda n, x, s, h: n.head(s.masked_fill(x[..., :1] < 0, 0.0)), HEAD),
    "where": (lambda n, x, s, h: n.head(torch.where(x[..., :1] < 0, s, s.flip(1))), HEAD),
    "mean of all steps": (lambda n, x, s, h: n.head(F.adaptive_avg_pool1d(s.mT, 1)[..., 0]), HEAD),
    "means of some steps": (lambda n, x, s, h: n.head(F.avg_pool1d(s.mT, 2).mT), HEAD),
    "running sum": (lambda n, x, s, h: n.head(s.cumsum(1)), HEAD),
    "differences": (lambda n, x, s, h: n.head(s.diff(dim=1)), HEAD),
    "interpolated": (
        lambda n, x, s, h: n.head(F.interpolate(s.mT, 9, mode="linear").mT),
        HEAD,
    ),
    "rolled": (lambda n, x, s, h: n.head(s.roll(1, 1)), HEAD),
    "residual of the same layer": (lambda n, x, s, h: n.head(s[:, -1] + s.mean(1)), HEAD),
    "scaled in place": (lambda n, x, s, h: n.head(s.mul_(3.0)), HEAD),
    "shifted by a number": (lambda n, x, s, h: n.head(s + 1.0), HEAD),
    "written step by step": (written, HEAD),
    "gather of the states' size": (
        lambda n, x, s, h: n.head(s.gather(1, index(s, s.shape[-1])).squeeze(1)),
        HEAD,
    ),
    "gather of a written size": (
        lambda n, x, s, h: n.head(s.gather(1, index(s, n.hidden_size)).squeeze(1)),
        HEAD,
    ),
    "convolution": (lambda n, x, s, h: n.conv(s.mT), {"conv": lambda: conv(1)}),
    "wide convolution": (lambda n, x, s, h: n.conv(s.mT), {"conv": lambda: conv(3, padding=1)}),
    "dilated convolution": (
        lambda n, x, s, h: n.conv(s.mT).relu(),
        {"conv": lambda: conv(2, dilation=2, bias=False)},
    ),
    "product with a parameter": (lambda n, x, s, h: s @ n.own, {"own": lambda: weight(D, 3)}),
    "linear of a parameter": (
        lambda n, x, s, h: F.linear(s, n.own.T),
        {"own": lambda: weight(D, 3)},
    ),
    "einsum of a parameter": (
        lambda n, x, s, h: torch.einsum("bth,hk->btk", s, n.own),
        {"own": lambda: weight(D, 3)},
    ),
    "bilinear in other inputs": (
        lambda n, x, s, h: torch.einsum("bth,hfk,btf->btk", s, n.own, x),
        {"own": lambda: weight(D, N_FEATURES, 2)},
    ),
    "buffer": (lambda n, x, s, h: s @ n.own, {"own": lambda: nn.Buffer(weight(D, 3).detach())}),
    "normalized": (lambda n, x, s, h: n.head(n.norm(s.mT).mT), HEAD | {"norm": norm}),
    "mean of normalized": (
        lambda n, x, s, h: n.head(n.norm(s.mT).mean(-1)),
        HEAD | {"norm": norm},
    ),
    "normalized sums": (lambda n, x, s, h: n.head(n.norm(s.sum(1))), HEAD | {"norm": norm}),
    "factor and summand of every node": (
        lambda n, x, s, h: n.head(n.gain * s + n.own),
        HEAD | {"gain": lambda: weight(D), "own": lambda: weight(D)},
    ),
    "all steps at once": (
        lambda n, x, s, h: n.head(s.flatten(1)),
        {"head": lambda: linear(2, D * X.shape[1])},
    ),
    "a written size for new states": (
        lambda n, x, s, h: n.head(torch.cat([x.new_zeros(len(x), 1, n.hidden_size), s], 1)),
        HEAD,
    ),
    "where, with zeros": (
        lambda n, x, s, h: n.head(torch.where(x[..., :1] > 0, s, torch.zeros_like(s))),
        HEAD,
    ),
    "zeros before the first states": (
        contexts,
        {"wide": lambda: linear(2, N_FEATURES + D)},
    ),
    "a step set to zero": (set_to_zero, HEAD),
    "normalized after padding": (
        lambda n, x, s, h: n.head(n.norm(F.pad(s.mT, (2, 0))).mT),
        HEAD | {"norm": norm},
    ),
    "normalized by fresh statistics": (
        lambda n, x, s, h: n.head(n.norm(s.mT).mT),
        HEAD | {"norm": lambda: nn.BatchNorm1d(D, dtype=torch.float64)},
    ),
    "normalized by instance": (
        lambda n, x, s, h: n.head(n.norm(s.mT).mT),
        HEAD | {"norm": lambda: nn.InstanceNorm1d(D, dtype=torch.float64, **STATISTICS)},
    ),
    "gate of a parameter": (
        lambda n, x, s, h: n.head(s * torch.sigmoid(n.own)),
        HEAD | {"own": lambda: weight(D)},
    ),
    "size in a configuration": (
        lambda n, x, s, h: n.head(s.reshape(-1, n.config.hidden_size)),
        HEAD | {"config": lambda: SimpleNamespace(hidden_size=D)},
    ),
    "mask of the states' dtype": (
        lambda n, x, s, h: n.head(s * (x[..., :1] > 0).type_as(s)) + (x[:, :1, :1] > 0).to(s),
        HEAD,
    ),
    "mean of everything": (lambda n, x, s, h: n.head(s.mean((0, 1))), HEAD),
    "product with a vector": (lambda n, x, s, h: s @ n.own, {"own": lambda: weight(D)}),
    "some sequences": (
        lambda n, x, s, h: n.head(s.masked_select(x[..., :1] > 0).view(-1, s.shape[-1])),
        HEAD,
    ),
    "last state returned": (lambda n, x, s, h: (n.head(s), n.head(h[0])), HEAD),
}


@pytest.mark.parametrize(
    ("name", "cell"), [(name, list(CELLS)[i % len(CELLS)]) for i, name in enumerate(FOLDS)]
)
def test_what_acts_on_all_nodes_alike_folds(name, cell):
    read, parts = FOLDS[name]
    torch.manual_seed(0)
    net = Net(read, make_rnn(cell), **{part: make() for part, make in parts.items()})
    small = judged(net).pruned_module_
    assert not any(isinstance(part, Expanded) for part in small.modules())
    assert type(small.rnn) is type(net.rnn)
    assert_same(pruned(net, m=1.0).pruned_module_(X), net(X))


BOTH = {
    "slices by a written size": (
        lambda n, x, s, h: n.head(
            torch.cat([s[:, -1, : n.hidden_size], s[:, 0, n.hidden_size :]], 1)
        ),
        {"head": lambda: linear(2, 2 * D)},
    ),
    "view by a written size": (
        lambda n, x, s, h: n.head(s.view(*s.shape[:2], 2, n.hidden_size)[:, -1].flatten(1)),
        {"head": lambda: linear(2, 2 * D)},
    ),
    "sum of directions": (lambda n, x, s, h: n.head(sum(s.chunk(2, -1))), HEAD),
    "sum of a view": (lambda n, x, s, h: n.head(s.view(*s.shape[:2], 2, -1).sum(2)), HEAD),
    "mean of the last states": (lambda n, x, s, h: n.head(h.mean(0)), HEAD),
    "normalized sum of directions": (
        lambda n, x, s, h: n.head(n.norm(sum(s.chunk(2, -1)).mT).mT),
        HEAD | {"norm": norm},
    ),
    "weighted sum of directions": (
        lambda n, x, s, h: (
            n.head(s[..., :D] - 2.0 * s[..., D:])
            if n.hidden_size == D
            else n.head(s[..., : n.hidden_size] - 2.0 * s[..., n.hidden_size :])
        ),
        HEAD,
    ),
}


@pytest.mark.parametrize("fit", [0, 20])
@pytest.mark.parametrize("name", BOTH)
def test_both_directions_fold(name, fit):
    read, parts = BOTH[name]
    torch.manual_seed(0)
    rnn = make_rnn("lstm", bidirectional=True)
    net = Net(read, rnn, **{part: make() for part, make in parts.items()})
    small = judged(net).pruned_module_
    assert small.rnn.hidden_size == M
    assert not any(isinstance(part, Expanded) for part in small.modules())
    pruner = pruned(net, trajectory_fit=fit, n_refit=fit)
    assert pruner.n_parameters_ == sum(each.numel() for each in small.parameters())
    if "sum of" in name or "mean of" in name:
        one, other = pruner.support_.values()
        assert one.tolist() == other.tolist()


STAYS = {
    "max": (lambda n, x, s, h: n.head(s.max(1).values), "linear map in front of it"),
    "relu": (lambda n, x, s, h: n.head(s.relu()), "linear map in front of it"),
    "clamp": (lambda n, x, s, h: n.head(s.clamp(max=20.0)), "linear map in front of it"),
    "hardshrink": (lambda n, x, s, h: n.head(F.hardshrink(s, 0.01)), "linear map in front of it"),
    "layer_norm": (lambda n, x, s, h: n.head(n.norm(s)), "divides by the spread of all nodes"),
    "matmul": (lambda n, x, s, h: s @ s.mT, "a product of states needs a matrix between them"),
}


def padded(states):
    packed = pack_padded_sequence(states, [X.shape[1]] * len(X), batch_first=True)
    return pad_packed_sequence(packed, batch_first=True, padding_value=-1.0)[0]


ALWAYS = X[..., :1] > -99.0
HIDDEN = {
    "masked_fill": lambda n, x, s, h: n.head(s.masked_fill(~ALWAYS, -1.0)),
    "where": lambda n, x, s, h: n.head(torch.where(ALWAYS, s, 2.0)),
    "pad_packed_sequence": lambda n, x, s, h: n.head(padded(s)),
    "__setitem__": lambda n, x, s, h: (s.__setitem__(~ALWAYS[..., 0], -1.0), n.head(s))[1],
    "add": lambda n, x, s, h: n.head(s + 0.0 * x[..., :1]),
    "relu": lambda n, x, s, h: (n.head(s), s[~ALWAYS[..., 0]].relu())[0],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_does_nothing_on_x_is_not_taken_for_nothing(name):
    net = Net(HIDDEN[name], make_rnn(), head=linear())
    with pytest.warns(UserWarning, match=f"is used by {name}"):
        pruner = pruned(net)
    assert pruner.pruned_module_.head.in_features == D


@pytest.mark.parametrize("name", ["masked_fill", "where", "__setitem__"])
def test_a_mask_that_hides_nothing_on_x_keeps_constants_apart(name):
    reads = {
        "masked_fill": lambda n, x, s, h: n.head(s.masked_fill(~ALWAYS, 0.0)),
        "where": lambda n, x, s, h: n.head(torch.where(ALWAYS, s, 0.0)),
        "__setitem__": lambda n, x, s, h: (s.__setitem__(~ALWAYS[..., 0], 0.0), n.head(s))[1],
    }
    net = Net(reads[name], make_rnn(), head=linear())
    assert pruned(net).pruned_module_.head.in_features == M
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        judged(net, reconstruction="affine")


def test_large_numbers_of_a_mask_hide_no_error():
    def read(net, x, s, h):
        return (net.head(s) * s.shape[-1]).masked_fill(x[..., :1] > 0, -1e9)

    net = Net(read, make_rnn(), head=linear())
    with pytest.warns(UserWarning, match="leads to other outputs"):
        judged(net)


def test_a_buffer_that_is_not_saved_is_no_reader():
    net = Net(lambda n, x, s, h: s @ n.own, make_rnn())
    net.register_buffer("own", torch.randn(D, 2, dtype=torch.float64), persistent=False)
    with pytest.warns(UserWarning, match="is read by the buffer 'own', which is not saved"):
        judged(net)


@pytest.mark.parametrize("name", STAYS)
def test_what_does_not_fold_is_told_with_its_line(name):
    read, advice = STAYS[name]
    parts = {"head": linear(), "norm": nn.LayerNorm(D, dtype=torch.float64)}
    net = Net(read, make_rnn(), **{k: v for k, v in parts.items() if k in read.__code__.co_names})
    line = read.__code__.co_firstlineno
    with pytest.warns(
        UserWarning, match=rf"is used by {name} \(test_folding.py, line {line}.*{advice}"
    ):
        pruner = judged(net)
    assert f"stays: is used by {name}" in pruner.summary()


def test_the_line_of_a_part_of_torch_is_that_which_calls_it():
    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = make_rnn(), nn.Sequential(nn.Tanh(), linear())

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    with pytest.warns(UserWarning, match=r"is used by tanh \(.*: return self.head\("):
        pruned(Chain())


def test_batch_normalization_is_compared_as_in_evaluation():
    net = Net(lambda n, x, s, h: n.head(n.norm(s.mT).mT), make_rnn(), head=linear(), norm=norm())
    before = copy.deepcopy(net.norm.state_dict())
    small = judged(net).pruned_module_
    assert small.norm.num_features == M
    assert small.head.in_features == M
    for name, value in net.norm.state_dict().items():
        assert torch.equal(value, before[name])
    assert small.train()(X).isfinite().all()


def test_an_attribute_that_happens_to_have_the_size_stays():
    """The size has to change for one function; that of the classes only looks like it."""

    def read(net, x, s, h):
        return net.head(s.reshape(-1, net.hidden_size))

    net = Net(read, make_rnn(), head=linear(D), n_classes=D)
    small = judged(net).pruned_module_
    assert (small.hidden_size, small.n_classes) == (M, D)


def test_layers_that_are_added_up_are_fitted_with_one_reconstruction():
    net = Net(lambda n, x, s, h: n.head(sum(s.chunk(2, -1))), make_rnn("gru", bidirectional=True))
    net.head = linear()
    pruner = pruned(net, trajectory_fit=30)
    assert all(min(losses) < losses[0] for losses in pruner.trajectory_history_.values())
    small = pruner.pruned_module_
    assert small.rnn.hidden_size == small.head.in_features == M
    error, plain = (
        (each(X) - net(X)).square().mean() for each in (small, pruned(net).pruned_module_)
    )
    assert error < plain


def test_counts_that_differ_keep_layers_apart_that_are_added_up():
    net = Net(lambda n, x, s, h: n.head(sum(s.chunk(2, -1))), make_rnn("gru", bidirectional=True))
    net.head = linear()
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        pruner = judged(net, m={"rnn.l0": 2, "rnn.l0_reverse": 3})
    assert [len(each) for each in pruner.support_.values()] == [2, 3]
