"""A few of the calibration sequences, drawn evenly."""

import numpy as np
import pytest
import torch

from skspectral.data.checks import check_sequences
from skspectral.data.sampling import (
    Reservoir,
    count_sequences,
    hold_out_fraction,
    sample_batches,
    take_sequences,
)

RAGGED = [np.full((2 + i % 3, 1), float(i)) for i in range(50)]


def seed(value=0):
    return np.random.RandomState(value)


@pytest.mark.parametrize("n_sequences", [1, 20, 50, 1000])
def test_sequences_are_drawn_once_each(n_sequences):
    batches = sample_batches(check_sequences(RAGGED), n_sequences, 8, seed())
    drawn = [sequence[0, 0] for batch in batches for sequence in batch]
    assert len(set(drawn)) == len(drawn) == min(n_sequences, 50)
    assert max(map(len, batches)) <= 8


def test_batches_of_one_length_do_not_come_together():
    lengths = [batch.shape[1] for batch in sample_batches(check_sequences(RAGGED), 50, 2, seed())]
    assert lengths != sorted(lengths)


def test_a_reservoir_keeps_every_batch_with_the_same_probability():
    kept = np.zeros(20)
    for value in range(1500):
        reservoir = Reservoir(8, seed(value))
        passing = [(None, (torch.full((2, 1), float(i)),)) for i in range(20)]
        assert list(reservoir.tee(passing)) == passing
        assert len(reservoir.batches) == 4
        kept[[int(batch[0][0]) for batch in reservoir.batches]] += 1
    deviation = np.sqrt(1500 * 0.2 * 0.8)
    assert (np.abs(kept - 1500 * 0.2) < 4.0 * deviation).all()


def test_a_reservoir_of_no_sequences_keeps_nothing():
    reservoir = Reservoir(0, seed())
    assert len(list(reservoir.tee([(None, torch.zeros(2, 1))] * 5))) == 5
    assert reservoir.batches == []


@pytest.mark.parametrize(
    ("n_batches", "fraction", "n_held"),
    [(10, 0.2, 2), (3, 0.1, 1), (1, 0.5, 0), (5, 0.0, 0), (2, 0.9, 1)],
)
def test_the_last_batches_are_held_out(n_batches, fraction, n_held):
    used, held = hold_out_fraction(list(range(n_batches)), fraction)
    assert used + held == list(range(n_batches))
    assert len(held) == n_held


def test_first_takes_what_completes_the_number():
    batches = [np.zeros((4, 2)), np.zeros((3, 2)), np.zeros((5, 2))]
    assert [len(take_sequences(batches, n)) for n in (0, 1, 4, 5, 7, 8, 100)] == [
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


@pytest.mark.parametrize(
    "batch",
    [np.zeros((6, 2)), (torch.zeros(6, 2), 3), {"a": torch.tensor(1.0), "b": torch.ones(6)}],
)
def test_sequences_of_a_batch_are_counted_by_its_first_array(batch):
    assert count_sequences(batch) == 6
