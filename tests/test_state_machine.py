"""Any order of calls, any input, any number of threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from oracles import second_moment
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from skspectral import HiddenStateMoments, SpectralRNNPruner, load_pruned, save_pruned
from skspectral.data.checks import check_sequences

N_NODES = 8


def network(n_features):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(n_features)
        return nn.GRU(n_features, N_NODES, batch_first=True)


def sequences(n_features, seed, n_sequences=24, n_steps=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_sequences, n_steps, n_features)).astype(np.float32)


FEATURES, SEEDS = st.integers(1, 3), st.integers(0, 9)


class PrunerMachine(RuleBasedStateMachine):
    """What a pruner knows is always what a fresh one knows that was fitted to the same."""

    @initialize(n_features=FEATURES)
    def make(self, n_features):
        self.n_features = n_features
        self.pruner = SpectralRNNPruner(
            network(n_features), 3, objective="one-step", n_refit=0, trajectory_fit=0
        )
        self.seen = []  # sequences of the fit, and m at that time
        self.m = None

    @rule(seed=SEEDS, n_features=FEATURES)
    def fit(self, seed, n_features):
        self.n_features = n_features
        self.pruner.set_params(estimator=network(n_features))
        self.seen, self.m = [sequences(n_features, seed)], self.pruner.m
        assert self.pruner.fit(self.seen[0]) is self.pruner

    @rule(seed=SEEDS, n_steps=st.integers(1, 5))
    def partial_fit(self, seed, n_steps):
        if not self.seen:
            self.n_features = self.pruner.estimator.input_size
        self.seen.append(sequences(self.n_features, seed, n_steps=n_steps))
        self.m = self.pruner.m
        self.pruner.partial_fit(self.seen[-1])

    @rule(m=st.integers(1, N_NODES))
    def set_params(self, m):
        self.pruner.set_params(m=m)

    @rule(m=st.sampled_from([0, N_NODES + 1, -1.0, "all", None, True]))
    def fit_with_a_bad_m(self, m):
        before = self.pruner.m
        self.pruner.set_params(m=m)
        with pytest.raises((ValueError, TypeError), match="m must be"):
            self.pruner.fit(sequences(self.pruner.estimator.input_size, 0))
        self.pruner.set_params(m=before)

    @rule(n_more=st.integers(1, 3))
    def fit_to_other_features(self, n_more):
        X = sequences(self.pruner.estimator.input_size + n_more, 0)
        with pytest.raises(ValueError, match=r"does not go through GRU|expecting"):
            self.pruner.fit(X)
        if self.seen:
            with pytest.raises(ValueError, match="expecting"):
                self.pruner.partial_fit(X)

    @rule(how=st.sampled_from([copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]))
    def copy(self, how):
        self.pruner = how(self.pruner)

    @rule()
    def clone(self):
        fresh = clone(self.pruner)
        assert fresh.get_params(deep=False).keys() == self.pruner.get_params(deep=False).keys()
        with pytest.raises(NotFittedError):
            fresh.transform(sequences(self.n_features, 0))

    @precondition(lambda machine: not machine.seen)
    @rule()
    def transform_unfitted(self):
        with pytest.raises(NotFittedError):
            self.pruner.transform(sequences(self.n_features, 0))

    @precondition(lambda machine: machine.seen)
    @rule(seed=SEEDS)
    def transform(self, seed):
        X = sequences(self.n_features, seed)
        states = self.pruner.transform(X)
        assert states.shape == (len(X), self.m)
        small = self.pruner.pruned_module_
        with torch.no_grad():
            expected = small(torch.from_numpy(X))[0][:, -1].numpy()
        np.testing.assert_allclose(states, expected, atol=1e-6)

    @invariant()
    def knows_what_it_has_seen(self):
        if not self.seen:
            assert not hasattr(self.pruner, "moments_")
            return
        module, states = self.pruner.estimator_, []
        with torch.no_grad():
            for X in self.seen:
                states += list(module(torch.from_numpy(X))[0].double().numpy())
        covariance, mean = second_moment(states)
        np.testing.assert_allclose(self.pruner.covariance_, covariance, atol=1e-6)
        np.testing.assert_allclose(self.pruner.mean_, mean, atol=1e-6)
        assert self.pruner.m_ == self.m
        assert self.pruner.pruned_module_.hidden_size == self.m


def test_any_order_of_calls():
    run_state_machine_as_test(
        PrunerMachine,
        settings=settings(max_examples=25, stateful_step_count=15, deadline=None),
    )


# Input of all kinds

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)
)
ARRAYS = numpy_strategies.arrays(
    dtype=st.one_of(
        numpy_strategies.scalar_dtypes(),
        st.just(np.dtype(object)),
        numpy_strategies.unicode_string_dtypes(),
    ),
    shape=numpy_strategies.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
)
NESTED = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
        st.sets(st.integers(), max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(NESTED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_input_of_any_kind_is_read_or_refused_in_our_words(value):
    try:
        found = check_sequences(value)
    except (ValueError, TypeError) as error:
        refused = str(error)
    else:
        refused = None
        assert all(len(batch) > 0 for _, batch in found.batches(2))
    assert refused is None or "X" in refused


# Threads


@pytest.mark.parametrize("ragged", [False, True])
def test_threads_may_share_a_fitted_pruner(ragged):
    data = [sequences(2, seed, n_sequences=40, n_steps=12) for seed in range(8)]
    pruner = SpectralRNNPruner(network(2), 3, batch_size=4, trajectory_fit=0).fit(data[0])
    if ragged:
        data = [[x[: 3 + i % 9] for i, x in enumerate(X)] for X in data]
    expected = [pruner.transform(X) for X in data]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(pruner.transform, data * 4))
    for states, serial in zip(found, expected * 4, strict=True):
        np.testing.assert_array_equal(states, serial)


# Files that are something else


@pytest.mark.parametrize("content", [b"", b"x" * 50, pickle.dumps(print), b"\x02" + bytes(40)])
def test_files_that_are_something_else_are_refused(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds no pruned module of version 2; give a file that"):
        load_pruned(path, into=network(2))
    with pytest.raises(ValueError, match=r"holds no moments of hidden states of version 1; give a"):
        HiddenStateMoments.load(path)


def test_a_file_of_one_kind_is_none_of_the_other(tmp_path):
    HiddenStateMoments(3).save(tmp_path / "moments")
    save_pruned(network(2), tmp_path / "module")
    with pytest.raises(ValueError, match="holds no pruned module"):
        load_pruned(tmp_path / "moments", into=network(2))
    with pytest.raises(ValueError, match="holds no moments"):
        HiddenStateMoments.load(tmp_path / "module")


def test_a_file_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        HiddenStateMoments.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        load_pruned(tmp_path / "nothing", into=network(2))
