"""Networks of the right size: by parameters, and by how far their answers are off."""

import numpy as np
import pytest
import torch
from networks import calibration_of
from torch import nn

from skspectral import Distillation, SpectralRNNPruner
from skspectral.pruners.budget import N_SIZES, largest, part_of, smallest
from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.losses.likelihood import Likelihood
from skspectral.rnn.trajectory.dense_outputs import DenseOutputs

X = np.random.default_rng(0).normal(size=(160, 10, 3)).astype(np.float32)


class Levels(nn.Module):
    """Two levels and a head."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 16, 2, batch_first=True), nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def pruner(net, m=1.0, **params):
    options = {"objective": "one-step", "trajectory_fit": 10, "random_state": 0}
    return SpectralRNNPruner(net, m, **options | params)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("limit", [1, 2, 31, 63, 64])
def test_bisection_finds_the_last_that_fits_and_the_first_that_is_good(limit):
    asked = []

    def fits(size):
        asked.append(size)
        return size <= limit

    assert largest(fits) == limit
    assert len(asked) <= 7
    assert smallest(lambda size: size >= limit) == limit


def test_where_none_fits_or_is_good():
    assert largest(lambda size: False) == 1
    assert smallest(lambda size: False) is None


def test_parts_of_m():
    half = N_SIZES // 2
    assert part_of(10, half) == 5
    assert part_of(0.6, half) == pytest.approx(0.3)
    assert part_of({"a": 4, "b": 1.0}, half) == {"a": 2, "b": 0.5}
    assert part_of(3, 1) == 1
    assert part_of(np.int64(7), N_SIZES) == 7


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("most", [300, 900, 2000])
def test_as_many_nodes_as_the_parameters_allow(allocation, most):
    net = Levels().eval()
    params = {"allocation": allocation, "n_refit": 0, "trajectory_fit": 0}
    small = pruner(net, max_parameters=most, **params).fit(X)
    assert parameters(small.pruned_module_) == small.n_parameters_ <= most
    # One more node in every layer, or two in all, would be too many.
    more = {name: min(16, m + 1) for name, m in small.m_.items()}
    assert pruner(net, more, **params | {"allocation": "uniform"}).fit(X).n_parameters_ > most


def test_m_is_the_most():
    small = pruner(Levels().eval(), 4, max_parameters=10**6).fit(X)
    assert small.m_ == {"rnn.l0": 4, "rnn.l1": 4}


def test_too_few_parameters_are_refused():
    with pytest.raises(ValueError, match="max_parameters must be at least") as error:
        pruner(Levels().eval(), max_parameters=5).fit(X)
    assert "got 5" in str(error.value)


@pytest.mark.parametrize("most", [0.02, 0.001])
def test_the_fewest_nodes_that_are_close_enough(most):
    net = Levels().eval()
    small = pruner(net, max_divergence=most).fit(X)
    assert small.divergence_ <= most
    nodes = small.m_["rnn.l0"]
    assert pruner(net, nodes).fit(X).divergence_ == small.divergence_
    assert pruner(net, nodes - 1).fit(X).divergence_ > most


@pytest.mark.parametrize("m", [1.0, 20])
def test_the_fewest_nodes_of_a_shared_budget(m):
    options = {"allocation": "global", "trajectory_fit": 0, "max_divergence": 1e6}
    assert pruner(Levels().eval(), m, **options).fit(X).m_ == {"rnn.l0": 1, "rnn.l1": 1}
    most = {"max_divergence": None, "max_parameters": 150}
    found = pruner(Levels().eval(), m, **options | most).fit(X)
    assert found.n_parameters_ <= 150
    assert min(found.m_.values()) >= 1


def test_a_single_layer_has_no_budget_to_share():
    module = nn.GRU(3, 16, batch_first=True)
    assert pruner(module, {"l0": 4}, allocation="global").fit(X).m_ == 4


def test_out_of_reach():
    with pytest.warns(UserWarning, match="max_divergence=1e-12 is out of reach"):
        small = pruner(Levels().eval(), 3, max_divergence=1e-12).fit(X)
    assert small.m_ == {"rnn.l0": 3, "rnn.l1": 3}


def test_within_both():
    small = pruner(Levels().eval(), max_divergence=0.02, max_parameters=2000).fit(X)
    assert small.n_parameters_ <= 2000
    assert small.divergence_ <= 0.02
    smaller = pruner(Levels().eval(), max_divergence=0.2, max_parameters=2000).fit(X)
    assert smaller.n_parameters_ < small.n_parameters_


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan"), "small", True])
def test_what_is_no_divergence(value):
    with pytest.raises(ValueError, match="max_divergence must be None or a number above 0"):
        pruner(Levels(), max_divergence=value).fit(X)


@pytest.mark.parametrize("value", [0, 1.5, "many"])
def test_what_is_no_number_of_parameters(value):
    with pytest.raises((TypeError, ValueError), match="max_parameters must be an int"):
        pruner(Levels(), max_parameters=value).fit(X)


# What was lost


def held_out(fit):
    """The batches that are held out, of eight."""
    return [torch.as_tensor(batch) for batch in fit._sample[-1:]]


def test_the_divergence_is_measured_on_sequences_that_nothing_is_fitted_to():
    net = Levels().eval()
    fit = pruner(net, 4).fit(X)
    (batch,) = held_out(fit)
    dense, small = net(batch).double(), fit.pruned_module_(batch).double()
    relative = (dense - small).square().mean() / dense.var(correction=0)
    assert fit.divergence_ == pytest.approx(relative.item(), rel=1e-5)


def test_nothing_is_fitted_to_what_is_held_out():
    fit = pruner(Levels().eval(), 4).fit(X)
    calibration = calibration_of(fit, X)
    (batch,) = held_out(fit)
    read = [each.args[0] for each in calibration.trajectory_fit._passes]
    read += [args[0] for args, _ in calibration.refit.passes]
    assert len(read) == 2 * 7
    assert not any(torch.equal(each, batch) for each in read)


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_infinitely_far(worst):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.full_like(x, worst)

    passes = [ForwardPass((torch.as_tensor(X),), {})]
    answers = DenseOutputs(nn.Identity(), passes, Likelihood("gaussian"))
    assert answers.divergence(Constant()) == float("inf")
    assert answers.divergence(nn.Identity()) == 0.0
    assert answers.divergence(nn.Flatten()) == float("inf")
    nothing = DenseOutputs(Constant(), passes, Likelihood("gaussian"))
    assert np.isnan(nothing.divergence(nn.Identity()))


def test_the_divergence_of_labels_is_that_of_kullback_and_leibler():
    net = Levels().eval()
    fit = pruner(net, 4, likelihood="categorical", distill=Distillation(1)).fit(X)
    (batch,) = held_out(fit)
    dense, small = net(batch), fit.pruned_module_(batch)
    expected = Likelihood("categorical").divergence(dense, small).mean()
    assert fit.divergence_ == pytest.approx(expected.item(), rel=1e-5)


def test_of_a_bare_layer_kept_nodes_are_compared():
    rnn = nn.GRU(3, 16, 2, batch_first=True, bidirectional=True)
    fit = pruner(rnn, 4).fit(X)
    (batch,) = held_out(fit)
    kept = np.concatenate([fit.support_["l1"], 16 + fit.support_["l1_reverse"]])
    dense, small = rnn(batch)[0][..., kept].double(), fit.pruned_module_(batch)[0].double()
    relative = (dense - small).square().mean() / dense.var(correction=0)
    assert fit.divergence_ == pytest.approx(relative.item(), rel=1e-5)


def test_keeping_all_nodes_loses_nothing():
    assert pruner(Levels().eval(), 1.0).fit(X).divergence_ < 1e-9


class Choose(Levels):
    """Answers with numbers of classes, which cannot be compared."""

    def forward(self, x):
        return super().forward(x).argmax(-1)


def test_where_there_is_nothing_to_compare_states_decide():
    fit = pruner(Choose().eval(), 4, trajectory_fit=40).fit(X)
    assert np.isnan(fit.divergence_)
    assert all(min(found) < found[0] for found in fit.trajectory_history_.values())
    unfitted = pruner(Levels().eval(), 4, trajectory_fit=0, n_refit=0).fit(X)
    assert unfitted.divergence_ > 0.0


def test_summary_and_headline_tell_of_it(capsys):
    fit = pruner(Levels().eval(), 4, verbose=1).fit(X)
    history = fit.trajectory_history_["rnn.l1"]
    told = f"divergence of the outputs {fit.divergence_:.2g} (trajectory fit: {history[0]:.2g} to "
    assert told in capsys.readouterr().out
    assert f"{fit.divergence_:.2g}" in fit.summary().splitlines()[-1]
    assert fit.summary(as_frame=True).loc["all", "divergence"] == fit.divergence_
