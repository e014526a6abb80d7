"""The number of features of sequences, and what it is compared with."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from test_sequences import HELD, PLAIN, RAGGED, SAME, TOKENS

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
        (PLAIN, PLAIN[:, :3]),
    ],
)
def test_another_number_of_features_is_refused(fitted, given):
    estimator = BaseEstimator()
    check_sequences(fitted, estimator)
    match = rf"X has {np.shape(given[0])[-1]} features, but BaseEstimator is expecting"
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
