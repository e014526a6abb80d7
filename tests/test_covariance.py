"""Streaming moments of the hidden state."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import second_moment

from skspectral import HiddenStateMoments


def sequences(seed, lengths=(3, 1, 7, 4), n_nodes=5):
    rng = np.random.default_rng(seed)
    return [rng.normal(1.0, 2.0, size=(length, n_nodes)) for length in lengths]


def streamed(blocks, n_nodes=5):
    moments = HiddenStateMoments(n_nodes)
    for block in blocks:
        moments.update(block)
    return moments


def assert_same(moments, other):
    assert moments.n_steps == other.n_steps
    np.testing.assert_allclose(moments.covariance, other.covariance, rtol=1e-12)
    np.testing.assert_allclose(moments.mean, other.mean, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_moments_are_those_of_a_loop_over_all_steps(seed):
    blocks = sequences(seed)
    covariance, mean = second_moment(blocks)
    moments = streamed(blocks)
    np.testing.assert_allclose(moments.covariance, covariance, rtol=1e-12)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12)
    assert moments.n_steps == 15


@given(st.lists(st.integers(0, 15), max_size=6), st.integers(0, 99))
def test_any_split_into_blocks_gives_the_same(reductions, seed):
    steps = np.concatenate(sequences(seed))
    assert_same(streamed(np.split(steps, sorted(reductions))), streamed([steps]))


@given(st.permutations(range(15)))
def test_steps_may_come_in_any_order(order):
    steps = np.concatenate(sequences(0))
    assert_same(streamed([steps[order]]), streamed([steps]))


@given(st.integers(0, 4), st.integers(0, 99))
def test_merged_moments_are_joint_moments(cut, seed):
    blocks = sequences(seed)
    merged = streamed(blocks[:cut]).merge(streamed(blocks[cut:]))
    assert_same(merged, streamed(blocks))


def test_merging_leaves_the_other_as_it_was():
    one, other, same = (streamed(sequences(seed)) for seed in (0, 1, 1))
    assert one.merge(other) is one
    one.update(sequences(2)[0])
    assert_same(other, same)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, bool])
def test_sums_are_made_in_double_precision(dtype):
    block = (np.random.default_rng(0).normal(size=(2000, 5)) * 3.0).astype(dtype)
    moments = streamed([block, block])
    assert moments.covariance.dtype == moments.mean.dtype == np.float64
    assert_same(moments, streamed([block.astype(np.float64)] * 2))


@pytest.mark.parametrize("as_type", [torch.as_tensor, np.ndarray.tolist])
def test_a_block_may_be_anything_array_like(as_type):
    blocks = sequences(0)
    assert_same(streamed([as_type(block) for block in blocks]), streamed(blocks))


def test_covariance_is_symmetric_positive_semidefinite():
    covariance = streamed(sequences(0, lengths=(3,))).covariance
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() >= -1e-12 * np.trace(covariance)


@pytest.mark.parametrize("n_nodes", [1, 4, 6])
def test_moments_of_other_nodes_are_refused_and_change_nothing(n_nodes):
    moments, same = streamed(sequences(0)), streamed(sequences(0))
    with pytest.raises(ValueError, match=f"other holds the moments of {n_nodes} nodes, .* of 5"):
        moments.merge(HiddenStateMoments(n_nodes))
    assert_same(moments, same)


@pytest.mark.parametrize("shape", [(3, 4), (3, 6), (3, 1)])
def test_states_of_other_nodes_are_refused_and_change_nothing(shape):
    moments, same = streamed(sequences(0)), streamed(sequences(0))
    with pytest.raises(ValueError, match=r"nodes|broadcast"):
        moments.update(np.ones(shape))
    assert_same(moments, same)
