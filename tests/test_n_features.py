"""The number of features of sequences, and what it is compared with."""

import numpy as np
import pandas as pd
import pytest
import torch
from networks import make_rnn
from sklearn.base import BaseEstimator
from test_sequences import HELD, PLAIN, RAGGED, RNG, SAME, TOKENS

from skspectral import RNNClassifier, RNNRegressor, SpectralRNNPruner
from skspectral.data.checks import check_sequences


@pytest.mark.parametrize("name", HELD)
def test_the_number_of_features_is_remembered(name):
    X, _, n_features = HELD[name]
    estimator = BaseEstimator()
    check_sequences(X, estimator)
    assert estimator.n_features_in_ == n_features
    check_sequences(X, estimator, reset=False)


@pytest.mark.parametrize(
    ("fitted", "given"),
    [
        (SAME, SAME[:, :, :2]),
        (RAGGED, [x[:, :2] for x in RAGGED]),
        (SAME, [x[:, :2] for x in RAGGED]),
        (PLAIN, SAME),
        (SAME[:, :, :1], SAME),
        (RAGGED, [x[:, 0] for x in RAGGED]),
    ],
)
def test_another_number_of_features_is_refused(fitted, given):
    estimator = BaseEstimator()
    check_sequences(fitted, estimator)
    n_features = given[0].shape[1] if given[0].ndim > 1 else 1
    match = rf"X has {n_features} features, but BaseEstimator is expecting \d .* at every step"
    with pytest.raises(ValueError, match=match):
        check_sequences(given, estimator, reset=False)


@pytest.mark.parametrize(
    ("fitted", "given"),
    [
        (SAME, RAGGED),
        (RAGGED, SAME),
        (RAGGED, RAGGED[:1]),
        ([x[:, 0] for x in RAGGED], [RAGGED[0][:, 0]]),
        ([RAGGED[0][:, 0]], [x[:, 0] for x in RAGGED]),
        (TOKENS, TOKENS[:1]),
        (TOKENS[:1], TOKENS),
        (np.ones((3, 4), dtype=int), np.ones((2, 6), dtype=int)),
        (np.ones((3, 4), dtype=int), TOKENS),
    ],
    ids=[
        *("equal, then ragged", "ragged, then equal", "ragged, then one sequence"),
        *("ragged univariate, then one", "one univariate, then ragged"),
        *("ragged tokens, then one", "one line of tokens, then ragged"),
        *("tokens, then more steps", "tokens, then ragged tokens"),
    ],
)
def test_the_length_of_sequences_in_a_list_is_no_feature(fitted, given):
    estimator = BaseEstimator()
    check_sequences(fitted, estimator)
    assert len(check_sequences(given, estimator, reset=False)) == len(given)


UNIVARIATE = {
    "windows": PLAIN,
    "windows in nested lists": PLAIN.tolist(),
    "an axis of one feature": PLAIN[:, :3, None],
    "longer, with an axis of one feature": np.hstack([PLAIN, PLAIN])[:, :, None],
    "unequal lengths": [x[:, 0] for x in RAGGED],
    "unequal lengths, with an axis of one feature": [x[:, :1] for x in RAGGED],
}


@pytest.mark.parametrize("fitted", [UNIVARIATE["windows"], UNIVARIATE["windows in nested lists"]])
@pytest.mark.parametrize("given", UNIVARIATE)
def test_univariate_sequences_may_have_other_lengths_than_in_fit(fitted, given):
    estimator = BaseEstimator()
    check_sequences(fitted, estimator)
    found = check_sequences(UNIVARIATE[given], estimator, reset=False)
    assert found.n_step_features == 1
    assert found.lengths.tolist() == [len(sequence) for sequence in UNIVARIATE[given]]


@pytest.mark.parametrize("fitted", [PLAIN, PLAIN[:, :, None]])
@pytest.mark.parametrize("n_steps", [1, 3, 8])
def test_windows_of_another_length_are_told_how_to_be_given(fitted, n_steps):
    estimator, given = BaseEstimator(), np.ones((4, n_steps))
    check_sequences(fitted, estimator)
    if n_steps == fitted.shape[-1]:
        assert check_sequences(given, estimator, reset=False).lengths.tolist() == [1] * 4
        return
    match = rf"X has {n_steps} features, .*expecting {fitted.shape[-1]} .*; give X\[:, :, None\]"
    for form in (given, given.tolist(), pd.DataFrame(given), torch.as_tensor(given)):
        with pytest.raises(ValueError, match=match):
            check_sequences(form, estimator, reset=False)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((6, 3), r"X\[None\] if X is a single sequence"),
        ((4, 18), r"X.reshape\(len\(X\), -1, 3\) if each row is a flat sequence"),
        ((4, 7), r"an array of shape \(n_sequences, n_steps, n_features\)"),
    ],
)
def test_a_table_in_place_of_sequences_of_several_features_is_told_how_to_be_given(shape, advice):
    estimator = BaseEstimator()
    check_sequences(np.ones((4, 6, 3)), estimator)
    with pytest.raises(
        ValueError, match=f"has 1 feature at every step.*expecting 3; give {advice}"
    ):
        check_sequences(np.ones(shape), estimator, reset=False)
    check_sequences(np.ones((1, *shape[:1], 3)), estimator, reset=False)


def test_columns_with_names_have_to_be_the_same():
    estimator, frame = BaseEstimator(), pd.DataFrame(PLAIN, columns=list("abcde"))
    check_sequences(frame, estimator)
    with pytest.raises(ValueError, match="feature names should match"):
        check_sequences(frame[["a", "b", "c"]], estimator, reset=False)
    with (
        pytest.warns(UserWarning, match="does not have valid feature names"),
        pytest.raises(ValueError, match="X has 3 features, but BaseEstimator is expecting 5"),
    ):
        check_sequences(PLAIN[:, :3], estimator, reset=False)


WINDOWS = RNG.normal(size=(30, 8))


@pytest.mark.parametrize("kind", [RNNRegressor, RNNClassifier])
@pytest.mark.parametrize("is_pruned", [False, True])
def test_an_estimator_fitted_on_windows_predicts_on_others(kind, is_pruned):
    y = WINDOWS.sum(1) if kind is RNNRegressor else np.arange(30) % 2
    model = kind(8, max_epochs=1, random_state=0).fit(WINDOWS, y)
    if is_pruned:
        model = SpectralRNNPruner(model, m=4, n_refit=0, objective="input", trajectory_fit=0)
        model.fit(WINDOWS)
        assert model.transform(WINDOWS[:, :5, None]).shape == (30, 4)
    found = model.predict(WINDOWS[:, :5, None])
    assert found.shape == (30,)
    np.testing.assert_array_equal(model.predict(WINDOWS[:, :, None]), model.predict(WINDOWS))
    mixed = [row[: 5 + i % 3] for i, row in enumerate(WINDOWS)]
    np.testing.assert_allclose(model.predict(mixed)[::3], found[::3], rtol=1e-5)
    assert model.n_features_in_ == 8


def test_moments_of_windows_of_other_lengths_are_added():
    pruner = SpectralRNNPruner(make_rnn(n_features=1), m=3, n_refit=0, trajectory_fit=0)
    pruner.fit(WINDOWS).partial_fit(WINDOWS[:, :5, None])
    assert pruner.moments_.n_steps == 30 * 13
