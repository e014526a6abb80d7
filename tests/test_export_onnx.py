"""Exported files give the outputs of torch, in all sizes that they allow."""

import json
import sys

import numpy as np
import pytest
import torch
from pairs import pairwise
from torch import nn
from torch.utils._pytree import tree_leaves

import skspectral
from skspectral import SpectralRNNPruner, export_onnx, prune
from skspectral.export.export_onnx import relative_error
from skspectral.rnn.runtime.stack import StackedRNN
from skspectral.rnn.runtime.wrappers import ExpandedRNN, InitialStateRNN

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
N_INPUTS, N_NODES = 3, 8
X = torch.zeros(4, 2, N_INPUTS) + torch.arange(4.0)[:, None, None]

pytestmark = pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning")


class Net(nn.Module):
    """Reads the states of every step."""

    def __init__(self, kind="gru", between=None, **options):
        super().__init__()
        self.rnn = KINDS[kind](N_INPUTS, N_NODES, **{"batch_first": True} | options)
        self.between = between or nn.Identity()
        self.head = nn.Linear(N_NODES * (1 + self.rnn.bidirectional), 2)

    def forward(self, x, state=None):
        return self.head(self.between(self.rnn(x, state)[0]))


class Stream(Net):
    """Returns where to go on from, too."""

    def forward(self, x, state=None):
        states, state = self.rnn(x, state)
        return self.head(self.between(states)), state


class Loop(nn.Module):
    """Runs a cell step by step."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(N_NODES, 2)

    def forward(self, x, h):
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


def small(net, m=4, **options):
    """A pruned module."""
    return prune(net, torch.randn(40, 6, N_INPUTS), m=m, trajectory_fit=0, **options)


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def metadata_of(path):
    props = {each.key: each.value for each in onnx.load(path).metadata_props}
    return {key.removeprefix("skspectral."): json.loads(value) for key, value in props.items()}


def operators(path):
    return {each.op_type for each in onnx.load(path).graph.node}


@torch.no_grad()
def assert_same(path, module, *args):
    """The file answers as torch does."""
    session = session_of(path)
    given = dict(zip([each.name for each in session.get_inputs()], tree_leaves(args), strict=True))
    found = session.run(None, {name: each.numpy() for name, each in given.items()})
    for one, other in zip(found, tree_leaves(module.eval()(*args)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pairwise(kind=KINDS, batch_first=[True, False], n_levels=[1, 2], bare=[True, False])
def test_states_fed_back_give_the_whole_run(tmp_path, kind, batch_first, n_levels, bare):
    net = Stream(kind, num_layers=n_levels, batch_first=batch_first)
    module = small(net.rnn if bare else net)
    n_nodes, first = 4, "input" if bare else "x"
    time = int(batch_first)
    state = torch.zeros(n_levels, 2, n_nodes)
    x = torch.randn((2, 5, N_INPUTS) if batch_first else (5, 2, N_INPUTS))
    example = x, (state, state) if kind == "lstm" else state
    path = export_onnx(module, example, tmp_path / "small.onnx")
    session, pairs = session_of(path), metadata_of(path)["states"]
    assert len(pairs) == 1 + (kind == "lstm")
    names = [each.name for each in session.get_outputs()]
    x = torch.randn((3, 11, N_INPUTS) if batch_first else (11, 3, N_INPUTS))
    states = {name: np.zeros((n_levels, 3, n_nodes), np.float32) for name in pairs}
    outputs = []
    for chunk in x.split(4, time):
        found = dict(zip(names, session.run(None, {first: chunk.numpy(), **states}), strict=True))
        states = {name: found[new] for name, new in pairs.items()}
        outputs.append(found["output"])
    with torch.no_grad():
        whole, last = module(x)
    np.testing.assert_allclose(np.concatenate(outputs, time), whole, rtol=1e-4, atol=1e-5)
    for one, other in zip(states.values(), tree_leaves(last), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert kind.upper() in operators(path)


SIZES = {
    "one level": ({}, {"rnn.l0": 4}),
    "two levels": ({"num_layers": 2}, {"rnn.l0": 4, "rnn.l1": 4}),
    "two sizes": ({"num_layers": 2}, {"rnn.l0": 5, "rnn.l1": 3}),
    "two directions": ({"bidirectional": True}, {"rnn.l0": 5, "rnn.l0_reverse": 3}),
}


@pairwise(kind=["gru", "lstm"], size=SIZES, folds=[True, False], given=[True, False])
def test_whatever_stands_for_a_layer_is_exported(tmp_path, kind, size, folds, given):
    options, m = SIZES[size]
    net = Net(kind, nn.Identity() if folds else nn.Tanh(), **options)
    state = torch.randn(len(m), 1, N_NODES)
    state = ((state, state) if kind == "lstm" else state) if given else None
    module = small(net, m)
    assert type(module.rnn) is (InitialStateRNN if folds else ExpandedRNN)
    assert isinstance(module.rnn.rnn, StackedRNN) == (len(set(m.values())) > 1)
    path = export_onnx(module, (torch.randn(1, 2, N_INPUTS), state), tmp_path / "small.onnx")
    for n, n_steps in ((1, 2), (1, 9), (5, 1), (4, 7)):
        x, new = torch.randn(n, n_steps, N_INPUTS), torch.randn(len(m), n, N_NODES)
        assert_same(path, module, x, *[(new, new) if kind == "lstm" else new] * given)


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell])
def test_a_loop_over_steps_keeps_its_length(tmp_path, cell):
    batches = [(torch.randn(8, 6, N_INPUTS), torch.randn(8, N_NODES)) for _ in range(4)]
    module = prune(Loop(cell(N_INPUTS, N_NODES)), batches, m=4, trajectory_fit=0)
    path = tmp_path / "small.onnx"
    with pytest.warns(UserWarning, match="one size alone of x_axis1, as that of a loop") as caught:
        export_onnx(module, (batches[0][0][:2], batches[0][1][:2]), path)
    assert caught[0].filename == __file__
    assert_same(path, module, torch.randn(5, 6, N_INPUTS), torch.randn(5, N_NODES))
    assert [each.shape for each in session_of(path).get_inputs()] == [
        ["x_axis0", 6, N_INPUTS],
        ["x_axis0", N_NODES],
    ]


def test_axes_may_be_named(tmp_path):
    module = small(Net("lstm"))
    state = torch.randn(1, 2, N_NODES)
    example = {"x": torch.randn(2, 5, N_INPUTS), "state": (state, state)}
    named = {"x": {0: "batch"}, "state_0": {1: "batch"}, "state_1": {1: "batch"}}
    session = session_of(export_onnx(module, example, tmp_path / "a.onnx", dynamic=named))
    found = {each.name: each.shape for each in [*session.get_inputs(), *session.get_outputs()]}
    states = {f"state_{i}": [1, "batch", N_NODES] for i in range(2)}
    assert found == {"x": ["batch", 5, N_INPUTS], **states, "output": ["batch", 5, 2]}
    fixed = session_of(export_onnx(module, example, tmp_path / "b.onnx", dynamic=False))
    assert fixed.get_outputs()[0].shape == [2, 5, 2]


def test_the_metadata_say_what_was_kept(tmp_path):
    net = Net("gru", num_layers=2)
    pruner = SpectralRNNPruner(net, m={"rnn.l0": 5}, trajectory_fit=0)
    pruner.fit(torch.randn(40, 6, N_INPUTS))
    assert net.training
    path = export_onnx(pruner, torch.randn(2, 5, N_INPUTS), str(tmp_path / "small.onnx"))
    assert path == tmp_path / "small.onnx"
    assert metadata_of(path) == {
        "version": skspectral.__version__,
        "n_parameters": pruner.n_parameters_,
        "states": {},
        "kept": {name: nodes.tolist() for name, nodes in pruner.support_.items()},
        "n_nodes": {"rnn.l0": N_NODES, "rnn.l1": N_NODES},
    }
    export_onnx(net.train(), torch.randn(2, 5, N_INPUTS), path, metadata={"author": '"me"'})
    assert net.training
    assert metadata_of(path).keys() == {"version", "n_parameters", "states", "author"}


def test_int8_stores_an_lstm_and_linear_layers_in_eight_bits(tmp_path):
    module = nn.Sequential(nn.Linear(N_INPUTS, 64), nn.LSTM(64, 64, batch_first=True))
    x = torch.randn(2, 5, N_INPUTS)
    wide = export_onnx(module, x, tmp_path / "float.onnx")
    path = export_onnx(module, x, tmp_path / "int8.onnx", int8=True)
    assert {"DynamicQuantizeLSTM", "MatMulInteger"} <= operators(path)
    assert path.stat().st_size < 0.35 * wide.stat().st_size
    assert 0 < metadata_of(path)["int8_error"] < 0.1
    found, wanted = session_of(path).run(None, {"input": x.numpy()})[0], module(x)[0].detach()
    np.testing.assert_allclose(found, wanted, atol=0.1 * float(wanted.abs().max()))


def test_what_one_exporter_does_not_know_goes_through_the_other(tmp_path):
    pytest.importorskip("onnxscript")
    module = prune(Framed(), [(torch.randn(40, 32),)], m=4, trajectory_fit=0)
    path = export_onnx(module, torch.randn(2, 32), tmp_path / "small.onnx", dynamic=False)
    assert_same(path, module, torch.randn(2, 32))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_left_out(tmp_path, kind):
    module = small(Stream(kind, nn.Dropout(0.5), num_layers=2, dropout=0.5)).train()
    path = export_onnx(module, torch.randn(2, 5, N_INPUTS), tmp_path / "small.onnx")
    assert module.training
    assert_same(path, module, torch.randn(2, 5, N_INPUTS))


def test_a_state_that_cannot_be_fed_back_is_told_of(tmp_path):
    module, wide = small(Stream()), torch.zeros(1, 2, N_NODES)
    with pytest.warns(
        UserWarning, match=r"'state' goes in with the shape \(1, 2, 8\) and comes out"
    ):
        export_onnx(module, (torch.randn(2, 5, N_INPUTS), wide), tmp_path / "small.onnx")
    assert metadata_of(tmp_path / "small.onnx")["states"] == {}


@pytest.mark.parametrize("kind", ["gru", "rnn"])
def test_int8_leaves_other_layers_in_float32(tmp_path, kind):
    module, x = Net(kind), torch.randn(2, 5, N_INPUTS)
    with pytest.warns(UserWarning, match=f"int8=True leaves {kind.upper()} in float32") as caught:
        path = export_onnx(module, x, tmp_path / "small.onnx", int8=True)
    assert caught[0].filename == __file__
    assert {kind.upper(), "MatMulInteger"} <= operators(path)


class Unsupported(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x @ x.transpose(1, 2)).abs()


class Framed(nn.Module):
    """Cuts frames in a way that the exporter of TorchScript does not know."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, N_NODES, batch_first=True)
        self.head = nn.Linear(N_NODES, 2)

    def forward(self, x):
        whole = x[:, : x.shape[1] // 4 * 4]
        frames = nn.functional.pad(whole, (0, 4)).unfold(1, 8, 4)
        return self.head(self.rnn(frames)[0])


class Silent(nn.Module):
    def forward(self, x):
        return None


class Looped(nn.Module):
    """Adds up steps in Python."""

    def forward(self, x):
        return sum(x[t] for t in range(len(x)))


@pytest.mark.parametrize(
    ("module", "example", "options", "error", "message"),
    [
        ("GRU", X, {}, TypeError, "module must be a torch module or a fitted pruner; got str"),
        (SpectralRNNPruner(), X, {}, TypeError, "got SpectralRNNPruner"),
        (nn.GRU(3, 4), [X], {}, TypeError, "example must be a tensor, a tuple .* got list"),
        (nn.GRU(3, 4), {"y": X}, {}, TypeError, "example must be what forward.* takes"),
        (nn.GRU(5, 4), X, {}, ValueError, "example must be inputs that forward runs on"),
        (Silent(), X, {}, ValueError, "module must return a tensor"),
        (nn.GRU(3, 4), X, {"dynamic": 1}, TypeError, "dynamic must be True, False or a dict"),
        (nn.GRU(3, 4), X, {"dynamic": {"input": [0]}}, TypeError, "dynamic must be True, False or"),
        (nn.GRU(3, 4), X, {"metadata": {"n": 1}}, TypeError, "dict of str; got 1 for 'n'"),
        (nn.GRU(3, 4), X, {"dynamic": {"y": {0: "n"}}}, ValueError, "among .'input'.; got 'y'"),
        (nn.GRU(3, 4), X, {"dynamic": {"input": {3: "n"}}}, ValueError, "from 0 to 2; got 3"),
        (nn.GRU(3, 4), X, {"dynamic": {"input": {2: "n"}}}, ValueError, "got 'n', the axes"),
        (Unsupported(), X, {}, RuntimeError, "torch cannot export Unsupported to ONNX: .*eigvals"),
        (Looped(), X, {"dynamic": {"x": {0: "n"}}}, RuntimeError, "The output 'output' .* differs"),
        (nn.LSTM(3, 4).double(), X.double(), {}, RuntimeError, "onnxruntime cannot run .*double"),
    ],
)
def test_errors_say_what_to_do_and_leave_no_file(
    tmp_path, module, example, options, error, message
):
    with pytest.raises(error, match=message):
        export_onnx(module, example, tmp_path / "small.onnx", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "wanted", "error"),
    [
        ([1, 2], [1, 4], 0.5),
        ([0.5], [0], 0.5),
        ([np.nan, 1], [np.nan, 1], 0),
        ([np.nan], [1], np.inf),
        ([1, 1], [1], np.inf),
    ],
)
def test_errors_are_relative_to_the_largest_number(found, wanted, error):
    assert relative_error(np.array(found), np.array(wanted)) == error


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_packages_are_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "skspectral\[onnx\]"'):
        export_onnx(nn.GRU(3, 4), X, tmp_path / "small.onnx")
