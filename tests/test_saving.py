"""Pruned modules on disk, without pickle."""

import copy
import json
import pickle
import warnings
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import (
    MODELS,
    N_NODES,
    SHRINKS,
    STAYS,
    Stack,
    answers,
    assert_same,
    fitted,
    linear,
    make,
    sequences,
)
from networks import N_FEATURES
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from skspectral import (
    HiddenStateMoments,
    SpectralRNNPruner,
    load_pruned,
    prune,
    save_pruned,
)
from skspectral.rnn.layers.stack import split_layers
from skspectral.rnn.runtime.inputs import SelectedInputs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small.safetensors"


@pytest.fixture(autouse=True)
def no_pickle(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(torch, "load", refuse)


@pytest.mark.filterwarnings(STAYS)
@pytest.mark.filterwarnings(SHRINKS)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_answers_as_what_was_saved(name, path):
    net, batch, _ = make(name)
    small = fitted(net, iter([batch]), m=3).pruned_module_
    save_pruned(small, path)
    again = load_pruned(path, into=net)
    assert_same(answers(again, batch), answers(small, batch), tolerance=0.0)
    assert repr(again) == repr(small)
    assert not any(part.training for part in again.modules())


class Configured(nn.Module):
    """Knows its size from a configuration, and reads by a weight that is computed."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=N_NODES)
        self.rnn = nn.GRU(N_FEATURES, N_NODES, batch_first=True, dtype=torch.float64)
        self.head = nn.utils.parametrizations.weight_norm(linear())

    def forward(self, x):
        return self.head(self.rnn(x)[0].reshape(-1, self.config.hidden_size))


def test_sizes_in_a_configuration_and_computed_weights(path):
    net, X = Configured().eval(), torch.as_tensor(sequences())
    small = fitted(net, [(X,)], m=3).pruned_module_
    save_pruned(small, path)
    again = load_pruned(path, into=net)
    assert torch.equal(again(X), small(X))
    assert (again.config.hidden_size, net.config.hidden_size) == (3, N_NODES)
    assert net.head.in_features == N_NODES


def test_a_class_is_no_module(path):
    save_pruned(prune(nn.GRU(3, 8), torch.randn(90, 5, 3), m=4, trajectory_fit=0), path)
    with pytest.raises(TypeError, match="into must be a torch module, an instance of the class"):
        load_pruned(path, into=nn.GRU)


def test_a_fitted_pruner_is_saved_as_its_pruned_module(path):
    x = torch.randn(90, 5, 3)
    pruner = SpectralRNNPruner(nn.GRU(3, 8, batch_first=True), m=4, trajectory_fit=0).fit(x)
    save_pruned(pruner, path)
    again = load_pruned(path, into=nn.GRU(3, 8, batch_first=True))
    assert_same(answers(again, (x,)), answers(pruner.pruned_module_, (x,)), tolerance=0.0)


@pytest.mark.filterwarnings(STAYS)
@pytest.mark.filterwarnings(SHRINKS)
@pytest.mark.parametrize("read", ["every step", "relu"])
@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_layers_of_different_sizes(cell, read, path):
    net, X = Stack(cell, 2, True, False, False, read).eval(), sequences()
    sizes = {"rnn.l0": 2, "rnn.l1_reverse": 5}
    small = fitted(net, X, m=sizes, reconstruction="affine").pruned_module_
    save_pruned(small, path)
    batch = (torch.as_tensor(X),)
    assert_same(answers(load_pruned(path, into=net), batch), answers(small, batch), tolerance=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_stay(dtype, path):
    rnn = nn.LSTM(3, 8, 2, batch_first=True, dtype=dtype)
    save_pruned(prune(rnn, torch.randn(40, 6, 3), m=4, trajectory_fit=0), path)
    again = load_pruned(path, into=rnn)
    assert {weight.dtype for weight in again.parameters()} == {dtype}
    assert (rnn.hidden_size, again.hidden_size) == (8, 4)


def test_the_head_of_the_file_can_be_read(path):
    save_pruned(
        prune(nn.GRU(3, 8, batch_first=True), torch.randn(40, 6, 3), m=4, trajectory_fit=0), path
    )
    with safe_open(path, framework="pt") as file:
        head = json.loads(file.metadata()["skspectral"])
        assert file.get_tensor("weight_hh_l0").shape == (12, 4)
    assert head["version"] == 2
    assert head["parts"][""]["sizes"] == [3, 4]


def test_other_files_are_refused(path):
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="holds no pruned module of version 2; give a file that"):
        load_pruned(path, into=nn.GRU(3, 8))


@pytest.mark.parametrize("into", [nn.Sequential(nn.GRU(3, 8)), nn.Linear(3, 2)])
def test_modules_that_do_not_fit_are_refused(into, path):
    net, batch, _ = make("packed inside")
    save_pruned(fitted(net, iter([batch]), m=3).pruned_module_, path)
    with pytest.raises(ValueError, match=f"does not fit into {type(into).__name__}: .*Give a mod"):
        load_pruned(path, into=into)


def test_a_layer_of_another_kind_is_named(path):
    save_pruned(prune(nn.GRU(3, 8), torch.randn(90, 5, 3), m=4, trajectory_fit=0), path)
    with pytest.raises(ValueError, match=r"like GRU\(3, 4\) where the module has LSTM\(3, 8\)"):
        load_pruned(path, into=nn.LSTM(3, 8))


# Files that were tampered with


def wide_gru():
    return nn.GRU(3, 8, batch_first=True)


class Embedded(nn.Module):
    """Tokens, whose embedding gates may narrow, and a stack of levels and directions."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0].relu())


def selected():
    """A layer that reads some of its inputs, of a stack whose layers have sizes of their own."""
    stack = split_layers(nn.GRU(2, 8, 2, batch_first=True))
    small = prune(stack, torch.randn(60, 6, 2), m={"l0": 3, "l1": 4}, trajectory_fit=0)
    return SelectedInputs(small, torch.tensor([2, 0]), 3)


INTO = {
    "plain": wide_gru,
    "stays": Embedded,
    "selected": lambda: nn.GRU(3, 8, 2, batch_first=True),
}
HEADERS: dict[str, tuple[dict, dict]] = {}


def header_and_tensors(kind, folder):
    """What a file of a kind holds."""
    if kind not in HEADERS:
        path = folder / "known"
        X = torch.randn(60, 6, 3)
        if kind == "plain":
            small = prune(wide_gru(), X, m=4, trajectory_fit=0)
        elif kind == "stays":
            with warnings.catch_warnings(action="ignore"):
                small = prune(Embedded(), X, m={"rnn.l0": 3, "rnn.l1": 4}, trajectory_fit=0)
        else:
            small = selected()
        save_pruned(small, path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
            HEADERS[kind] = json.loads(file.metadata()["skspectral"]), tensors
    return copy.deepcopy(HEADERS[kind])


def write(path, head, tensors):
    text = head if isinstance(head, str) else json.dumps(head)
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, {"skspectral": text})


def places(value, path=()):
    """Where something stands in a header."""
    yield path
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*path, key))


def put(head, path, value):
    """The header with something else in a place."""
    if not path:
        return value
    parent = head
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return head


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["GRU", "StackedRNN", "ExpandedRNN", "Linear", "float16", "l0", 10**30]),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3)
    ),
)


@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
@pytest.mark.parametrize("kind", INTO)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_header_that_was_tampered_with_is_refused_or_loads(kind, data, path):
    head, tensors = header_and_tensors(kind, path.parent)
    place = data.draw(st.sampled_from(sorted(places(head), key=str)))
    parent = head
    for key in place[:-1]:
        parent = parent[key]
    if place and isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[place[-1]]
    else:
        head = put(head, place, data.draw(JSON))
    write(path, head, tensors)
    before, into = torch.get_rng_state(), INTO[kind]()
    torch.set_rng_state(before)
    refusal = None
    try:
        load_pruned(path, into=into)(torch.zeros(2, 5, 3))
    except ValueError as error:
        refusal = str(error)
    assert refusal is None or str(path) in refusal
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", INTO)
def test_files_that_were_not_tampered_with_load(kind, path):
    head, tensors = header_and_tensors(kind, path.parent)
    write(path, head, tensors)
    again = load_pruned(path, into=INTO[kind]())
    found = again.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("kind", INTO)
def test_nothing_is_made_of_the_sizes_in_a_header_before_the_tensors_are_seen(
    kind, path, monkeypatch
):
    head, tensors = header_and_tensors(kind, path.parent)
    sizes = [place for place in places(head["parts"]) if place and place[-1] in ("sizes", "size")]
    fill = nn.RNNBase.reset_parameters

    def small_alone(layer):
        assert all(weight.is_meta or weight.numel() < 10**4 for weight in layer.parameters())
        fill(layer)

    monkeypatch.setattr(nn.RNNBase, "reset_parameters", small_alone)
    for place in sizes:
        if place[-1] == "sizes":
            changed = put(copy.deepcopy(head), ("parts", *place), [3, 2**14])
            write(path, changed, tensors)
            # What a stack shows as its size is that of no tensor.
            with suppress(ValueError):
                load_pruned(path, into=INTO[kind]())


def many_levels(head, _):
    head["parts"][""]["options"]["num_layers"] = 10**9


def other_place(head, _):
    head["parts"][""]["options"]["device"] = "cpu"


def three_sizes(head, _):
    head["parts"][""]["sizes"] = [3, 4, 10**9]


def deep(head, _):
    inner = head["parts"][""]
    for _ in range(50):
        inner = {"kind": "SelectedInputs", "rnn": inner, "dtype": "float32", "size": 3, "kept": 3}
    head["parts"][""] = inner


def another_kind(head, _):
    head["parts"][""]["kind"] = "Linear"


def lstm(head, tensors):
    head["parts"][""]["kind"] = "LSTM"
    for name, tensor in tensors.items():
        tensors[name] = torch.cat([tensor, tensor[:4]])


def other_dtype(_, tensors):
    tensors["weight_hh_l0"] = tensors["weight_hh_l0"].half()


def ints(_, tensors):
    tensors["weight_hh_l0"] = tensors["weight_hh_l0"].int()


def lacking(_, tensors):
    del tensors["bias_hh_l0"]


def left_over(_, tensors):
    tensors["other"] = torch.zeros(2)


def no_parts(head, _):
    del head["parts"]


CHANGES = (many_levels, other_place, three_sizes, deep, another_kind, lstm, other_dtype, ints)
CHANGES += (lacking, left_over, no_parts)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_does_not_fit_together_is_refused(change, path):
    head, tensors = header_and_tensors("plain", path.parent)
    change(head, tensors)
    write(path, head, tensors)
    with pytest.raises(ValueError, match=r"does not fit into GRU: .* Give a module of the class"):
        load_pruned(path, into=wide_gru())


@pytest.mark.parametrize(
    ("kind", "name"), [("stays", "rnn.kept.0.support"), ("selected", "support")]
)
@pytest.mark.parametrize("nodes", ["twice", "beyond", "negative"])
def test_supports_are_of_nodes_that_are_there(kind, name, nodes, path):
    head, tensors = header_and_tensors(kind, path.parent)
    tensors[name][0] = {"twice": int(tensors[name][1]), "beyond": 8, "negative": -1}[nodes]
    write(path, head, tensors)
    with pytest.raises(
        ValueError, match=r"its support of .* must hold ints from 0 to \d, each once"
    ):
        load_pruned(path, into=INTO[kind]())


@pytest.mark.parametrize("text", ["[" * 10**5, '{"format": ' + "9" * 5000 + "}", "[1]", "nonsense"])
def test_headers_that_are_no_description_are_refused(text, path):
    write(path, text, {"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="holds no pruned module of version 2"):
        load_pruned(path, into=wide_gru())
    with pytest.raises(ValueError, match="holds no moments of hidden states of version 1"):
        HiddenStateMoments.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"n_steps": 2**70},
        {"n_steps": -1},
        {"n_steps": "many"},
        {"sum": torch.zeros(2, dtype=torch.bfloat16)},
        {"sum": torch.zeros(3, dtype=torch.float64)},
        {"sum": torch.zeros((), dtype=torch.float64)},
    ],
    ids=str,
)
def test_moments_that_were_tampered_with_are_refused(change, path):
    HiddenStateMoments(2).update(np.eye(2)).save(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        head = json.loads(file.metadata()["skspectral"])
    for name, value in change.items():
        (tensors if isinstance(value, torch.Tensor) else head)[name] = value
    write(path, head, tensors)
    with pytest.raises(ValueError, match="which do not belong together; give a file that Hidden"):
        HiddenStateMoments.load(path)


def test_loading_draws_no_random_numbers(path):
    save_pruned(prune(wide_gru(), torch.randn(40, 6, 3), m=4, trajectory_fit=0), path)
    into, state = wide_gru(), torch.get_rng_state()
    load_pruned(path, into=into)
    assert torch.equal(torch.get_rng_state(), state)
