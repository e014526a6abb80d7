"""Laws that what is computed obeys, each of which some small slip would break."""

import copy
import itertools

import numpy as np
import pytest
import torch
from networks import N_FEATURES, N_NODES, make_rnn
from problems import random_problem
from torch import nn

from skspectral import (
    Distillation,
    HiddenStateMoments,
    InformationLoss,
    SpectralRNNPruner,
    load_pruned,
    prune,
    save_pruned,
)
from skspectral.calibration import calibrator
from skspectral.pruners.allocation import shared_budget
from skspectral.rnn.layers.stack import split_layers
from skspectral.solvers import GreedySolver, LeverageSolver, SelectionProblem, extend
from skspectral.solvers.design import design_supports
from skspectral.solvers.group_lasso import GroupLasso, group_lasso_supports, search_penalty
from skspectral.theory import generalization_gap

STAYS = "ignore:The reconstruction of:UserWarning"


def sequences(n=40, n_steps=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_steps, N_FEATURES))


class Twice(nn.Module):
    """Reads the last state and the mean over the steps side by side, by one map."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = make_rnn("gru"), nn.Linear(2 * N_NODES, 2).double()

    def forward(self, x):
        states = self.rnn(x)[0]
        return self.head(torch.cat([states[:, -1], states.mean(1)], -1))


# Files


class Stream(nn.Module):
    """Reads what cannot be folded, and gives back where to go on from."""

    def __init__(self, cell):
        super().__init__()
        self.rnn, self.head = make_rnn(cell), nn.Linear(N_NODES, 2).double()

    def forward(self, x):
        states, final = self.rnn(x)
        return self.head(states.relu()), final


@pytest.mark.filterwarnings(STAYS)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_loaded_module_goes_on_from_the_states_of_the_saved_one(cell, tmp_path):
    torch.manual_seed(0)
    net, X = Stream(cell).eval(), torch.as_tensor(sequences(200))
    small = prune(net, X, m=3, trajectory_fit=0)
    save_pruned(small, tmp_path / "small")
    loaded = load_pruned(tmp_path / "small", into=Stream(cell))
    for one, other in zip(loaded(X)[1], small(X)[1], strict=True):
        assert torch.equal(one, other)


def test_the_module_that_is_loaded_into_stays_as_it_is(tmp_path):
    torch.manual_seed(0)
    into = Twice().train()
    parts, before = dict(into.named_modules()), copy.deepcopy(into.state_dict())
    save_pruned(prune(Twice(), sequences(), m=3, trajectory_fit=0), tmp_path / "small")
    loaded = load_pruned(tmp_path / "small", into=into)
    assert loaded.rnn.hidden_size == 3
    assert into.training
    assert dict(into.named_modules()) == parts
    assert into.state_dict().keys() == before.keys()
    for name, weight in into.state_dict().items():
        assert torch.equal(weight, before[name])


# What memory keeps


def test_moments_are_kept_for_the_size_of_batches_that_they_were_made_with(tmp_path):
    net, X = make_rnn("gru"), sequences(60)
    sizes = 60, 7
    plain = [
        SpectralRNNPruner(net, m=3, batch_size=size, trajectory_fit=0).fit(X).covariance_
        for size in sizes
    ]
    assert not np.array_equal(*plain)  # sums in another order
    for size, expected in zip(sizes, plain, strict=True):
        pruner = SpectralRNNPruner(
            net, m=3, batch_size=size, memory=str(tmp_path), trajectory_fit=0
        ).fit(X)
        np.testing.assert_array_equal(pruner.covariance_, expected)


# Readers


OUTPUT = InformationLoss(input=0.0, recurrent=0.0, sensitivity=0.0)


def test_the_output_loss_is_of_all_columns_that_read_a_layer():
    torch.manual_seed(0)
    net = Twice().eval()
    pruner = SpectralRNNPruner(net, m=3, objective=OUTPUT, trajectory_fit=0).fit(sequences())
    weight = net.head.weight.detach().numpy()
    last, mean = weight[:, :N_NODES], weight[:, N_NODES:]
    expected = last.T @ last + mean.T @ mean
    (layer,) = pruner.layers_.values()
    found = layer.problem.weight
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), rtol=1e-9)


class Uneven(nn.Module):
    """A map reads the states at which another answers above zero, or all, as it is told."""

    def __init__(self):
        super().__init__()
        self.rnn = make_rnn("gru")
        self.gate, self.head = (nn.Linear(N_NODES, size).double() for size in (1, 2))

    def forward(self, x, read_all):
        rows = self.rnn(x)[0].flatten(0, 1)
        gates = self.gate(rows)
        if not bool(read_all):
            rows = rows[gates[:, 0] > 0.0]
        return gates, self.head(rows).sum(0)


@pytest.mark.filterwarnings(STAYS)
def test_a_reader_that_is_asked_more_often_in_one_batch_keeps_its_fold():
    torch.manual_seed(0)
    net = Uneven().eval()
    batches = [
        (torch.as_tensor(sequences(seed=seed)), torch.tensor(read_all))
        for seed, read_all in enumerate([True, True, False, True])
    ]
    folded, small = (prune(net, batches, m=2, n_refit=n, trajectory_fit=0) for n in (0, 2048))
    counts = [(net.gate(states) > 0.0).sum() for states in (net.rnn(batches[2][0])[0],)]
    counts += [(small.gate(states) > 0.0).sum() for states in (small.rnn(batches[2][0])[0],)]
    assert counts[0] != counts[1]
    assert torch.equal(small.head.weight, folded.head.weight)
    assert not torch.equal(small.gate.weight, folded.gate.weight)


# Sequences of unequal length, and samples


class Within(nn.Module):
    """A layer inside a module."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = make_rnn("gru"), nn.Linear(N_NODES, 2).double()

    def forward(self, x):
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("net", [lambda: make_rnn("lstm", bidirectional=True), Within])
def test_states_come_back_in_their_sequence_and_step(net, rng):
    ragged = [rng.normal(size=(n, N_FEATURES)) for n in rng.integers(9, 13, size=40)]
    pruner = SpectralRNNPruner(net().eval(), m=3, output="sequence", trajectory_fit=0).fit(ragged)
    layer = getattr(pruner.pruned_module_, "rnn", pruner.pruned_module_)
    for sequence, states in zip(ragged, pruner.transform(ragged), strict=True):
        alone, _ = layer(torch.as_tensor(sequence)[None])
        np.testing.assert_allclose(states, alone[0].detach(), atol=1e-9)


@pytest.mark.parametrize(("n_new", "n_steps", "share"), [(20, 3, 0.1), (60, 9, 0.5), (180, 3, 0.5)])
def test_what_is_run_again_is_of_all_calls_by_their_steps(n_new, n_steps, share, monkeypatch):
    monkeypatch.setattr(calibrator, "N_COMPARED", 0)
    old, new = np.zeros((180, 3, N_FEATURES)), np.ones((n_new, n_steps, N_FEATURES))
    pruner = SpectralRNNPruner(
        Twice().eval(), m=3, objective="input", n_refit=100, trajectory_fit=0
    )
    pruner.partial_fit(old).partial_fit(new)
    marks = np.concatenate([np.asarray(batch)[:, 0, 0] for batch in pruner._sample])
    assert len(marks) == pytest.approx(100, abs=24)
    assert marks.sum() == pytest.approx(share * 100, abs=12)


@pytest.mark.parametrize("n", [1, 32, 70])
def test_every_sequence_is_in_a_step_of_distillation(n):
    X, batch = sequences(n), (torch.zeros(3), torch.zeros(3))
    *parts, last = Distillation(batch_size=32).cut([X, batch])
    assert last is batch
    np.testing.assert_array_equal(np.concatenate(parts), X)
    assert [len(part) for part in parts] == [*[32] * (n // 32), *[n % 32] * (n % 32 > 0)]


def test_nothing_is_dropped_behind_the_last_level():
    torch.manual_seed(0)
    rnn = make_rnn("gru", num_layers=2, dropout=0.5).train()
    states, final = split_layers(rnn)(torch.as_tensor(sequences()))
    assert (states != 0.0).all()
    torch.testing.assert_close(states[:, -1], final[-1])


# Problems


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_of_constant_diagonal_is_no_identity(seed):
    given = random_problem(seed, n=6)
    scale = np.sqrt(given.weight.diagonal())
    weight = given.weight / np.outer(scale, scale)
    np.fill_diagonal(weight, 1.0)
    problem = SelectionProblem(given.covariance, weight, given.ridge)
    np.testing.assert_allclose(problem.weigh(np.eye(6)), problem.weight)
    selection = GreedySolver().select(problem, 4)
    losses = [problem.loss(selection.order[:m]) for m in range(5)]
    np.testing.assert_allclose(selection.loss_path, losses, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-10, 1e-3, 1e6])
def test_the_loss_does_not_depend_on_the_units_of_a_node(unit):
    problem = random_problem(1, n=6)
    units = np.array([1.0, unit, 1.0, 1.0, unit, 1.0])
    other = SelectionProblem(
        problem.covariance * np.outer(units, units),
        problem.weight / np.outer(units, units),
        problem.ridge,
    )
    for support in ([1], [0, 1], [1, 2, 4], [0, 1, 2, 4, 5]):
        np.testing.assert_allclose(other.loss(support), problem.loss(support), rtol=1e-7)


@pytest.mark.parametrize("tau", [0.0, 1e-3])
def test_redundant_nodes_are_worth_nothing_in_the_loss(tau):
    covariance = np.array([[2.0, 2.0, 0.5], [2.0, 2.0, 0.5], [0.5, 0.5, 1.0]])
    problem = SelectionProblem(covariance, np.eye(3), np.full(3, tau))
    np.testing.assert_allclose(
        problem.loss([0, 1, 2]), problem.loss([0, 2]), atol=3.0 * tau + 1e-12
    )


# Solvers


def same_nodes(n=4):
    return SelectionProblem(np.eye(n), np.eye(n), np.zeros(n))


@pytest.mark.parametrize("loudest", np.arange(1.5, 9.0))
def test_the_penalty_found_uses_as_many_columns_as_are_wanted(loudest):
    # The three others come in at once, so that no penalty leaves two.
    problem = SelectionProblem(np.diag([loudest, 1.0, 1.0, 1.0]), np.eye(4), np.zeros(4))
    columns, gap = search_penalty(GroupLasso.from_problem(problem), 2, 1e-6, 10_000)
    assert np.count_nonzero(columns.any(axis=0)) == 4
    assert gap <= 1e-6


def test_columns_that_no_penalty_brings_in_go_by_their_variance():
    problem = SelectionProblem(
        np.diag([1.0, 2.0, 9.0, 5.0]), np.diag([1.0, 0.0, 0.0, 0.0]), np.zeros(4)
    )
    ((support, _),) = group_lasso_supports(problem, 3, 1e-6, 100)
    assert support.tolist() == [0, 2, 3]


def test_only_nodes_that_may_be_added_are_added():
    problem = SelectionProblem(np.diag([4.0, 3.0, 2.0, 1.0]), np.eye(4), np.zeros(4))
    assert extend(problem, [2], 3, among=[2, 3, 1]).order.tolist() == [2, 1, 3]
    assert extend(problem, [2], 3).order.tolist() == [2, 0, 1]


def test_a_lam_of_zero_is_taken_as_such():
    problem = SelectionProblem(np.diag([1e4, 4.0, 2.0, 1.0]), np.eye(4), np.zeros(4))

    def drawn(lam):
        return [LeverageSolver(seed, lam=lam).select(problem, 1).order[0] for seed in range(30)]

    assert drawn(0.0) == drawn(1e-12)
    assert len(set(drawn(0.0))) == 4  # all have the score one
    assert drawn(None) != drawn(0.0)


def test_nodes_that_a_design_does_not_tell_apart_go_by_their_gradient():
    variances = np.array([1.0, 5.0, 3.0, 2.0, 4.0])
    problem = SelectionProblem(np.diag(variances), np.eye(5), np.zeros(5))
    support, _ = next(design_supports(problem, 2, np.inf, 10))  # which it leaves where it started
    assert support.tolist() == [1, 4]


def test_the_same_nodes_of_a_design_go_by_their_number():
    for support, _ in design_supports(same_nodes(5), 2, 1e-3, 100):
        assert support.tolist() == [0, 1]


# Budgets


@pytest.mark.parametrize("total", [4, 5, 6])
def test_a_layer_that_gains_late_gets_the_nodes_that_it_needs(total):
    paths = {"late": np.array([1.0, 1.0, 1.0, 0.0]), "even": np.array([1.0, 0.8, 0.6, 0.4])}
    counts = shared_budget(paths, total)
    found = sum(path[counts[name]] for name, path in paths.items())
    every = itertools.product(range(1, 4), repeat=2)
    best = min(paths["late"][i] + paths["even"][j] for i, j in every if i + j == total)
    assert found == pytest.approx(best)


# Moments


def test_whitening_brings_states_to_one_scale_but_for_a_hundredth(rng):
    moments = HiddenStateMoments(4).update(rng.normal(size=(50, 4)) * [1.0, 3.0, 0.1, 10.0])
    covariance, whitening = moments.covariance, moments.whitening
    unit = covariance.diagonal().mean()
    raised = covariance + unit / 100 * np.eye(4)
    np.testing.assert_allclose(whitening, whitening.T, rtol=1e-9)
    np.testing.assert_allclose(unit * whitening @ raised @ whitening, np.eye(4), atol=1e-9)
    np.testing.assert_array_equal(
        HiddenStateMoments(2).update(np.zeros((3, 2))).whitening, np.eye(2)
    )


def test_the_scale_of_states_is_their_root_mean_square(rng):
    states = rng.normal(np.array([5.0, -5.0, 0.0, 1.0]), size=(50, 4))
    moments = HiddenStateMoments(4).update(states[:20]).update(states[20:])
    assert moments.scale == pytest.approx(np.sqrt(np.square(states).mean()))


# Theory


@pytest.mark.parametrize("loss_range", [1.0, 3.0])
def test_a_smaller_delta_costs_what_hoeffding_says(loss_range):
    n = 10_000
    limits = {"radius": 2.0, "recurrent_norm": 0.9, "input_norm": 1.0, "loss_range": loss_range}

    def squared(delta):
        gap = generalization_gap(n, 8, 1, 2, 1, **limits, delta=delta)
        return 2.0 * n * (gap / loss_range - 1.0 / n) ** 2

    assert squared(0.01) - squared(0.2) == pytest.approx(np.log(20.0), rel=1e-6)
