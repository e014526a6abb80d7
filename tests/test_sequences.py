"""Every accepted form of X, and one message for everything else."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import N_FEATURES, make_rnn
from oracles import run_layer, second_moment
from torch.utils.data import DataLoader, Dataset, TensorDataset

from skspectral import SpectralRNNPruner
from skspectral.data.checks import check_sequences
from skspectral.data.sequences import in_order

RNG = np.random.default_rng(0)
SAME = RNG.normal(size=(7, 5, N_FEATURES))
PLAIN = RNG.normal(size=(7, 5))
RAGGED = [RNG.normal(size=(n, N_FEATURES)) for n in (4, 2, 5, 2, 1, 4, 4)]
TOKENS = [RNG.integers(0, 9, size=n) for n in (4, 2, 2, 6)]


def as_objects(sequences):
    array = np.empty(len(sequences), dtype=object)
    array[:] = sequences
    return array


# Form of X, the sequences it holds, and its number of features.
HELD = {
    "three axes": (SAME, SAME, N_FEATURES),
    "three axes, nested lists": (SAME.tolist(), SAME, N_FEATURES),
    "two axes": (PLAIN, PLAIN, 5),
    "two axes, nested lists": (PLAIN.tolist(), PLAIN, 5),
    "one sequence": (SAME[:1], SAME[:1], N_FEATURES),
    "one step": (SAME[:, :1], SAME[:, :1], N_FEATURES),
    "float32": (SAME.astype(np.float32), SAME.astype(np.float32), N_FEATURES),
    "integers": (np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4), 4),
    "data frame": (pd.DataFrame(PLAIN), PLAIN, 5),
    "tensor": (torch.as_tensor(SAME), SAME, N_FEATURES),
    "tensor that wants a gradient": (torch.tensor(SAME, requires_grad=True), SAME, N_FEATURES),
    "equal-length list": (list(SAME), SAME, N_FEATURES),
    "equal-length tuple": (tuple(SAME), SAME, N_FEATURES),
    "ragged list": (RAGGED, RAGGED, N_FEATURES),
    "ragged tuple": (tuple(RAGGED), RAGGED, N_FEATURES),
    "ragged nested lists": ([x.tolist() for x in RAGGED], RAGGED, N_FEATURES),
    "ragged tensors": ([torch.as_tensor(x) for x in RAGGED], RAGGED, N_FEATURES),
    "ragged tensors that want a gradient": (
        [torch.tensor(x, requires_grad=True) for x in RAGGED],
        RAGGED,
        N_FEATURES,
    ),
    "object array": (as_objects(RAGGED), RAGGED, N_FEATURES),
    "object array of equal lengths": (as_objects(list(SAME)), SAME, N_FEATURES),
    "ragged univariate": ([x[:, 0] for x in RAGGED], [x[:, :1] for x in RAGGED], 1),
    "ragged tokens": (TOKENS, TOKENS, 1),
}


class Steps(Dataset):
    def __len__(self):
        return len(SAME)

    def __getitem__(self, i):
        return torch.as_tensor(SAME[i])


TENSOR, LABELS = torch.as_tensor(SAME), torch.arange(7)
# Form of X, and the arguments of forward that each batch of four becomes.
STREAMED = {
    "dataset": (Steps, 7, lambda x, y: (x,)),
    "dataset of labeled pairs": (lambda: TensorDataset(TENSOR, LABELS), 7, lambda x, y: (x,)),
    "loader": (lambda: DataLoader(Steps(), batch_size=4), 4, lambda x, y: (x,)),
    "loader of labeled pairs": (
        lambda: DataLoader(TensorDataset(TENSOR, LABELS), batch_size=4),
        4,
        lambda x, y: (x,),
    ),
    "loader of dicts": (
        lambda: DataLoader([{"x": x, "y": y} for x, y in zip(TENSOR, LABELS, strict=True)], 4),
        4,
        lambda x, y: {"x": x, "y": y},
    ),
    "loader of tuples": (
        lambda: DataLoader(TensorDataset(TENSOR, LABELS), 4, collate_fn=stacked),
        4,
        lambda x, y: (x, y),
    ),
    "generator of tensors": (lambda: (x for x in TENSOR.split(4)), 4, lambda x, y: (x,)),
    "generator of arrays": (lambda: (x.numpy() for x in TENSOR.split(4)), 4, lambda x, y: (x,)),
    "generator of tuples": (
        lambda: zip(TENSOR.split(4), LABELS.split(4), strict=True),
        4,
        lambda x, y: (x, y),
    ),
}


def stacked(pairs):
    return tuple(torch.stack(parts) for parts in zip(*pairs, strict=True))


def assert_same_batch(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = found.values(), expected.values()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_hold_every_sequence_once_and_one_length_each(name, batch_size):
    X, expected, n_features = HELD[name]
    sequences, seen = check_sequences(X), {}
    for index, batch in sequences.batches(batch_size):
        assert 0 < len(index) == len(batch) <= batch_size
        seen |= dict(zip(index.tolist(), batch, strict=True))
    assert sorted(seen) == list(range(len(expected))) == list(range(len(sequences)))
    assert sequences.lengths.tolist() == [len(x) for x in expected]
    assert sequences.n_features == n_features
    for i, sequence in enumerate(expected):
        np.testing.assert_array_equal(seen[i], sequence)


@pytest.mark.parametrize("name", STREAMED)
def test_batches_of_others_become_the_arguments_of_forward(name):
    make, size, arguments = STREAMED[name]
    found = list(check_sequences(make()).batches(2))
    assert [index for index, _ in found] == [None] * len(found)
    pairs = zip(TENSOR.split(size), LABELS.split(size), strict=True)
    for (_, batch), (x, y) in zip(found, pairs, strict=True):
        assert_same_batch(batch, arguments(x, y))


@pytest.mark.parametrize("name", ["loader", "loader of labeled pairs", "dataset"])
def test_a_loader_can_be_walked_through_again(name):
    batches = check_sequences(STREAMED[name][0]())
    first, again = (list(batches.batches(1)) for _ in range(2))
    assert len(first) == len(again) > 0


@pytest.mark.parametrize(
    ("X", "dtype"),
    [
        (SAME, np.float64),
        (SAME.astype(np.float32), np.float32),
        ([x.astype(np.float32) for x in RAGGED], np.float32),
        ([RAGGED[0], RAGGED[1].astype(np.float32)], np.float64),
        (TOKENS, np.float64),
        (SAME.astype(np.float16), np.float64),
    ],
)
def test_results_have_the_floating_type_of_x(X, dtype):
    assert check_sequences(X).dtype == dtype


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(1, 5))
def test_results_come_back_in_the_order_of_x(lengths, batch_size):
    X = [np.full((n, 2), i) for i, n in enumerate(lengths)]
    batches = list(check_sequences(X).batches(batch_size))
    assert in_order([(index, batch[:, 0, 0]) for index, batch in batches]).tolist() == [
        *range(len(X))
    ]
    for found, expected in zip(in_order(batches), X, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("m", [2, 7])
@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_a_ragged_list_has_the_moments_of_each_sequence_alone(cell, m):
    rnn = make_rnn(cell)
    pruner = SpectralRNNPruner(rnn, m, batch_size=2, trajectory_fit=0).fit(RAGGED)
    covariance, mean = second_moment([run_layer(rnn, x[None])[0] for x in RAGGED])
    np.testing.assert_allclose(pruner.covariance_, covariance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pruner.mean_, mean, rtol=0, atol=1e-12)
    assert pruner.moments_.n_steps == sum(map(len, RAGGED))
    alone = np.concatenate([pruner.transform([x]) for x in RAGGED])
    np.testing.assert_allclose(pruner.transform(RAGGED), alone, atol=1e-6)


@pytest.mark.parametrize("name", ["dataset", "loader", "loader of labeled pairs"])
def test_streamed_batches_have_the_moments_of_the_array(name):
    rnn = make_rnn()
    held = SpectralRNNPruner(rnn, 3, objective="one-step", trajectory_fit=0).fit(SAME)
    streamed = SpectralRNNPruner(rnn, 3, objective="one-step", trajectory_fit=0).fit(
        STREAMED[name][0]()
    )
    np.testing.assert_allclose(streamed.covariance_, held.covariance_, rtol=0, atol=1e-12)
    assert streamed.support_.tolist() == held.support_.tolist()
    assert streamed.n_features_in_ == held.n_features_in_
