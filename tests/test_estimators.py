"""The recurrent classifier and regressor."""

import numpy as np
import pytest
import torch

from skspectral import RNNClassifier, RNNRegressor
from skspectral.training.network import CELLS, make_layer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 7, 2))
TOTAL = X.sum(axis=(1, 2))
LABELS = np.where(TOTAL > 0, "up", "down")
RAGGED = [sequence[: 2 + i % 6] for i, sequence in enumerate(X)]
FAST = {"hidden_size": 12, "max_epochs": 40, "lr": 1e-2, "random_state": 0}


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_both_tasks(cell):
    assert RNNClassifier(cell=cell, **FAST).fit(X, LABELS).score(X, LABELS) > 0.9
    assert RNNRegressor(cell=cell, **FAST).fit(X, TOTAL).score(X, TOTAL) > 0.9


def test_an_irnn_is_a_relu_network_that_starts_as_the_identity():
    layer = make_layer("irnn", 2, 5)
    assert layer.nonlinearity == "relu"
    assert torch.equal(layer.weight_hh_l0, torch.eye(5))
    assert not layer.bias_hh_l0.any()


def test_sequences_of_unequal_length_are_learned_and_answered_as_each_alone():
    labels = np.array([sequence.sum() > 0 for sequence in RAGGED])
    model = RNNClassifier(**FAST).fit(RAGGED, labels)
    assert model.score(RAGGED, labels) > 0.9
    together = model.predict_proba(RAGGED)
    for row, sequence in zip(together, RAGGED, strict=True):
        np.testing.assert_array_equal(row, model.predict_proba([sequence])[0])


def test_padding_does_not_reach_the_answer():
    module = RNNClassifier(**FAST).fit(RAGGED, LABELS).module_
    lengths = torch.tensor([len(sequence) for sequence in RAGGED])
    padded = torch.zeros(len(RAGGED), 7, 2)
    for row, sequence in zip(padded, RAGGED, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    answers = module(padded, lengths)
    for answer, sequence in zip(answers, RAGGED, strict=True):
        torch.testing.assert_close(answer, module(torch.tensor(sequence).float()[None])[0])


@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_same_seed_gives_the_same_network(kind):
    y = LABELS if kind is RNNClassifier else TOTAL
    first, second, other = (
        kind(4, max_epochs=2, random_state=seed).fit(X, y).module_.state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_early_stopping_keeps_the_best_weights():
    noise = RNG.permutation(LABELS)
    model = RNNClassifier(
        16, max_epochs=200, lr=2e-2, early_stopping=True, patience=3, random_state=0
    ).fit(X, noise)
    losses = model.history_["valid_loss"]
    assert model.n_iter_ == len(losses) < 200
    assert model.n_iter_ - 1 - int(np.argmin(losses)) == 3


def test_several_targets_of_any_scale():
    targets = np.stack([1e3 * TOTAL + 1e4, -1e-3 * TOTAL], axis=1)
    model = RNNRegressor(**FAST).fit(X, targets)
    assert model.predict(X).shape == (60, 2)
    assert model.score(X, targets) > 0.9


def test_a_constant_target_is_predicted():
    model = RNNRegressor(4, max_epochs=20, lr=2e-2, random_state=0).fit(X, np.full(60, 3.0))
    np.testing.assert_allclose(model.predict(X), 3.0, atol=0.2)


def test_one_progress_bar_for_the_training(capsys):
    RNNClassifier(4, max_epochs=2, random_state=0, verbose=1).fit(X, LABELS)
    assert "training GRU" in capsys.readouterr().err
    RNNClassifier(4, max_epochs=2, random_state=0).fit(X, LABELS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"cell": "elman"}, ValueError, "cell must be one of gru, irnn, lstm, tanh; got 'elman'"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be an int of at least 1; got 0"),
        ({"max_epochs": 2.5}, TypeError, r"max_epochs must be an int of at least 1; got 2\.5"),
        ({"lr": -1.0}, ValueError, r"lr must be a number between 0 and 1; got -1\.0"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be a number between"),
    ],
)
def test_bad_parameters_are_named(params, error, message):
    with pytest.raises(error, match=message):
        RNNClassifier(**params).fit(X, LABELS)


def test_batches_of_somebody_else_are_refused():
    with pytest.raises(TypeError, match="X is an iterable of batches, which RNNClassifier cannot"):
        RNNClassifier().fit(iter([X]), LABELS)
