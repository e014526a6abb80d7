"""What a fit draws from, and what it leaves as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skspectral import (
    Distillation,
    FineTune,
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
)
from skspectral.utils.atomic_fit import same_random_numbers

X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype(np.float32)
Y = (X.sum(axis=(1, 2)) > 0.0).astype(np.int64)


def dense():
    return RNNClassifier(6, max_epochs=2, random_state=0).fit(X, Y)


def drawn_once(state):
    """A generator in a state, after one draw of a seed."""
    expected = copy.deepcopy(state)
    expected.randint(2**31 - 1)
    return expected.get_state()[1:3]


def same_place(state, expected):
    found = state.get_state()[1:3]
    return np.array_equal(found[0], expected[0]) and found[1] == expected[1]


FITS = {
    "trained": lambda state: SpectralRNNPruner(None, 3, random_state=state, trajectory_fit=0),
    "drawn nodes": lambda state: SpectralRNNPruner(
        nn.GRU(2, 6, 2, batch_first=True), 3, solver="random", random_state=state, trajectory_fit=0
    ),
    "repaired": lambda state: SpectralRNNPruner(
        dense(),
        3,
        distill=Distillation(1),
        finetune=FineTune(1),
        random_state=state,
        trajectory_fit=0,
    ),
    "cross-validated": lambda state: SpectralRNNPrunerCV(
        dense(), [2, 4], cv=2, solver="leverage", random_state=state, trajectory_fit=0
    ),
    "gated": lambda state: NeuronSelectionPruner(dense(), training=1, random_state=state),
    "classifier": lambda state: RNNClassifier(6, max_epochs=1, random_state=state),
    "regressor": lambda state: RNNRegressor(6, max_epochs=1, random_state=state),
}


@pytest.mark.parametrize("kind", FITS)
def test_a_fit_draws_from_a_random_state_once(kind):
    state = np.random.RandomState(3)
    expected = drawn_once(state)
    fitted = FITS[kind](state).fit(X, Y)
    assert same_place(state, expected)
    fitted.score(X, Y)
    assert same_place(state, expected)
    assert fitted.random_state is state


def test_partial_fit_draws_once_and_a_random_state_makes_no_other_fit_than_its_copy():
    state, other = np.random.RandomState(3), np.random.RandomState(3)
    pruner = FITS["trained"](state).fit(X, Y)
    again = FITS["trained"](other).fit(X, Y)
    np.testing.assert_array_equal(pruner.predict_proba(X), again.predict_proba(X))
    expected = drawn_once(state)
    pruner.partial_fit(X)
    assert same_place(state, expected)


class Gpus:
    """Generators of two GPUs, which count up."""

    def __init__(self, monkeypatch, in_use):
        self.states, self.seeds, self.asked = [torch.tensor([1]), torch.tensor([2])], [], []
        for name, function in {
            "is_available": lambda: True,
            "is_initialized": lambda: in_use,
            "device_count": lambda: 2,
            "get_rng_state": self.get,
            "set_rng_state": self.set,
            "manual_seed_all": self.seeds.append,
        }.items():
            monkeypatch.setattr(torch.cuda, name, function)

    def get(self, device):
        self.asked.append(int(device))
        return self.states[int(device)].clone()

    def set(self, state, device):
        self.states[int(device)] = state


def test_the_random_numbers_of_every_gpu_stay_as_they_were(monkeypatch):
    gpus = Gpus(monkeypatch, in_use=True)
    with same_random_numbers():
        gpus.states = [torch.tensor([7]), torch.tensor([8])]
    assert [int(state) for state in gpus.states] == [1, 2]
    assert gpus.seeds == []


def test_gpus_that_nobody_uses_are_not_asked_but_start_from_the_seed_of_before(monkeypatch):
    gpus = Gpus(monkeypatch, in_use=False)
    torch.manual_seed(5)
    gpus.seeds.clear()
    with same_random_numbers():
        torch.manual_seed(6)
    assert gpus.asked == []
    assert gpus.seeds[-1] == 5
    assert torch.initial_seed() == 5


@pytest.mark.parametrize("in_use", [True, False])
@pytest.mark.parametrize("kind", ["repaired", "classifier"])
def test_a_fit_leaves_the_random_numbers_of_gpus(kind, in_use, monkeypatch):
    estimator = FITS[kind](0)
    gpus = Gpus(monkeypatch, in_use)

    def seed_all(seed):
        gpus.states = [torch.tensor([seed])] * 2

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_all)
    torch.manual_seed(5)
    estimator.fit(X, Y)
    assert [int(state) for state in gpus.states] == [5, 5]
