"""Code and weights of pruned modules, run by torch alone."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import MODELS, SHRINKS, STAYS, answers, assert_same, fitted, make
from networks import N_FEATURES, N_NODES
from test_customized_layers import KINDS as CUSTOM
from test_customized_layers import Squared
from test_paths import Net, X, linear
from test_wrappers import KINDS, NETS, SIZES, Packs, smaller
from torch import nn

from skspectral import SpectralRNNPruner, export_torch, prune, save_pruned
from skspectral.rnn.layers.stack import split_layers
from skspectral.rnn.layers.weights import n_parameters
from skspectral.rnn.runtime.inputs import SelectedCellInputs, SelectedInputs

pytestmark = [pytest.mark.filterwarnings(STAYS), pytest.mark.filterwarnings(SHRINKS)]
pytestmark += [pytest.mark.filterwarnings("ignore:.*torch.* is deprecated")]

# Modules of torch alone.
NETWORKS = """
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden_size = 16
        self.rnn, self.head = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0].reshape(-1, self.hidden_size))


class Stream(nn.Module):
    def __init__(self, kind=nn.GRU, levels=1, read=nn.Identity):
        super().__init__()
        self.rnn = kind(3, 16, levels, batch_first=True)
        self.read, self.head = read(), nn.Linear(16, 2)

    def forward(self, x, state=None):
        states, state = self.rnn(x, state)
        return self.head(self.read(states)), state


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 2)
        self.W = nn.Parameter(torch.randn(16, 1))
        self.register_buffer("start", torch.ones(1, 40, 16), persistent=False)

    def forward(self, x):
        states, state = self.rnn(x, self.start)
        self.start.copy_(state)
        return self.head(((states @ self.W).softmax(1) * states).sum(1))


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 16, batch_first=True), nn.Linear(16, 2)
        self.norm = nn.BatchNorm1d(16)
        for each in (*self.norm.parameters(), self.norm.running_mean, self.norm.running_var):
            nn.init.uniform_(each, 0.5, 2.0)

    def forward(self, x):
        return self.head(self.norm(self.rnn(x)[0].mT).mT)


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(3, 16)])
        self.heads = nn.ModuleDict({"first-one": nn.Linear(16, 2)})

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cells[0](step, state)
        return self.heads["first-one"](state[0])


MAKERS = {
    "folded": Tagger,
    "stream": Stream,
    "two sizes": lambda: Stream(levels=2),
    "LSTM of two sizes": lambda: Stream(nn.LSTM, 2),
    "unfolded": lambda: Stream(nn.RNN, 2, nn.ReLU),
    "attention": Attention,
    "normalized": Normalized,
    "cells": Cells,
    "layer": lambda: nn.LSTM(3, 16, batch_first=True),
    "levels": lambda: nn.GRU(3, 16, 2, bidirectional=True),
}


@torch.no_grad()
def answers(module, x):
    # Twice, the second time from the state that came out.
    output = module(x)
    return module(x, output[1]) if isinstance(output, tuple) else module(x)
"""
ALONE = """
import importlib, sys
sys.modules["skspectral"] = None
sys.path.insert(0, sys.argv[1])
import torch
from networks_alone import MAKERS, answers
known = torch.load(f"{sys.argv[1]}/known.pt")
for i, name in enumerate(MAKERS):
    module = importlib.import_module(f"folder{i}.pruned").pruned(MAKERS[name]())
    x, expected = known[name]
    torch.testing.assert_close(answers(module, x), expected, rtol=0, atol=0)
    print(name)
"""
LINES = {
    "attention": [
        "    module.W = nn.Parameter(torch.empty(4, 1))\n",
        '    module.register_buffer("start", torch.empty(1, 40, 4))\n',
    ],
    "normalized": [
        '    module.norm.register_buffer("running_var", torch.empty(4))\n',
        "    module.norm.num_features = 4\n",
    ],
    "unfolded": [
        "    module.rnn = ExpandedRNN(\n        StackedRNN(\n",
        "    module.rnn.set_apart()\n",
    ],
    "cells": ['    module.heads["first-one"] = nn.Linear(4, 2)\n'],
}
M = {
    "two sizes": {"rnn.l0": 3, "rnn.l1": 5},
    "LSTM of two sizes": {"rnn.l0": 5, "rnn.l1": 3},
    "unfolded": {"rnn.l0": 4, "rnn.l1": 6},
    "levels": {"l0": 3, "l0_reverse": 4, "l1": 5, "l1_reverse": 6},
}


def imported(path):
    """The module of a file, under a name of its own, which imports torch alone."""
    tree = ast.parse(path.read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", node.names[0].name).partition(".")[0] for node in nodes}
    assert names <= {"torch", *sys.stdlib_module_names}
    spec = importlib.util.spec_from_file_location(f"file{hash(path)}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def networks(folder):
    path = folder / "networks_alone.py"
    path.write_text(NETWORKS)
    return imported(path)


def test_files_run_where_the_package_cannot_be_imported(tmp_path):
    alone, known = networks(tmp_path), {}
    for i, (name, maker) in enumerate(alone.MAKERS.items()):
        torch.manual_seed(0)
        net, x = maker().eval(), torch.randn(40, 6, 3)
        pruner = SpectralRNNPruner(net, M.get(name, 4), trajectory_fit=0).fit([(x,)])
        text = export_torch(pruner, tmp_path / f"folder{i}").read_text()
        assert [line for line in LINES.get(name, []) if line not in text] == []
        known[name] = x, alone.answers(pruner.pruned_module_, x)
    torch.save(known, tmp_path / "known.pt")
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.stdout.splitlines(), ran.stderr) == ([*known], "")


def test_of_a_folded_module_there_are_lines_for_what_changed(tmp_path):
    net, x = networks(tmp_path).Tagger(), torch.randn(40, 6, 3)
    path = export_torch(SpectralRNNPruner(net, 4, trajectory_fit=0).fit(x), tmp_path)
    assert (
        path.read_text().partition("\n\n\n")[2]
        == '''\
def pruned(module: nn.Module) -> nn.Module:
    """Turn a new Tagger, with the old sizes, into the pruned one, with its weights."""
    module.hidden_size = 4
    module.rnn = nn.GRU(3, 4, batch_first=True)
    module.head = nn.Linear(4, 2)
    weights = torch.load(Path(__file__).with_name("weights.pt"), weights_only=True)
    module.load_state_dict(weights)
    return module.eval()
'''
    )


@pytest.mark.parametrize("name", MODELS)
def test_models_answer_the_same(name, tmp_path):
    net, batch, _ = make(name)
    pruner = fitted(net, iter([batch]), m=3)
    small, text = pruner.pruned_module_, export_torch(pruner, tmp_path / "a").read_text()
    assert text == export_torch(pruner, tmp_path / "a").read_text()
    for given, folder in ((pruner, "a"), (small, "b")):
        again = imported(export_torch(given, tmp_path / folder)).pruned(make(name)[0].train())
        assert_same(answers(again, batch), answers(small, batch), tolerance=0.0)
        assert repr(again) == repr(small)
        assert n_parameters(again) == n_parameters(small)  # what was shared is
        assert not any(part.training for part in again.modules())


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("name", [*NETS, "packs"])
@pytest.mark.parametrize("levels", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_answer_the_same(kind, levels, name, folds, tmp_path):
    small, arguments = smaller(kind, levels, name, folds)
    net = Packs if name == "packs" else NETS[name][kind == "lstm"]
    new = net(kind, SIZES[levels], nn.Identity() if folds else nn.ReLU())
    again, batch = imported(export_torch(small, tmp_path)).pruned(new), arguments(5)
    assert_same(answers(again, batch), answers(small, batch), tolerance=0.0)
    if name == "stream" and not folds:
        assert_same(answers(torch.jit.script(again), batch), answers(small, batch), 1e-6)
        ruff = Path(sys.executable).with_name("ruff")
        if ruff.exists():
            command = [ruff, "check", "--isolated", "--select=E,F,I", "--line-length=100", tmp_path]
            assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("kind", CUSTOM)
def test_classes_of_layers_stay(kind, tmp_path):
    def new():
        rnn = kind(N_FEATURES, N_NODES, batch_first=True, dtype=torch.float64)
        return Net(CUSTOM[kind][0], rnn, head=linear()).eval()

    pruner = fitted(new(), [(X,)], m=3)
    if kind is Squared:
        with pytest.raises(ValueError, match=r"'rnn' is a Squared that runs a ExpandedRNN in pla"):
            export_torch(pruner, tmp_path)
        return
    again = imported(export_torch(pruner, tmp_path)).pruned(new())
    assert type(again.rnn) is kind
    assert_same(answers(again, (X,)), answers(pruner.pruned_module_, (X,)), tolerance=0.0)
    assert again.rnn.hidden_size == 3


@pytest.mark.parametrize("cell", [True, False])
def test_selected_inputs(cell, tmp_path):
    kind = SelectedCellInputs if cell else SelectedInputs
    stack = split_layers(nn.GRU(2, 8, 2, batch_first=True))
    small = prune(stack, torch.randn(60, 6, 2), m={"l0": 3, "l1": 4}, trajectory_fit=0)
    given = kind(nn.LSTMCell(2, 4) if cell else small, torch.tensor([2, 0]), 3)
    x = torch.randn(2, 3) if cell else torch.randn(2, 5, 3)
    again = imported(export_torch(given, tmp_path)).pruned()
    assert_same(answers(again, (x,)), answers(given, (x,)), tolerance=0.0)
    assert isinstance(again, nn.LSTMCell if cell else nn.GRU)


class Listed(nn.Module):
    """Finds its layer in a list, and has numbers of two types."""

    def __init__(self, between):
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.layers, self.between = [self.rnn], between
        self.head = nn.Linear(8, 2).double()

    def forward(self, x):
        return self.head(self.between(self.layers[0](x)[0]).double())


def test_a_layer_in_a_list_is_resized_where_it_is(tmp_path):
    x = torch.randn(40, 6, 3)
    pruner = fitted(Listed(nn.Identity()), x, m=3)
    again = imported(export_torch(pruner, tmp_path)).pruned(Listed(nn.Identity()))
    assert again.layers[0] is again.rnn
    assert_same(answers(again, (x,)), answers(pruner.pruned_module_, (x,)), tolerance=0.0)
    small = prune(Listed(nn.ReLU()), x, m=3, trajectory_fit=0)
    with pytest.raises(ValueError, match="layer 'rnn' is in an attribute of Listed that is no sub"):
        export_torch(small, tmp_path)


class Holders(nn.Module):
    """Has parts and parameters in containers, twice, and a computed weight."""

    def __init__(self, kind=nn.Linear):
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.parts, self.same = nn.ModuleList([nn.Sequential(kind(8, 2))]), self.rnn
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(8, 2))])
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.randn(8, 2))})
        nn.utils.parametrizations.weight_norm(self.parts[0][0])

    def forward(self, x):
        states = self.same(x)[0]
        return self.parts[0](states) + states @ self.weights[0] + states @ self.named["a"]


class Line(nn.Linear):
    pass


def test_containers_shared_parts_and_computed_weights(tmp_path):
    x = torch.randn(40, 6, 3)
    pruner = fitted(Holders().eval(), [(x,)], m=3)
    text = export_torch(pruner, tmp_path).read_text()
    for line in (
        "module.rnn = module.same = nn.GRU(3, 3, batch_first=True)",
        "module.parts[0][0] = nn.Linear(3, 2)",
        "module.weights[0] = nn.Parameter(torch.empty(3, 2))",
        'module.named["a"] = nn.Parameter(torch.empty(3, 2))',
    ):
        assert f"    {line}\n" in text
    again = imported(tmp_path / "pruned.py").pruned(Holders())
    assert_same(answers(again, (x,)), answers(pruner.pruned_module_, (x,)), tolerance=0.0)
    with pytest.raises(ValueError, match=r"'parts.0.0' has computed weights, and a class or hooks"):
        export_torch(fitted(Holders(Line).eval(), [(x,)], m=3), tmp_path)


def test_other_things_are_refused(tmp_path):
    unfitted = "must be a torch module or a fitted pruner; got SpectralRNNPruner, which is not fit"
    for write in (export_torch, save_pruned):
        with pytest.raises(TypeError, match=unfitted):
            write(SpectralRNNPruner(nn.GRU(3, 8)), tmp_path / "written")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"folder must be a folder, or not exist .* is a file"):
        export_torch(nn.GRU(3, 4), tmp_path / "file")
