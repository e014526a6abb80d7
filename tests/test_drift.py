"""Errors of a pruned Elman network through time, and the bound of them."""

import numpy as np
import pytest
import torch
from networks import N_FEATURES, N_NODES, make_rnn
from oracles import layer_weights, run_cell
from torch import nn

from skspectral import FineTune, SpectralRNNPruner, error_propagation
from skspectral.inspection.trajectories import Trajectories
from skspectral.theory import Guarantee


class Net(nn.Module):
    """A layer whose states a head reads at every step, behind an activation or not."""

    def __init__(self, cell="tanh", act=None, heads=1, **options):
        super().__init__()
        self.rnn = make_rnn(cell, **options)
        self.act = act or nn.Identity()
        self.heads = nn.ModuleList(
            nn.Linear(N_NODES, 2 + i, dtype=torch.float64) for i in range(heads)
        )

    def forward(self, x):
        states = self.act(self.rnn(x)[0])
        return torch.cat([head(states) for head in self.heads], -1)


def sequences(n=12, n_steps=9, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_steps, N_FEATURES))


def states_of(rnn, x):
    modes = {"RNN": f"RNN_{getattr(rnn, 'nonlinearity', '').upper()}"}
    return run_cell(modes.get(rnn.mode[:3], rnn.mode), layer_weights(rnn), x)


@pytest.mark.parametrize("cell", ["tanh", "relu"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"reconstruction": "affine"},
        {"n_refit": 0},
        {"trajectory_fit": 20},
        {"distill": 2, "random_state": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("heads", [1, 2])
def test_errors_are_those_of_both_networks_and_never_above_the_bound(cell, params, heads):
    torch.manual_seed(0)
    net, x = Net(cell, heads=heads), sequences()
    pruner = SpectralRNNPruner(net, m=4, **{"trajectory_fit": 0, **params}).fit(x)
    fresh = sequences(seed=1)
    found = error_propagation(pruner, fresh)
    small = pruner.pruned_module_
    wide, narrow = states_of(net.rnn, fresh), states_of(small.rnn, fresh)
    errors = np.linalg.norm(wide[..., pruner.support_] - narrow, axis=-1)
    np.testing.assert_allclose(found.state_errors, errors, rtol=1e-9)
    with torch.no_grad():
        apart = (net(torch.as_tensor(fresh)) - small(torch.as_tensor(fresh))).numpy()
    np.testing.assert_allclose(found.output_errors, np.linalg.norm(apart, axis=-1), rtol=1e-9)
    assert (found.state_errors <= found.state_bounds * (1.0 + 1e-9)).all()
    assert (found.output_errors <= found.output_bounds * (1.0 + 1e-9)).all()
    assert (found.state_errors[:, 1:] > 0.0).all()


class Mixed(Net):
    """Mixes its inputs first, which is trained together with the rest."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(N_FEATURES, N_FEATURES, dtype=torch.float64)

    def forward(self, x):
        return super().forward(self.mix(x))


def test_each_network_has_its_own_inputs():
    torch.manual_seed(0)
    net, x = Mixed(), sequences()
    y = np.random.default_rng(0).normal(size=(*x.shape[:2], 2))
    pruner = SpectralRNNPruner(net, m=4, finetune=FineTune(2, lr=0.1), random_state=0)
    small = pruner.fit(x, y).pruned_module_
    assert not torch.equal(small.mix.weight, net.mix.weight)
    found = error_propagation(pruner, x)
    read = [module.mix(torch.as_tensor(x)).detach().numpy() for module in (net, small)]
    kept = pruner.support_
    weights = [layer_weights(module.rnn) for module in (net, small)]
    state = np.zeros((len(x), N_NODES))
    bound = np.zeros(len(x))
    norm = np.linalg.norm(weights[1][1], 2)
    for step in range(x.shape[1]):
        wide, narrow = (
            W @ inputs[:, step].T + U @ before.T + (b + c)[:, None]
            for (W, U, b, c), inputs, before in zip(
                weights, read, (state, state[:, kept]), strict=True
            )
        )
        bound = np.linalg.norm(wide[kept] - narrow, axis=0) + norm * bound
        state = np.tanh(wide).T
        np.testing.assert_allclose(found.state_bounds[:, step], bound, rtol=1e-9)


def test_all_nodes_stray_nowhere():
    net, x = Net(), sequences()
    found = error_propagation(SpectralRNNPruner(net, m=N_NODES, trajectory_fit=0).fit(x), x)
    for each in (found.state_errors, found.state_bounds, found.output_errors, found.output_bounds):
        np.testing.assert_allclose(each, 0.0, atol=1e-12)


def test_the_first_state_of_a_linear_reconstruction_is_right():
    x = sequences()
    found = error_propagation(
        SpectralRNNPruner(Net(), m=3, reconstruction="linear", trajectory_fit=0).fit(x), x
    )
    np.testing.assert_allclose(found.state_errors[:, 0], 0.0, atol=1e-12)
    np.testing.assert_allclose(found.state_bounds[:, 0], 0.0, atol=1e-12)


def test_sequences_of_unequal_length_are_followed_each_for_itself():
    net, x = Net(), sequences()
    pruner = SpectralRNNPruner(net, m=4, trajectory_fit=0).fit(x)
    whole = error_propagation(pruner, x)
    parts = error_propagation(pruner, [each[: 3 + i % 4] for i, each in enumerate(x)])
    for i, (errors, bounds) in enumerate(
        zip(parts.output_errors, parts.output_bounds, strict=True)
    ):
        np.testing.assert_allclose(errors, whole.output_errors[i, : 3 + i % 4], rtol=1e-9)
        np.testing.assert_allclose(bounds, whole.output_bounds[i, : 3 + i % 4], rtol=1e-9)


@pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning")
@pytest.mark.parametrize("net", [make_rnn("tanh"), Net(act=nn.ReLU())], ids=["bare", "unfolded"])
def test_where_no_linear_map_reads_the_states_they_are_the_answers(net):
    x = sequences()
    found = error_propagation(SpectralRNNPruner(net, m=4, trajectory_fit=0).fit(x), x)
    np.testing.assert_array_equal(found.output_errors, found.state_errors)
    np.testing.assert_allclose(found.output_bounds, found.state_bounds, rtol=1e-12)


def started(net, x):
    return net.head(net.rnn(x, net.start.expand(1, len(x), -1).contiguous())[0])


class InitialStateWrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.start = make_rnn("tanh"), nn.Parameter(torch.ones(1, 1, N_NODES).double())

    def forward(self, x):
        return self.rnn(x, self.start.expand(1, len(x), -1).contiguous())[0].relu()


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = make_rnn("tanh")
        self.head = nn.Linear(N_NODES + N_FEATURES, 2, dtype=torch.float64)

    def forward(self, x):
        return self.head(torch.cat([self.rnn(x)[0], x], -1))


@pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning")
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Net("gru"), r"an nn\.GRU, but the bound holds for nn\.RNN only"),
        (Net("lstm"), r"an nn\.LSTM, but the bound holds for nn\.RNN only"),
        (Net("tanh", num_layers=2), r"layer must be one of .*rnn\.l0.*; got None"),
        (InitialStateWrapper(), "'rnn', which is given a state to start from"),
        (Joined(), "'rnn', whose states .* are read together with other inputs"),
    ],
    ids=["gru", "lstm", "levels", "started", "joined"],
)
def test_networks_that_the_bound_is_not_for_are_refused(net, message):
    x = sequences()
    pruner = SpectralRNNPruner(net, m=4, trajectory_fit=0).fit(x)
    with pytest.raises(ValueError, match=message):
        error_propagation(pruner, x)


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_trajectories_are_the_states_of_both_networks(cell):
    net, x = Net(cell), sequences()
    pruner = SpectralRNNPruner(net, m=4, trajectory_fit=0).fit(x)
    found = Trajectories.of(pruner, x)
    assert found.name == "rnn.l0"
    np.testing.assert_allclose(found.dense, states_of(net.rnn, x), rtol=1e-9)
    np.testing.assert_allclose(found.small, states_of(pruner.pruned_module_.rnn, x), rtol=1e-9)


def test_a_guarantee_is_that_of_the_choice_that_was_posed():
    x = sequences()
    pruner = SpectralRNNPruner(Net("gru"), m=4, trajectory_fit=0).fit(x)
    problem = pruner.layers_["rnn.l0"].problem
    expected = Guarantee.of(problem.covariance, problem.weight, 4)
    assert pruner.guarantee_.lam == expected.lam
    assert pruner.guarantee_.information_loss == expected.information_loss
    assert pruner.guarantee_.is_vacuous


def test_of_several_layers_there_is_a_guarantee_for_each():
    pruner = SpectralRNNPruner(make_rnn("gru", num_layers=2), m=4, trajectory_fit=0).fit(
        sequences()
    )
    assert pruner.guarantee_.keys() == pruner.layers_.keys()
    assert not hasattr(SpectralRNNPruner(trajectory_fit=0), "guarantee_")


def test_batches_that_come_but_once_are_run_through_both_networks():
    net, x = Net(), sequences()
    pruner = SpectralRNNPruner(net, m=4, trajectory_fit=0).fit(x)
    whole = Trajectories.of(pruner, x)
    once = Trajectories.of(pruner, iter(torch.as_tensor(x).split(5)))
    np.testing.assert_allclose(once.dense, whole.dense, rtol=1e-9)
    np.testing.assert_allclose(once.small, whole.small, rtol=1e-9)
