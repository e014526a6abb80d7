"""Label-free distillation: what it repairs, and what it leaves alone."""

import itertools

import numpy as np
import pytest
import torch
from networks import N_FEATURES, Net, make_rnn
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skspectral import (
    Distillation,
    RNNClassifier,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
    prune,
)
from skspectral.rnn.losses.distillation_loss import DistillationLoss
from skspectral.training import distillation, trainer
from skspectral.training.trainer import RestoreBest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 10, N_FEATURES)).astype(np.float32)
LABELS = np.where(X.sum(axis=(1, 2)) > 0, "up", "down")
N_NODES = 24


def network(cell="gru", read=None, dtype=torch.float32):
    """A network whose answers are far enough apart to learn from."""
    rnn = make_rnn(cell, n_nodes=N_NODES, dtype=dtype)
    net = Net(rnn, read or (lambda net, states, h: net.head(h[-1]))).eval()
    with torch.no_grad():
        net.head.weight *= 10.0
    return net


def pruner(module, distill=5):
    """Keeps the same nodes whatever the form of the sequences."""
    return SpectralRNNPruner(
        module,
        m=4,
        objective="one-step",
        likelihood="categorical",
        distill=distill,
        random_state=0,
        trajectory_fit=0,
    )


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def divergence(dense, small, x=X):
    with torch.no_grad():
        p, q = (net(torch.as_tensor(x)).double().log_softmax(-1) for net in (dense, small))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_it_brings_the_answers_closer(cell):
    dense = network(cell)
    longer = Distillation(8, lr=5e-3)
    folded, repaired = (pruner(dense, each).fit(X).pruned_module_ for each in (0, longer))
    assert divergence(dense, repaired) < 0.9 * divergence(dense, folded)


def test_it_starts_from_the_fold():
    dense = network()
    batches = [(torch.as_tensor(X),)]  # which is both to train on and held out
    folded = pruner(dense, 0).fit(batches).pruned_module_
    history = pruner(dense, Distillation(1, states=0.0)).fit(batches).distillation_history_
    assert history["held_out"][0] == pytest.approx(divergence(dense, folded), rel=1e-4)
    assert np.isnan(history["train"][0])


@pytest.mark.parametrize("lr", [1e-3, 0.1, 0.999])
def test_it_is_never_worse_than_where_it_started(lr):
    dense = network()
    batches = iter([(torch.as_tensor(X),)])  # a single batch is also what is held out
    fitted = pruner(dense, Distillation(4, lr=lr, states=0.0)).fit(batches)
    history = fitted.distillation_history_["held_out"]
    found = divergence(dense, fitted.pruned_module_)
    assert found == pytest.approx(min(history), rel=1e-4)
    assert found <= history[0] * (1 + 1e-4)


def test_it_stops_when_nothing_gets_better():
    history = pruner(network(), Distillation(50, lr=0.1, patience=2)).fit(X)
    assert len(history.distillation_history_["held_out"]) < 20


@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_a_rate_that_does_harm_is_lowered(cell):
    fitted = pruner(network(cell), Distillation(8, lr=0.5)).fit(X)
    start, first, *later = fitted.distillation_history_["held_out"]
    assert first > 2 * start
    assert min(later) < 0.95 * start


def test_the_kept_weights_are_those_of_the_least_held_out_divergence():
    fitted = pruner(network(), 6).fit(X)
    history = fitted.distillation_history_["held_out"]
    assert min(history) < history[0]
    assert len(history) == len(fitted.distillation_history_["train"]) == 7


def test_without_it_there_is_no_history():
    assert pruner(network(), 0).fit(X).distillation_history_ == {"train": [], "held_out": []}


def test_states_of_the_kept_nodes_can_be_asked_for():
    dense, x = network(), torch.as_tensor(X)
    errors = []
    for states in (0.0, 10.0):
        fitted = pruner(dense, Distillation(8, states=states)).fit(X)
        with torch.no_grad():
            wide, narrow = dense.rnn(x)[0], fitted.pruned_module_.rnn(x)[0]
        errors.append(float((wide[..., fitted.support_] - narrow).square().mean()))
    assert errors[1] < errors[0]


def test_a_bare_layer_learns_its_states():
    rnn, x = make_rnn("lstm", n_nodes=N_NODES, dtype=torch.float32), torch.as_tensor(X)
    errors = []
    for epochs in (0, 8):
        fitted = SpectralRNNPruner(rnn, m=4, distill=epochs, random_state=0, trajectory_fit=0).fit(
            X
        )
        with torch.no_grad():
            wide, narrow = rnn(x)[0], fitted.pruned_module_(x)[0]
        errors.append(float((wide[..., fitted.support_] - narrow).square().mean()))
    assert errors[1] < errors[0]


def test_the_given_module_and_the_random_state_are_left_alone():
    dense = network()
    before, state = weights(dense), torch.get_rng_state()
    fitted = pruner(dense).fit(X)
    for name, tensor in dense.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in dense.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part.training for part in fitted.pruned_module_.modules())


def test_same_seed_same_weights():
    dense = network()
    one, other = (weights(pruner(dense).fit(X).pruned_module_) for _ in range(2))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=0)


def test_a_frozen_network_is_trained_and_frozen_again():
    dense = network().requires_grad_(False)
    fitted = pruner(dense, 8).fit(X)
    history = fitted.distillation_history_["held_out"]
    assert min(history) < history[0]
    assert not any(p.requires_grad for p in fitted.pruned_module_.parameters())


def test_frozen_parts_stay_as_they_are():
    dense = network()
    dense.head.requires_grad_(False)
    folded, repaired = (pruner(dense, epochs).fit(X).pruned_module_ for epochs in (0, 3))
    torch.testing.assert_close(repaired.head.weight, folded.head.weight, rtol=0, atol=0)
    assert not torch.equal(repaired.rnn.weight_hh_l0, folded.rnn.weight_hh_l0)


class Normalized(nn.Module):
    """Has statistics that training mode would change, and dropout that it would switch on."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(N_FEATURES), nn.Dropout(0.9)
        self.rnn = nn.GRU(N_FEATURES, N_NODES, batch_first=True)
        self.head = nn.Linear(N_NODES, 2)

    def forward(self, x):
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.dropout(self.rnn(x)[0][:, -1]))


def test_dropout_and_batch_norm_stay_as_in_use():
    fitted = pruner(Normalized().eval(), 4).fit(X)
    np.testing.assert_array_equal(fitted.pruned_module_.norm.running_mean, np.zeros(N_FEATURES))
    history = fitted.distillation_history_["held_out"]
    assert min(history) < history[0]


def test_a_reconstruction_that_stays_is_trained_with_the_rest():
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        fitted = pruner(network(read=lambda net, states, h: net.head(h[-1].relu())), 8).fit(X)
    history = fitted.distillation_history_["held_out"]
    assert min(history) < history[0]


@pytest.mark.parametrize(
    "data",
    [
        [sequence[: 4 + i % 7] for i, sequence in enumerate(X)],
        ((torch.as_tensor(X[i : i + 16]),) for i in range(0, 160, 16)),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.as_tensor(X)), 16),
    ],
    ids=["ragged", "batches that come once", "loader"],
)
def test_any_sequences_will_do(data):
    history = pruner(network(), 6).fit(data).distillation_history_["held_out"]
    assert min(history) < history[0]


@pytest.fixture(scope="module")
def classifier():
    return RNNClassifier(N_NODES, max_epochs=15, random_state=0).fit(X, LABELS)


def test_in_a_pipeline_and_a_grid_search(classifier):
    pruner = SpectralRNNPruner(
        FrozenEstimator(classifier), m=2, distill=Distillation(2), trajectory_fit=0
    )
    pipe = Pipeline([("same", FunctionTransformer()), ("prune", pruner)])
    grid = {"prune__distill": [0, 2], "prune__m": [2, 4]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    deeper = GridSearchCV(pipe, {"prune__distill__lr": [1e-3, 1e-2]}, cv=2).fit(X, LABELS)
    assert deeper.best_estimator_[-1].distill.lr in (1e-3, 1e-2)


def test_with_the_number_of_nodes_chosen_by_cross_validation(classifier):
    search = SpectralRNNPrunerCV(classifier, ms=[1, 4], cv=2, distill=3, trajectory_fit=0).fit(
        X, LABELS
    )
    assert len(search.distillation_history_["held_out"]) == 4


def test_prune_takes_it_too():
    small = prune(network(), X, m=4, distill=1, likelihood="categorical", trajectory_fit=0)
    assert small.rnn.hidden_size == 4


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"max_epochs": 0}, ValueError, "max_epochs must be an int of at least 1; got 0"),
        ({"n_sequences": 1.5}, TypeError, "n_sequences must be an int of at least 1; got 1.5"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction of Distillation must be"),
        ({"states": -1.0}, ValueError, "states of Distillation must be a number of at least 0"),
    ],
)
def test_bad_parameters_are_named(params, error, message):
    with pytest.raises(error, match=message):
        pruner(network(), Distillation(**params)).fit(X)


def test_batches_of_any_size_make_about_the_same_repair():
    """The same sequences in one, two or many batches, whose steps are counted."""
    dense = network("tanh")
    found = []
    for size in (160, 80, 4):
        batches = [(part,) for part in torch.as_tensor(X).split(size)]
        small = pruner(dense, Distillation(3, lr=5e-3)).fit(batches).pruned_module_
        found.append(divergence(dense, small))
    folded = divergence(dense, pruner(dense, 0).fit(X).pruned_module_)
    assert max(found) < 0.5 * folded
    assert max(found) < 3.0 * min(found)


def test_the_dense_network_answers_once(monkeypatch):
    dense, calls = network(), []
    answer = DistillationLoss._dense

    def counted(self, number, *args):
        calls.append(number)
        return answer(self, number, *args)

    monkeypatch.setattr(DistillationLoss, "_dense", counted)
    batches = [(part,) for part in torch.as_tensor(X).split(40)]
    pruner(dense, Distillation(2)).fit(batches)
    assert sorted(calls) == [0, 1, 2, 3]


def test_after_harm_it_goes_on_at_half_of_the_rate():
    dense = network()
    fitted = pruner(dense, Distillation(6, lr=0.3, states=0.0, patience=9))
    seen = []

    class Watch(RestoreBest):
        def on_epoch_end(self, net, **options):
            super().on_epoch_end(net, **options)
            seen.append(self.scale_)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "RestoreBest", Watch)
        history = fitted.fit([(torch.as_tensor(X),)]).distillation_history_["held_out"]
    expected, scale, best = [], 1.0, history[0]
    for before, loss in itertools.pairwise(history):
        harmful = loss > 2.0 * history[0]
        scale /= 1.0 if loss < best else 10.0 if harmful else 2.0 if loss > before else 1.0
        best = min(best, loss)
        expected.append(scale)
    assert seen == expected
    assert 0.5 in seen


@pytest.mark.parametrize(("fixed", "seen"), [(False, {9, 8}), (True, {25})])
def test_long_sequences_are_trained_on_in_windows_where_the_module_takes_them(
    fixed, seen, monkeypatch
):
    steps = {True: set(), False: set()}  # by whether it is trained on

    def loss(self, module, numbers):
        steps[torch.is_grad_enabled()].add(self._batches[int(numbers[0])].shape[1])
        return original(self, module, numbers)

    def read(net, states, h):
        if fixed and states.shape[1] not in (2, 25):  # as it was made with
            raise ValueError("another number of steps")
        return net.head(states)

    original = DistillationLoss.loss
    monkeypatch.setattr(DistillationLoss, "loss", loss)
    monkeypatch.setattr(distillation, "WINDOW", 10)
    x = RNG.normal(size=(300, 25, N_FEATURES)).astype(np.float32)
    history = pruner(network(read=read), distill=3).fit(x).distillation_history_["held_out"]
    assert steps == {True: seen, False: {25}}
    assert min(history) < 0.9 * history[0]
