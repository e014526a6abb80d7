"""What is said of sequences that the choice was not made from."""

import warnings

import numpy as np
import pytest
import torch
from networks import N_FEATURES, collector_of
from torch import nn

from skspectral import FineTune, HiddenStateMoments, SpectralRNNPruner
from skspectral.pruners.held_out import are_too_few, held_out_loss, moments_of

X = np.random.default_rng(0).normal(size=(200, 8, N_FEATURES)).astype(np.float32)
N_NODES = 16


def pruner(n=200, **options):
    torch.manual_seed(0)
    rnn = nn.GRU(N_FEATURES, N_NODES, batch_first=True)
    return SpectralRNNPruner(rnn, **{"m": 6} | options, trajectory_fit=0), X[:n]


@pytest.mark.parametrize("kind", ["linear", "affine", "none"])
def test_the_loss_is_that_of_a_pruner_of_the_other_sequences_on_these(kind):
    whole, data = pruner(reconstruction=kind, objective="input")
    whole.fit(data)
    some, others = data[:30], data[30:]
    moments = moments_of(collector_of(whole.estimator_), [some])["l0"]
    (layer,) = whole.layers_.values()
    found = held_out_loss(layer, whole.moments_, moments)
    other, _ = pruner(reconstruction=kind, objective="input", m=N_NODES)
    other.fit(others)
    again = layer.made_from(other.covariance_, other.mean_)
    assert found == pytest.approx(again.loss_on(moments.covariance, moments.mean), rel=1e-6)
    states = whole.estimator_(torch.as_tensor(some))[0].detach().double().numpy().reshape(-1, 16)
    rebuilt = states[:, layer.support] @ again.reconstruction.T + again.intercept
    expected = np.square(states - rebuilt).sum() / np.square(states).sum()
    assert found == pytest.approx(expected, rel=1e-4)


def test_of_many_sequences_it_is_about_the_loss():
    each, data = pruner()
    fitted = each.fit(data)
    assert 0.5 < fitted.held_out_loss_ / fitted.information_loss_ < 2.0
    frame = fitted.summary(as_frame=True)
    assert frame.loc["l0", "held_out_loss"] == fitted.held_out_loss_
    assert f"{fitted.held_out_loss_:.2g}" in fitted.summary()


@pytest.mark.parametrize("n", [2, 4])
def test_few_steps_are_warned_of_with_the_loss_on_others(n):
    each, data = pruner(n, m=12)
    rule = rf"Layer 'l0' has 16 nodes and saw {8 * n} steps, .* on sequences held out\. Give more"
    with pytest.warns(UserWarning, match=rule):
        each.fit(data)
    assert each.held_out_loss_ > 2.0 * each.information_loss_


def test_fewer_steps_than_nodes_are_warned_of_whatever_they_show():
    """States that are all the same are rebuilt everywhere, as far as is known."""
    each, data = pruner()
    with pytest.warns(UserWarning, match="saw 12 steps"):
        each.fit(np.zeros_like(data[:4, :3]))


def test_few_steps_that_others_vouch_for_are_enough():
    assert not are_too_few(1.5, 0.01, 0.015)
    assert are_too_few(1.5, 0.01, 0.03)
    assert are_too_few(1.5, 0.01, np.nan)
    assert not are_too_few(5.0, 0.01, 0.03)
    assert not are_too_few(5.0, 0.01, np.nan)
    assert are_too_few(5.0, 0.01, 0.2)
    assert not are_too_few(5.0, 1e-9, 1e-6)


def test_many_steps_that_say_little_are_warned_of():
    """Two long sequences that stay where they are: the states are those of a few steps."""
    still = np.repeat(X[:2, :1], 200, axis=1)
    each, _ = pruner()
    with pytest.warns(UserWarning, match="saw 400 steps, too few"):
        each.fit(still)
    assert each.held_out_loss_ > 10.0 * each.information_loss_


@pytest.mark.parametrize("n", [10, 200])
def test_enough_steps_are_not_warned_of(n):
    each, data = pruner(n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        each.fit(data)


def test_where_all_nodes_stay_few_steps_do():
    each, data = pruner(2, m=1.0)
    assert each.fit(data).information_loss_ == 0.0


def test_what_cannot_be_held_out_is_not_a_number():
    each, data = pruner()
    assert np.isnan(each.fit(iter([torch.as_tensor(data)])).held_out_loss_)
    assert "nan" in each.summary()
    (layer,) = each.layers_.values()
    empty, every = HiddenStateMoments(N_NODES), each.moments_
    for some in (None, empty, every):
        assert np.isnan(held_out_loss(layer, every, some))


def test_of_several_layers_each_has_its_own():
    rnn = nn.LSTM(N_FEATURES, 6, num_layers=2, batch_first=True)
    fitted = SpectralRNNPruner(rnn, m=3, trajectory_fit=0).fit(X)
    assert fitted.held_out_loss_.keys() == {"l0", "l1"}
    assert fitted.summary(as_frame=True).loc["l1", "held_out_loss"] == fitted.held_out_loss_["l1"]


def test_further_sequences_count():
    each, data = pruner(4)
    with pytest.warns(UserWarning, match="saw 32 steps"):
        each.partial_fit(data)
    few = each.held_out_loss_
    each.partial_fit(X[4:])
    assert 0.0 < each.held_out_loss_ < few


def test_rounds_have_one_of_the_dense_network():
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(N_FEATURES, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    settings = FineTune(1, n_rounds=2)
    fitted = SpectralRNNPruner(Headed(), 4, finetune=settings, trajectory_fit=0).fit(
        X, X.sum((1, 2))
    )
    assert 0.5 < fitted.held_out_loss_ / fitted.information_loss_ < 2.0
