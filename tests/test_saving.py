"""Pruned modules on disk, without pickle."""

import json
import pickle

import pytest
import torch
from models import MODELS, STAYS, Stack, answers, assert_same, fitted, make, sequences
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from skspectral import load_pruned, prune, save_pruned


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
@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_answers_as_what_was_saved(name, path):
    net, batch, _ = make(name)
    small = fitted(net, iter([batch]), m=3).pruned_module_
    save_pruned(small, path)
    again = load_pruned(path, into=net)
    assert_same(answers(again, batch), answers(small, batch), tolerance=0.0)
    assert repr(again) == repr(small)
    assert not any(part.training for part in again.modules())


@pytest.mark.filterwarnings(STAYS)
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
    save_pruned(prune(rnn, torch.randn(40, 6, 3), m=4), path)
    again = load_pruned(path, into=rnn)
    assert {weight.dtype for weight in again.parameters()} == {dtype}
    assert (rnn.hidden_size, again.hidden_size) == (8, 4)


def test_the_head_of_the_file_can_be_read(path):
    save_pruned(prune(nn.GRU(3, 8, batch_first=True), torch.randn(40, 6, 3), m=4), path)
    with safe_open(path, framework="pt") as file:
        head = json.loads(file.metadata()["skspectral"])
        assert file.get_tensor("weight_hh_l0").shape == (12, 4)
    assert head["version"] == 1
    assert head["parts"][""]["sizes"] == [3, 4]


def test_other_files_are_refused(path):
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="holds no pruned module of version 1; give a file that"):
        load_pruned(path, into=nn.GRU(3, 8))


@pytest.mark.parametrize("into", [nn.Sequential(nn.GRU(3, 8)), nn.Linear(3, 2)])
def test_modules_that_do_not_fit_are_refused(into, path):
    net, batch, _ = make("packed inside")
    save_pruned(fitted(net, iter([batch]), m=3).pruned_module_, path)
    with pytest.raises(ValueError, match=f"does not fit into {type(into).__name__}: .*Give a mod"):
        load_pruned(path, into=into)
