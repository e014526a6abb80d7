"""What a person reads of a pruned model."""

import copy
import pickle
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from models import linear, make
from networks import N_FEATURES
from sklearn.exceptions import NotFittedError
from torch import nn

from skspectral import SpectralRNNPruner
from skspectral.pruners.summary import HEADS, Summary, as_html

X = np.random.default_rng(0).normal(size=(40, 8, N_FEATURES))


@pytest.fixture(scope="module")
def stays():
    net, batch, _ = make("relu")
    with pytest.warns(UserWarning, match="of layer 'rnn.l1' remains a separate linear layer"):
        return SpectralRNNPruner(
            net, m={"rnn.l0": 3, "rnn.l1": 5}, n_refit=0, trajectory_fit=0
        ).fit(iter([batch]))


def test_numbers_are_those_of_the_modules(stays):
    frame = stays.summary(as_frame=True)
    small, dense = stays.pruned_module_, stays.estimator_
    assert frame.index.tolist() == ["rnn.l0", "rnn.l1", "all"]
    assert frame["kept"].tolist() == [3, 5, 8]
    assert frame["nodes"].tolist() == [8, 8, 16]
    assert frame.loc["all", "parameters"] == sum(p.numel() for p in small.parameters())
    assert frame.loc["all", "parameters_before"] == sum(p.numel() for p in dense.parameters())
    # Three gates: inputs and states of each layer, and then the reconstruction of the last.
    assert frame["multiply_adds"].tolist() == [9 * (3 + 3), 15 * (3 + 5), 54 + 120 + 8 * 5]
    assert frame["multiply_adds_before"].tolist() == [24 * 11, 24 * 16, 24 * 27]
    for layer in ("rnn.l0", "rnn.l1"):
        assert frame.loc[layer, "loss"] == stays.information_loss_[layer]
        assert frame.loc[layer, "bound"] == stays.loss_lower_bound_[layer]
    # The upper level reads the lower one linearly, whatever reads the upper one.
    assert frame["reconstruction"].tolist()[:2] == ["folded", "stays: is used by relu"]


def test_text_is_the_same_table(stays):
    head, *lines = stays.summary().splitlines()
    assert head.split()[:4] == ["layer", "kept", "of", "loss"]
    assert [line.split()[0] for line in lines] == ["rnn.l0", "rnn.l1", "all"]
    assert lines[0].endswith("folded")
    assert lines[1].endswith("stays: is used by relu")
    assert f"{stays.information_loss_['rnn.l1']:.2g}" in lines[1]


def test_a_terminal_shows_it_as_it_is_printed(stays, capsys):
    summary = stays.summary()
    print(summary)
    printed = capsys.readouterr().out
    assert printed == f"{summary!r}\n" == f"{summary}\n"
    assert printed.count("\n") == len(summary.splitlines()) == 4
    for again in (pickle.loads(pickle.dumps(summary)), copy.deepcopy(summary)):
        assert (again, repr(again), again._repr_html_()) == (
            summary,
            repr(summary),
            summary._repr_html_(),
        )


def test_a_notebook_shows_it_as_a_table(stays):
    html = stays.summary()._repr_html_()
    rows = ET.fromstring(html).iter("tr")
    found = [[cell.text or "" for cell in row] for row in rows]
    cells = [re.split(r" {2,}", line) for line in stays.summary().splitlines()]
    assert [[text for text in row if text] for row in found] == cells
    frame = stays.summary(as_frame=True)
    assert len(found) == 1 + len(frame)
    assert all(len(row) == 1 + len(frame.columns) for row in found)


def test_names_in_a_table_are_escaped():
    html = as_html([list(HEADS.values()), ["<b>"] + [""] * (len(HEADS) - 1)])
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_what_has_grown_is_told_below_the_table(stays):
    rows = stays._rows()
    rows[-1]["parameters"] = 2 * rows[-1]["parameters_before"]
    summary = Summary.of(rows)
    note = summary.splitlines()[-1]
    assert note.startswith("The pruned module has")
    assert summary._repr_html_().endswith(f"<p>{note}</p>")


def test_the_diagram_of_the_estimator_has_it_below(stays):
    table = stays.summary()._repr_html_()
    assert stays._repr_html_().endswith(table)
    assert stays._repr_mimebundle_()["text/html"].endswith(table)
    assert "<tbody><tr>" not in SpectralRNNPruner(trajectory_fit=0)._repr_html_()


def test_before_fit_there_is_none():
    with pytest.raises(NotFittedError):
        SpectralRNNPruner(trajectory_fit=0).summary()


def test_a_folded_layer_says_so():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(N_FEATURES, 8, batch_first=True, dtype=torch.float64)
            self.head = linear()

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    frame = SpectralRNNPruner(Net(), m=3, trajectory_fit=0).fit(X).summary(as_frame=True)
    assert frame.loc["rnn.l0", "reconstruction"] == "folded"
    assert frame.loc["rnn.l0", "multiply_adds"] == 12 * (N_FEATURES + 3)


def test_results_print_in_one_line(stays):
    layer = stays.layers_["rnn.l0"]
    assert (
        repr(layer) == f"PrunedLayer(m=3, n_nodes=8, information_loss={layer.information_loss:.2g})"
    )
    assert repr(layer.problem) == f"SelectionProblem(n_nodes=8, total={layer.problem.total:.4g})"
    assert len(repr(layer.guarantee).splitlines()) == 1
