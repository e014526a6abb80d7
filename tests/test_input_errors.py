"""What cannot be read as sequences, and how that is said."""

import re

import numpy as np
import pytest
import torch
from networks import N_FEATURES, make_rnn
from torch.utils.data import DataLoader

from skspectral import HiddenStateMoments, SpectralRNNPruner
from skspectral.data.checks import check_sequences

GOOD = np.zeros((4, 5, N_FEATURES))
FORMS = r"an array of shape .* a list of arrays .* or an iterable of batches"


def with_value(X, value):
    X = np.array(X, dtype=float)
    X.flat[-1] = value
    return X


VALUES = {
    "NaN": (with_value(GOOD, np.nan), "(?i)X contains NaN"),
    "infinity": (with_value(GOOD, np.inf), "(?i)X contains infinity"),
    "NaN, two axes": (with_value(GOOD[0], np.nan), "(?i)X contains NaN"),
    "infinity, two axes": (with_value(GOOD[0], -np.inf), "(?i)X contains infinity"),
    "NaN in a list": ([GOOD[0], with_value(GOOD[0, :2], np.nan)], r"(?i)X\[1\] contains NaN"),
    "infinity in a list": ([GOOD[0], with_value(GOOD[0, :2], np.inf)], r"(?i)X\[1\] contains inf"),
    "NaN in a tensor": (torch.as_tensor(with_value(GOOD, np.nan)), "(?i)X contains NaN"),
    "empty list": ([], f"X is empty; .*{FORMS}"),
    "empty array": (GOOD[:0], r"0 sample\(s\)"),
    "no steps": (GOOD[:, :0], r"X of shape \(4, 0, 3\) holds empty sequences; give at least one"),
    "no features": (GOOD[:, :, :0], r"X of shape \(4, 5, 0\) holds empty sequences"),
    "an empty sequence": ([GOOD[0], GOOD[0, :0]], r"X\[1\] is an empty sequence; give"),
    "only empty sequences": ([GOOD[0, :0]] * 2, "holds empty sequences; give at least one"),
    "mixed features": ([GOOD[0], GOOD[0, :2, :2]], r"X\[1\] has 2 features, X\[0\] has 3; give"),
    "mixed axes": ([GOOD[0], GOOD[0, :, 0]], rf"X .*entries of \[1, 2\] axes; .*{FORMS}"),
    "four axes": (GOOD[None], f"X has 4 axes; .*{FORMS}"),
    "sequences and batches": ([GOOD[0], GOOD], rf"X .*entries of \[2, 3\] axes; .*{FORMS}"),
    "one axis": (GOOD[0, 0], "Expected 2D array, got 1D array"),
    "unequal steps": ([[[0.0, 1.0], [0.0]]], rf"X\[0\] is not a sequence of equal steps.*{FORMS}"),
    "complex numbers": (GOOD + 1j, "(?i)complex data not supported"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_cannot_be_used_is_named(name):
    X, match = VALUES[name]
    with pytest.raises(ValueError, match=re.compile(match, re.DOTALL)):
        check_sequences(X)


TYPES = {
    "None": None,
    "string": "sequences",
    "bytes": b"sequences",
    "number": 3.5,
    "dict": {"X": GOOD},
    "set": {1, 2},
    "object": object(),
    "list of strings": ["one", "two"],
    "list of numbers and None": [None, None],
    "list of dicts": [{"x": 1.0}],
}


@pytest.mark.parametrize("name", TYPES)
def test_a_type_that_cannot_be_read_is_told_what_can(name):
    with pytest.raises((TypeError, ValueError), match=re.compile(f"X .*{FORMS}", re.DOTALL)):
        check_sequences(TYPES[name])


class Loaded(list):
    """Batches that a loader hands through as they are."""

    def loader(self):
        return DataLoader(self, batch_size=None, collate_fn=lambda batch: batch)


BATCHES = {
    "string": ("abc", "str"),
    "None": (None, "NoneType"),
    "number": (3, "int"),
    "empty tuple": ((), "tuple"),
    "tuple without tensors": ((1, 2), "tuple"),
    "empty list": ([], "list"),
    "empty dict": ({}, "dict"),
    "dict without tensors": ({"x": 1}, "dict"),
    "dict with numbers for names": ({0: torch.zeros(2, 3, 3)}, "dict"),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("wrap", [iter, Loaded.loader])
def test_a_batch_that_cannot_be_read_is_named(name, before, wrap):
    batch, kind = BATCHES[name]
    X = check_sequences(wrap(Loaded([torch.zeros(2, 5, 3)] * before + [batch])))
    match = rf"X yields {kind} as batch {before}; each batch must be a tensor, a tuple of tensors"
    with pytest.raises(TypeError, match=match):
        list(X.batches(1))


@pytest.mark.parametrize("empty", [iter([]), (x for x in ()), range(0)])
def test_no_batches_at_all_are_refused(empty):
    with pytest.raises(ValueError, match="X yields no batches; give an iterable with at least one"):
        list(check_sequences(empty).batches(1))


@pytest.mark.parametrize("name", VALUES)
def test_a_failed_fit_leaves_a_fitted_pruner_as_it_was(name, rng):
    X = rng.normal(size=(6, 5, N_FEATURES))
    pruner = SpectralRNNPruner(make_rnn(), 3, trajectory_fit=0).fit(X)
    before, expected = dict(vars(pruner)), pruner.transform(X)
    for fit in (pruner.fit, pruner.partial_fit):
        with pytest.raises(ValueError, match=re.compile(".")):
            fit(VALUES[name][0])
    assert vars(pruner).keys() == before.keys()
    assert all(vars(pruner)[key] is value for key, value in before.items())
    np.testing.assert_array_equal(pruner.transform(X), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_streamed_values_that_are_not_finite_are_refused(value):
    X = iter([torch.as_tensor(GOOD), torch.as_tensor(with_value(GOOD, value))])
    match = r"layer 'l0' are not finite on X, .*: first at step 4 of sequence 3 of batch 1\."
    with pytest.raises(ValueError, match=match):
        SpectralRNNPruner(make_rnn("relu"), 3, trajectory_fit=0).fit(X)


@pytest.mark.parametrize("objective", ["combined", "one-step"])
def test_batches_without_sequences_are_refused(objective):
    pruner = SpectralRNNPruner(
        make_rnn(dtype=torch.float32), 3, objective=objective, trajectory_fit=0
    )
    with pytest.raises(ValueError, match=r"no hidden state was seen, .*; give X, or states, with"):
        pruner.fit(iter([torch.zeros(0, 5, N_FEATURES)] * 2))


def test_moments_of_nothing_have_no_covariance():
    for name in ("covariance", "mean", "scale", "whitening"):
        with pytest.raises(ValueError, match=r"no hidden state was seen"):
            getattr(HiddenStateMoments(3), name)
