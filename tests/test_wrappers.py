"""Small layers behind stand-ins go where the layers of torch go: script, trace, export, ONNX."""

import functools
import io
import warnings

import numpy as np
import pytest
import torch
from pairs import pairwise
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves

from skspectral import prune
from skspectral.rnn.runtime.inputs import SelectedCellInputs, SelectedInputs
from skspectral.rnn.runtime.stack import StackedRNN
from skspectral.rnn.runtime.wrappers import ExpandedCell, ExpandedRNN, InitialStateCell

N_INPUTS, N_NODES = 3, 8
KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SIZES = {
    "one level": {"rnn.l0": 4},
    "two levels": {"rnn.l0": 4, "rnn.l1": 4},
    "two sizes": {"rnn.l0": 5, "rnn.l1": 3},
    "two directions": {"rnn.l0": 5, "rnn.l0_reverse": 3},
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning"),
    # What torch says of its own layers.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The tensor attributes .* were assigned:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.* is deprecated"),
]


class Plain(nn.Module):
    """Reads the states of every step."""

    def __init__(self, kind, sizes, between):
        super().__init__()
        n_levels, both = len(sizes), "rnn.l0_reverse" in sizes
        options = {"num_layers": 1 if both else n_levels, "bidirectional": both}
        self.rnn = KINDS[kind](N_INPUTS, N_NODES, batch_first=True, **options)
        self.between, self.head = between, nn.Linear(N_NODES * (1 + both), 2)

    def forward(self, x: Tensor):
        return self.head(self.between(self.rnn(x)[0]))


class Given(Plain):
    """Starts from what it is given."""

    def forward(self, x: Tensor, h: Tensor):
        return self.head(self.between(self.rnn(x, h)[0]))


class GivenPair(Plain):
    def forward(self, x: Tensor, h: Tensor, c: Tensor):
        return self.head(self.between(self.rnn(x, (h, c))[0]))


class Stream(Plain):
    """Gives back where to go on from."""

    def forward(self, x: Tensor, h: Tensor):
        states, h = self.rnn(x, h)
        return self.head(self.between(states)), h


class StreamOfPairs(Plain):
    def forward(self, x: Tensor, h: Tensor, c: Tensor):
        states, (h, c) = self.rnn(x, (h, c))
        return self.head(self.between(states)), h, c


class Packs(Plain):
    """Packs what it reads."""

    def forward(self, x: Tensor, lengths: Tensor):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(self.between(states))


NETS = {"plain": (Plain, Plain), "given": (Given, GivenPair), "stream": (Stream, StreamOfPairs)}


def arguments(kind, net, sizes, n=4, n_steps=6):
    """What ``forward`` takes."""
    x = torch.randn(n, n_steps, N_INPUTS)
    if net is Packs:
        return x, 1 + torch.randperm(n_steps)[:n].sort(descending=True).values
    n_states = 0 if net is Plain else 1 + (kind == "lstm")
    return x, *(torch.randn(len(sizes), n, N_NODES) for _ in range(n_states))


@functools.cache
def smaller(kind, levels, name, folds):
    """A pruned module, and what gives arguments for it."""
    torch.manual_seed(0)
    sizes = SIZES[levels]
    net = Packs if name == "packs" else NETS[name][kind == "lstm"]
    dense = net(kind, sizes, nn.Identity() if folds else nn.ReLU()).eval()
    make = functools.partial(arguments, kind, net, sizes)
    return prune(dense, [make(8) for _ in range(4)], m=sizes, trajectory_fit=0), make


def scripted(module, args):
    return torch.jit.script(module)


def traced(module, args):
    return torch.jit.trace(module, args)


def exported(module, args):
    return torch.export.export(module, args).module()


def onnx(module, args, dynamo):
    """What an ONNX runtime makes of it."""
    for name in ("onnx", *["onnxscript"] * dynamo):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    file = io.BytesIO()
    with warnings.catch_warnings():  # of what the exporters themselves use
        warnings.simplefilter("ignore")
        target = None if dynamo else file
        program = torch.onnx.export(module, args, target, dynamo=dynamo, verbose=False)
    if dynamo:
        program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    names = [each.name for each in session.get_inputs()]

    def run(*args):
        given = {name: each.numpy() for name, each in zip(names, args, strict=True)}
        return [torch.from_numpy(each) for each in session.run(None, given)]

    return run


ROUTES = {
    "script": scripted,
    "trace": traced,
    "export": exported,
    "onnx": functools.partial(onnx, dynamo=False),
    "new onnx": functools.partial(onnx, dynamo=True),
}


@torch.no_grad()
def assert_goes(module, make, route):
    """The module answers the same by another route, and may for batches of other sizes."""
    args = make(4)
    there = ROUTES[route](module, args)
    for given in (args, *([make(7, 9)] if route in ("script", "trace") else [])):
        found, wanted = tree_leaves(there(*given)), tree_leaves(module(*given))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


every_kind = pytest.mark.parametrize("kind", ["gru", "lstm"])
READS = [("plain", True), ("plain", False), ("given", True), ("given", False), ("stream", False)]


@pytest.mark.parametrize("route", ["script", "trace"])
@pairwise(kind=["gru", "lstm"], levels=["one level", "two sizes", "two directions"], read=READS)
def test_a_pruned_module_goes_where_the_dense_one_goes(kind, levels, read, route):
    assert_goes(*smaller(kind, levels, *read), route)


@pytest.mark.parametrize("route", ["script", "trace", "export"])
def test_so_does_one_without_gates(route):
    assert_goes(*smaller("rnn", "two sizes", "stream", False), route)


@pytest.mark.parametrize(("name", "folds"), READS)
@every_kind
def test_a_pruned_module_can_be_exported(kind, name, folds):
    assert_goes(*smaller(kind, "two sizes", name, folds), "export")


@pairwise(kind=["gru", "lstm"], levels=["one level", "two sizes"], read=READS)
def test_a_pruned_module_goes_to_onnx(kind, levels, read):
    assert_goes(*smaller(kind, levels, *read), "onnx")


@pytest.mark.parametrize(
    ("kind", "levels", "name", "folds"),
    [("lstm", "one level", "stream", False), ("gru", "two sizes", "given", True)],
)
def test_the_new_exporter_takes_it_to_onnx_too(kind, levels, name, folds):
    assert_goes(*smaller(kind, levels, name, folds), "new onnx")


@pairwise(kind=["gru", "lstm"], levels=SIZES, folds=[True, False])
def test_packed_sequences_are_scripted(kind, levels, folds):
    assert_goes(*smaller(kind, levels, "packs", folds), "script")


# Cells


class Loop(nn.Module):
    """Runs a cell step by step."""

    def __init__(self, cell, between):
        super().__init__()
        self.cell, self.between, self.head = cell, between, nn.Linear(N_NODES, 2)

    def forward(self, x: Tensor, h: Tensor):
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(self.between(h))


class LoopOfPairs(Loop):
    def forward(self, x: Tensor, h: Tensor):
        c = h
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.head(self.between(h))


CELLS = {"rnn": (nn.RNNCell, Loop), "gru": (nn.GRUCell, Loop), "lstm": (nn.LSTMCell, LoopOfPairs)}


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_scripted_and_traced(kind, folds):
    torch.manual_seed(0)
    cell, loop = CELLS[kind]
    dense = loop(cell(N_INPUTS, N_NODES), nn.Identity() if folds else nn.ReLU()).eval()

    def make(n=4, n_steps=6):
        return torch.randn(n, n_steps, N_INPUTS), torch.randn(n, N_NODES)

    small = prune(dense, [make(8) for _ in range(4)], m=4, trajectory_fit=0)
    assert type(small.cell) is (InitialStateCell if folds else ExpandedCell)
    assert_goes(small, make, "script")
    assert_goes(small, lambda n, n_steps=6: make(n), "trace")


# Inputs


@pytest.mark.parametrize("cell", [False, True])
@every_kind
def test_layers_that_select_inputs_are_scripted_and_traced(kind, cell):
    torch.manual_seed(0)
    inner = CELLS[kind][0](2, N_NODES) if cell else KINDS[kind](2, N_NODES, batch_first=True)
    selected = (SelectedCellInputs if cell else SelectedInputs)(inner, torch.tensor([2, 0]), 3)
    net = CELLS[kind][1] if cell else NETS["given"][kind == "lstm"]
    if cell:
        net = net(selected, nn.Identity())
    else:
        net = net(kind, ["rnn.l0"], nn.Identity())
        net.rnn = selected

    def make(n, n_steps=6):
        if cell:
            return torch.randn(n, 6, N_INPUTS), torch.randn(n, N_NODES)
        return arguments(kind, type(net), ["rnn.l0"], n, n_steps)

    for route in ("script", "trace"):
        assert_goes(net.eval(), make, route)


# What wrappers show


def wrapped(kind, *, is_apart=False):
    """A layer of four nodes that shows eight, with maps that are far from the kept nodes."""
    torch.manual_seed(0)
    support = torch.tensor([1, 3, 4, 6])
    rnn = KINDS[kind](N_INPUTS, 4, batch_first=True)
    part = ExpandedRNN(rnn, [support], [nn.Linear(4, N_NODES)], [], N_NODES)
    if is_apart:
        part.set_apart()
    return part, support


@every_kind
def test_states_to_go_on_from_go_on(kind):
    part, _ = wrapped(kind, is_apart=True)
    x = torch.randn(2, 7, N_INPUTS)
    whole, final = part(x)
    first, state = part(x[:, :3])
    rest, last = part(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    for one, other in zip(tree_leaves(last), tree_leaves(final), strict=True):
        torch.testing.assert_close(one, other)


@every_kind
def test_other_nodes_of_last_states_are_rebuilt_as_those_put_out(kind):
    part, support = wrapped(kind, is_apart=True)
    output, final = part(torch.randn(2, 7, N_INPUTS))
    h = final[0] if kind == "lstm" else final
    others = np.setdiff1d(np.arange(N_NODES), support)
    torch.testing.assert_close(h[0][:, others], output[:, -1, others])
    assert not torch.allclose(h[0][:, support], output[:, -1, support])
    part.is_apart = False
    unchanged = part(torch.zeros(2, 7, N_INPUTS))
    torch.testing.assert_close(tree_leaves(unchanged)[1][0], unchanged[0][:, -1])


def test_nothing_is_known_of_cell_states_but_the_kept_ones():
    part, support = wrapped("lstm")
    _, (_, cells) = part(torch.randn(2, 7, N_INPUTS))
    others = np.setdiff1d(np.arange(N_NODES), support)
    assert (cells[..., others] == 0.0).all()
    assert (cells[..., support] != 0.0).all()


def test_states_of_smaller_layers_may_be_filled_up():
    module, _ = smaller("gru", "two sizes", "plain", True)
    assert isinstance(module.rnn, StackedRNN)
    x, h = torch.randn(4, 6, N_INPUTS), (torch.randn(4, 5), torch.randn(4, 3))
    filled = torch.stack([h[0], nn.functional.pad(h[1], (0, 2))])
    torch.testing.assert_close(module.rnn(x, filled)[0], module.rnn(x, h)[0])
    with pytest.raises(RuntimeError, match="hidden"):
        module.rnn(x, torch.randn(2, 4, N_NODES))


def test_a_wrapper_shows_what_its_layer_has():
    part, support = wrapped("gru")
    for name in ("mode", "num_layers", "batch_first", "dropout", "weight_hh_l0"):
        assert getattr(part, name) is getattr(part.rnn, name), name
    assert (part.hidden_size, part.rnn.hidden_size) == (N_NODES, len(support))
    with pytest.raises(AttributeError, match="nothing"):
        part.nothing  # noqa: B018


# Parameters


class Reads(Plain):
    """Reads outputs, or the last states."""

    def __init__(self, kind, sizes, what):
        super().__init__(kind, sizes, nn.LayerNorm(N_NODES * (1 + ("rnn.l0_reverse" in sizes))))
        self.what = what

    def forward(self, x):
        states, final = self.rnn(x)
        if self.what == "outputs":
            return self.head(self.between(states))
        h = final[0] if isinstance(final, tuple) else final
        h = torch.cat([h[-2], h[-1]], -1) if self.rnn.bidirectional else h[-1]
        return self.head(self.between(h))


@pairwise(
    kind=["gru", "lstm"],
    levels=["one level", "two levels", "two directions"],
    what=["outputs", "last states"],
)
def test_no_parameter_is_without_use(kind, levels, what):
    torch.manual_seed(0)
    sizes = dict.fromkeys(SIZES[levels], 4)
    dense, x = Reads(kind, sizes, what).eval(), torch.randn(40, 7, N_INPUTS)
    for net in (dense, prune(dense, x, m=4, trajectory_fit=0)):
        net(x).square().sum().backward()
        assert [name for name, each in net.named_parameters() if each.grad is None] == []
