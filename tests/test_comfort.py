"""What people read: notes on errors, progress, one line at the end, versions."""

import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from models import STAYS, Stack
from networks import N_FEATURES, make_rnn
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import skspectral
from skspectral import (
    RNNClassifier,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
    error_propagation,
    load_pruned,
)
from skspectral.inspection import LossPathDisplay

ROOT = Path(skspectral.__file__).parent
GUIDE = ROOT.parent / "docs" / "user_guide"


def sequences(n=12, n_steps=5):
    return np.random.default_rng(0).normal(size=(n, n_steps, N_FEATURES))


def pruner(**params):
    return SpectralRNNPruner(make_rnn(), **({"m": 3} | params), trajectory_fit=0)


def titles():
    """First heading of every page of the user guide."""
    pages = (page.read_text() for page in GUIDE.glob("*.rst"))
    return {re.search(r"^(\S.*)\n=+$", page, re.MULTILINE).group(1) for page in pages}


def test_every_page_that_an_error_names_is_there():
    found = [
        title
        for path in ROOT.rglob("*.py")
        for title in re.findall(r"refer_to_docs\(\"(.+?)\"\)", path.read_text())
    ]
    assert len(found) > 10
    assert set(found) <= titles()


FAILURES = {
    "X": (lambda: pruner().fit(np.zeros(3)), "Sequences and shapes"),
    "m": (lambda: pruner(m=80).fit(sequences()), "How many nodes"),
    "m by layer": (lambda: pruner(m={"other": 2}).fit(sequences()), "How many nodes"),
    "tol": (lambda: pruner(tol=3.0).fit(sequences()), "How many nodes"),
    "solver": (lambda: pruner(solver="gready").fit(sequences()), "Solvers and certificates"),
    "objective": (lambda: pruner(objective=3).fit(sequences()), "Losses and reconstruction"),
    "distill": (lambda: pruner(distill=-1).fit(sequences()), "Repair and fine-tuning"),
    "finetune": (lambda: pruner(finetune=-1).fit(sequences()), "Repair and fine-tuning"),
    "n_jobs": (lambda: pruner(n_jobs=0).fit(sequences()), "Large data and large models"),
    "estimator": (
        lambda: SpectralRNNPruner(nn.Linear(3, 3), trajectory_fit=0).fit(sequences()),
        "Whole models",
    ),
    "no module": (lambda: SpectralRNNPruner(3, trajectory_fit=0).fit(sequences()), "Whole models"),
    "theory": (
        lambda: error_propagation(pruner().fit(sequences()), sequences()),
        "Theoretical bounds",
    ),
    "display": (
        lambda: LossPathDisplay.from_estimator(pruner().fit(sequences()), layer="l7"),
        "Reading the plots",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_names_the_page_that_explains_it_once(name):
    fail, page = FAILURES[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        fail()
    assert caught.value.__notes__ == [f"See the page {page!r} of the user guide."]
    assert traceback.format_exception(caught.value)[-1].endswith("of the user guide.\n")


def test_a_file_of_something_else_names_its_page():
    with pytest.raises(ValueError, match="save_pruned") as caught:
        load_pruned(Path(__file__), into=make_rnn())
    assert caught.value.__notes__ == ["See the page 'Deployment' of the user guide."]


PHASES = ("hidden states", "sensitivity", "selection", "refit", "distillation", "fine-tuning")


def test_verbose_shows_a_bar_of_each_phase_and_one_line_at_the_end(capsys):
    torch.manual_seed(0)
    net = Stack("gru", 2, False, True, True, "every step").eval()
    fit = SpectralRNNPruner(
        net, m=3, distill=1, finetune=1, random_state=0, verbose=1, trajectory_fit=0
    )
    fit.fit(sequences(), np.zeros((12, 5, 2)))
    shown = capsys.readouterr()
    places = [shown.err.index(f"{phase}:") for phase in PHASES]
    assert places == sorted(places)
    (line,) = shown.out.splitlines()
    before = sum(parameter.numel() for parameter in net.parameters())
    assert line.startswith(
        f"SpectralRNNPruner kept 6 of 16 nodes: {before:,} to {fit.n_parameters_:,} parameters, "
    )
    for loss in (*fit.information_loss_.values(), *fit.loss_lower_bound_.values()):
        assert f"{loss:.2g}" in line


@pytest.mark.parametrize("params", [{}, {"verbose": 0}])
def test_without_verbose_nothing_is_shown(params, capsys):
    fit = pruner(**params).fit(sequences())
    fit.partial_fit(sequences())
    fit.transform(sequences())
    assert capsys.readouterr() == ("", "")


def test_a_search_tells_its_outcome_too(capsys):
    search = SpectralRNNPrunerCV(make_rnn(), ms=[2, 3], cv=2, verbose=1, trajectory_fit=0).fit(
        sequences()
    )
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith(f"SpectralRNNPrunerCV kept {search.m_} of 7 nodes")


def test_versions_are_those_that_run(capsys):
    skspectral.show_versions()
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert found["skspectral"] == skspectral.__version__
    assert found["scikit-learn"] == sklearn.__version__
    assert found["numpy"] == np.__version__
    assert found["torch"] == torch.__version__
    assert {"python", "platform", "scipy", "skorch", "cuda"} <= found.keys()


def test_what_is_seldom_needed_is_loaded_when_it_is():
    rare = ("matplotlib", "skorch", "dask", "distributed", "scipy.signal", "onnx")
    code = f"import sys, skspectral; print([name for name in {rare} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"


# Batches in a list


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = make_rnn(), nn.Linear(7, 2, dtype=torch.float64)

    def forward(self, x, scale):
        return scale * self.head(self.rnn(x)[0])


@pytest.mark.parametrize("kind", [tuple, dict])
def test_a_list_of_batches_is_read_as_their_generator_is(kind):
    torch.manual_seed(0)
    x = torch.as_tensor(sequences())
    batches = [(part, torch.ones(1, dtype=torch.float64)) for part in x.split(4)]
    if kind is dict:
        batches = [dict(zip(("x", "scale"), batch, strict=True)) for batch in batches]
    net = Scaled().eval()
    listed, walked = (
        SpectralRNNPruner(net, m=3, trajectory_fit=0).fit(X) for X in (batches, iter(batches))
    )
    assert listed.moments_.n_steps == 60
    np.testing.assert_array_equal(listed.covariance_, walked.covariance_)
    np.testing.assert_array_equal(listed.support_, walked.support_)


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
@pytest.mark.filterwarnings(STAYS)
def test_tuples_of_numbers_are_sequences_as_before():
    rows = [(0.0, 1.0, 2.0), (1.0, 0.0, 1.0)]
    fit = SpectralRNNPruner(make_rnn(n_features=1), m=3, trajectory_fit=0).fit(rows)
    assert fit.moments_.n_steps == 6


# What could be known before anything is trained


class Untrainable(RNNClassifier):
    def fit(self, X, y):
        raise AssertionError("it was trained")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectralRNNPruner(m=129, trajectory_fit=0), "m must be an int from 1 to 128"),
        (
            lambda: SpectralRNNPruner(Untrainable(16), m=17, trajectory_fit=0),
            "m must be an int from 1 to 16",
        ),
        (
            lambda: SpectralRNNPrunerCV(Untrainable(16), ms=[4, 20], trajectory_fit=0),
            r"ms\[1\] must be an int from 1 to 16",
        ),
    ],
    ids=["default", "ours", "search"],
)
def test_too_many_nodes_are_refused_before_training(make, message):
    with pytest.raises(ValueError, match=message):
        make().fit(sequences(), np.arange(12) % 2)


def test_a_gap_in_a_sequence_is_told_in_one_sentence():
    X = sequences()
    X[3, 2] = np.nan
    rows = X[:, :, 0]
    for given in (X, rows, list(X)):
        with pytest.raises(ValueError, match=r"contains NaN.*fill the gaps") as caught:
            SpectralRNNPruner(RNNClassifier(16), m=4, trajectory_fit=0).fit(
                given, np.arange(12) % 2
            )
        assert "HistGradientBoosting" not in str(caught.value)


def test_columns_of_other_names_are_told_without_forms():
    frame = pd.DataFrame(sequences()[:, :, 0], columns=list("abcde"))
    fit = SpectralRNNPruner(RNNClassifier(8, max_epochs=1), m=4, trajectory_fit=0).fit(
        frame, np.arange(12) % 2
    )
    with pytest.raises(ValueError, match="feature names") as caught:
        fit.predict(frame.rename(columns={"a": "z"}))
    assert "iterable of batches" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
def test_packed_sequences_are_batches():
    torch.manual_seed(0)
    net, pieces = (
        make_rnn(),
        [torch.as_tensor(each[: 2 + i % 4]) for i, each in enumerate(sequences())],
    )
    packed = [pack_sequence(pieces[i : i + 4], enforce_sorted=False) for i in range(0, 12, 4)]
    plain = SpectralRNNPruner(net, m=3, trajectory_fit=0).fit(pieces)
    for X in (packed, iter(packed), [(each,) for each in packed]):
        fit = SpectralRNNPruner(net, m=3, trajectory_fit=0).fit(X)
        assert fit.n_features_in_ == N_FEATURES
        np.testing.assert_allclose(fit.covariance_, plain.covariance_, rtol=1e-12)
    first = SpectralRNNPruner(net, m=3, trajectory_fit=0).fit(packed[0])
    assert first.moments_.n_steps == sum(len(each) for each in pieces[:4])


def test_a_compiled_module_is_pruned_as_what_it_was_made_of():
    torch.manual_seed(0)
    net = make_rnn()
    compiled = torch.compile(net, backend="eager")
    found, plain = (
        SpectralRNNPruner(each, m=3, trajectory_fit=0).fit(sequences()) for each in (compiled, net)
    )
    assert type(found.pruned_module_) is nn.GRU
    np.testing.assert_array_equal(found.support_, plain.support_)


def test_sequences_that_do_not_go_through_name_their_page():
    with pytest.raises(ValueError, match="does not go through") as caught:
        SpectralRNNPruner(make_rnn(), m=3, trajectory_fit=0).fit(np.zeros((4, 5, N_FEATURES + 1)))
    assert caught.value.__notes__ == ["See the page 'Sequences and shapes' of the user guide."]
