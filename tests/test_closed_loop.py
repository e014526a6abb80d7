"""Choice and search by what the pruned network answers."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import (
    CELLS,
    N_FEATURES,
    N_NODES,
    Net,
    collector_of,
    linear_reference,
    make_rnn,
    surgery_of,
)
from oracles import fold, layer_weights, run_cell, run_layer
from problems import random_problem, with_trials
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skspectral import InformationLoss, RNNRegressor, SpectralRNNPruner, prune
from skspectral.rnn.closed_loop import ClosedLoop
from skspectral.rnn.cut import Cut
from skspectral.rnn.likelihood import Likelihood
from skspectral.solvers import ClosedLoopSolver

X = np.random.default_rng(0).normal(size=(60, 8, N_FEATURES))
LABELS = X.sum(axis=(1, 2)) > 0.0
HEADS = {
    "folded": lambda net, states, h: net.head(h[-1]),
    "not folded": lambda net, states, h: net.head(h[-1].relu()),
}


def network(cell="gru", head="folded", n_nodes=N_NODES):
    return Net(make_rnn(cell, n_nodes=n_nodes), HEADS[head]).eval()


def loop_of(module, batches, family="categorical"):
    collector = collector_of(module)
    collector.run(batches[0])
    return ClosedLoop(collector, surgery_of(module, batches[0]), batches, Likelihood(family))


def some_cut(rng, support=(0, 2, 5)):
    A, c = 0.3 * rng.normal(size=(N_NODES, len(support))), 0.1 * rng.normal(size=N_NODES)
    A[list(support)], c[list(support)] = np.eye(len(support)), 0.0
    return Cut.from_arrays(np.array(support), A, c)


def pruned(loop, cut):
    """The network with its one layer cut."""
    (layer,) = loop._surgery.layers
    return loop.pruned({layer.name: cut})


def pruner(module, **params):
    """Around a module, with swaps that are the same each time."""
    solver = ClosedLoopSolver(**{"n_evaluations": 60, "random_state": 0} | params)
    return SpectralRNNPruner(
        module, m=5, solver=solver, likelihood="categorical", n_refit=0, trajectory_fit=0
    )


# The divergence


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", HEADS)
def test_divergence_is_that_of_a_recurrence_on_the_folded_weights(cell, head, rng):
    net, cut = network(cell, head), some_cut(rng)
    weights = fold(net.rnn.mode, layer_weights(net.rnn), [0, 2, 5], cut.A.numpy(), cut.c.numpy())
    small = run_cell(net.rnn.mode, weights, X)[:, -1] @ cut.A.numpy().T + cut.c.numpy()
    dense = run_layer(net.rnn, X)[:, -1]
    if head == "not folded":
        small, dense = np.maximum(small, 0.0), np.maximum(dense, 0.0)
    p, q = (softmax(linear_reference(net.head)(h), axis=1) for h in (dense, small))
    loop = loop_of(net, [X[:32], X[32:]])
    found = loop.divergence(pruned(loop, cut))
    assert found == pytest.approx(entropy(p, q, axis=1).mean(), rel=1e-9)


def test_divergence_of_numbers_is_relative_to_their_variance(rng):
    net, cut = network(), some_cut(rng)
    loop = loop_of(net, [X], "gaussian")
    with torch.no_grad():
        dense, small = net(torch.as_tensor(X)), pruned(loop, cut)(torch.as_tensor(X))
    expected = ((dense - small) ** 2).sum() / ((dense - dense.mean()) ** 2).sum()
    assert loop.divergence(pruned(loop, cut)) == pytest.approx(float(expected), rel=1e-9)


def test_divergence_of_a_bare_layer_is_that_of_its_rebuilt_states(rng):
    rnn, cut = make_rnn("lstm"), some_cut(rng)
    weights = fold(rnn.mode, layer_weights(rnn), [0, 2, 5], cut.A.numpy(), cut.c.numpy())
    small = run_cell(rnn.mode, weights, X) @ cut.A.numpy().T + cut.c.numpy()
    dense = run_layer(rnn, X)
    expected = ((small - dense) ** 2).sum() / ((dense - dense.mean()) ** 2).sum()
    loop = loop_of(rnn, [X], "gaussian")
    assert loop.divergence(pruned(loop, cut)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("family", ["categorical", "bernoulli", "gaussian"])
def test_keeping_all_nodes_diverges_by_nothing(family):
    keep_all = Cut.from_arrays(np.arange(N_NODES), np.eye(N_NODES), np.zeros(N_NODES))
    loop = loop_of(network(), [X], family)
    assert loop.divergence(pruned(loop, keep_all)) == pytest.approx(0.0, abs=1e-14)


def test_a_network_is_not_run_to_the_end_once_it_has_lost(rng):
    loop = loop_of(network(), [X[:20], X[20:40], X[40:]])
    cut = some_cut(rng)
    best, worse = pruned(loop, cut), pruned(loop, Cut(cut.support, 5.0 * cut.A, cut.c))
    least = loop.divergence(best)
    first = float(next(iter(loop.each(best))).sum()) / len(X)
    assert loop.divergence(best, least) == least
    for limit in (0.99 * least, 0.5 * first):
        assert limit < loop.divergence(best, limit) < least
    # As many times the least as it was behind after the first batch.
    behind = float(next(iter(loop.each(worse))).sum()) / len(X) / first
    assert loop.divergence(worse, least) == pytest.approx(behind * least)
    assert loop.divergence(worse) > 1.5 * least


def test_a_new_search_does_not_go_by_the_best_of_the_one_before(rng):
    loop = loop_of(network(), [X[:20], X[20:40], X[40:]])
    cut = some_cut(rng)
    best, middle, worst = (
        pruned(loop, Cut(cut.support, scale * cut.A, cut.c)) for scale in (1.0, 3.0, 5.0)
    )
    expected = loop.divergence(middle)
    loop.divergence(best)
    worse = loop.divergence(worst)
    assert loop.divergence(middle, worse) == expected < worse


def test_states_out_of_bounds_are_infinitely_far(rng):
    net = network("relu")
    cut = some_cut(rng)
    wild = Cut(cut.support, 1e200 * cut.A, cut.c)
    loop = loop_of(net, [X])
    loop.divergence(pruned(loop, cut))
    assert loop.divergence(pruned(loop, wild), 1.0) == np.inf


# The solver


def test_the_best_of_all_proposals_is_kept_and_swaps_lower_it():
    fitted = pruner(network(n_nodes=16)).fit(X)
    report = fitted.selection_report_
    proposed = [row["divergence"] for row in report if row["source"] != "swap"]
    least = min(row["divergence"] for row in report)
    assert least < min(proposed)
    best = [row for row in report if row["best"]]
    assert best[-1]["divergence"] == least
    assert best[-1]["support"].tolist() == fitted.support_.tolist()
    assert [row["divergence"] for row in best] == sorted([r["divergence"] for r in best])[::-1]
    assert all(np.isfinite(row["held_out"]) for row in best)


def test_what_is_reported_is_what_the_pruned_network_does():
    module = network(n_nodes=16)
    fitted = pruner(module, held_out=0.0).fit(X)
    best = [row for row in fitted.selection_report_ if row["best"]][-1]
    with torch.no_grad():
        nets = (module, fitted.pruned_module_)
        p, q = (net(torch.as_tensor(X)).softmax(1).numpy() for net in nets)
    assert best["divergence"] == pytest.approx(entropy(p, q, axis=1).mean(), rel=1e-6)
    assert np.isnan(best["held_out"])
    assert best["loss"] == pytest.approx(fitted.loss_path_[-1], rel=1e-6)


def shifted_network():
    """States far from zero, which an affine reconstruction rebuilds better."""
    net = network(n_nodes=16)
    with torch.no_grad():
        net.rnn.bias_ih_l0 += 3.0 * torch.linspace(-1.0, 1.0, 48)
    return net


@pytest.mark.parametrize("kind", ["auto", "linear", "affine"])
def test_what_is_told_of_the_selection_is_of_the_reconstruction_that_was_taken(kind):
    module = shifted_network()
    fitted = pruner(module, n_evaluations=30).set_params(reconstruction=kind).fit(X)
    best = [row for row in fitted.selection_report_ if row["best"]][-1]
    assert best["reconstruction"] == ("linear" if kind == "linear" else "affine")
    assert best["loss"] == pytest.approx(fitted.loss_path_[-1], rel=1e-9)
    assert 0.0 < fitted.loss_lower_bound_ < fitted.information_loss_ < fitted.loss_path_[-1]
    plain = SpectralRNNPruner(module, m=5, reconstruction=best["reconstruction"], trajectory_fit=0)
    plain.set_params(likelihood="categorical", n_refit=0).fit(X)
    assert fitted.loss_lower_bound_ == pytest.approx(plain.loss_lower_bound_, rel=1e-9)
    assert fitted.guarantee_.lam == pytest.approx(plain.guarantee_.lam, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_answers_no_numbers_is_never_the_best(bad):
    problem = random_problem(0, n=8)
    given = []

    def run(support, kind, at_most):
        given.append(at_most)
        return bad if len(given) < 3 else problem.loss(support)

    trials = replace(with_trials(problem).trials, run=run)
    found = ClosedLoopSolver(40, random_state=0).select(replace(problem, trials=trials), 3)
    finite = [row for row in found.report if np.isfinite(row["divergence"])]
    best = [row for row in found.report if row["best"]]
    assert best[0] is finite[0]
    assert best[-1]["divergence"] == min(row["divergence"] for row in finite)
    assert found.support.tolist() == best[-1]["support"].tolist()
    assert given[:4] == [np.inf] * 3 + [finite[0]["divergence"]]


def test_without_any_numbers_the_first_network_stands():
    trials = replace(with_trials(random_problem(0)).trials, run=lambda *_: np.nan)
    problem = replace(random_problem(0), trials=trials)
    found = ClosedLoopSolver(5, random_state=0).select(problem, 3)
    assert [row["best"] for row in found.report] == [True] + [False] * (len(found.report) - 1)
    assert found.support.tolist() == found.report[0]["support"].tolist()


def test_states_out_of_bounds_are_infinitely_far_in_the_first_network_too(rng):
    cut = some_cut(rng)
    loop = loop_of(network("relu"), [X])
    assert loop.divergence(pruned(loop, Cut(cut.support, 1e200 * cut.A, cut.c))) == np.inf


@pytest.mark.parametrize("n_evaluations", [1, 3, 25])
def test_no_more_networks_are_run_than_allowed(n_evaluations):
    fitted = pruner(network(n_nodes=16), n_evaluations=n_evaluations).fit(X)
    assert len(fitted.selection_report_) == n_evaluations
    assert len(fitted.support_) == 5


def test_the_time_budget_is_kept():
    problem = with_trials(random_problem(0, n=80))
    start = time.perf_counter()
    solver = ClosedLoopSolver(10**6, time_budget=0.3, random_state=0)
    report = solver.select(problem, 30).report
    assert 1 <= len(report) < 10**4
    assert max(row["seconds"] for row in report[:-1]) < 0.3
    assert time.perf_counter() - start < 5.0


def test_no_network_is_run_twice():
    report = pruner(network(), n_evaluations=1000).fit(X).selection_report_
    seen = {(tuple(row["support"]), row["reconstruction"]) for row in report}
    assert len(seen) == len(report)


def test_a_small_search_finds_what_trying_everything_finds():
    """Where the network answers by the loss, a swap search ends where no swap helps."""
    problem = with_trials(random_problem(3, n=8))
    found = ClosedLoopSolver(10**6, random_state=0).select(problem, 3)
    kept, lost = found.support, np.setdiff1d(np.arange(8), found.support)
    swapped = [[*np.delete(kept, i), j] for i in range(3) for j in lost]
    assert problem.loss(kept) <= min(problem.loss(sorted(support)) for support in swapped)


def test_same_seed_same_nodes():
    module = network(n_nodes=16)
    one, other = (pruner(module).fit(X) for _ in range(2))
    assert one.support_.tolist() == other.support_.tolist()
    assert len(one.selection_report_) == len(other.selection_report_)


@pytest.mark.parametrize("kind", ["auto", "linear", "affine", "none"])
def test_only_reconstructions_that_are_asked_for_are_tried(kind):
    fitted = pruner(network(n_nodes=16)).set_params(reconstruction=kind).fit(X)
    tried = {row["reconstruction"] for row in fitted.selection_report_}
    assert tried == ({"linear", "affine"} if kind == "auto" else {kind})
    best = [row for row in fitted.selection_report_ if row["best"]][-1]
    assert fitted.intercept_.any() == (best["reconstruction"] == "affine")


def test_other_solvers_are_linear_and_report_nothing():
    fitted = SpectralRNNPruner(network(), m=3, trajectory_fit=0).fit(X)
    assert fitted.selection_report_ == []
    assert not fitted.intercept_.any()


def test_solver_works_without_its_sensitivity():
    fitted = pruner(network(n_nodes=16)).set_params(objective="input").fit(X)
    assert fitted.sensitivity_.shape == (16, 16)
    assert np.isfinite(fitted.information_loss_)


def test_without_trials_it_says_how_to_use_it():
    with pytest.raises(ValueError, match="use it through SpectralRNNPruner"):
        ClosedLoopSolver().select(random_problem(0), 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_evaluations": "all"}, "n_evaluations of ClosedLoopSolver must be an int .* got 'all'"),
        ({"n_evaluations": 0}, "n_evaluations of ClosedLoopSolver must be an int of at least 1"),
        ({"n_sequences": -2}, "n_sequences of ClosedLoopSolver must be an int of at least 1"),
        ({"time_budget": 0.0}, "time_budget of ClosedLoopSolver must be None or a number of sec"),
        ({"held_out": 1.0}, "held_out of ClosedLoopSolver must be a fraction in"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pruner(network(), **params).fit(X)


# In use


def test_grid_search_over_its_parameters():
    search = GridSearchCV(
        pruner(network(), n_evaluations=10), {"solver__n_sequences": [10, 40]}, cv=2
    ).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_batches_that_come_once_are_enough():
    batches = ((torch.as_tensor(X[i : i + 10]),) for i in range(0, 60, 10))
    fitted = pruner(network(n_nodes=16)).fit(batches)
    assert len(fitted.selection_report_) == 60
    assert np.isfinite([row["held_out"] for row in fitted.selection_report_ if row["best"]]).all()


def test_sequences_of_unequal_length():
    ragged = [sequence[: 3 + i % 5] for i, sequence in enumerate(X)]
    fitted = pruner(network(n_nodes=16)).fit(ragged)
    assert len(fitted.support_) == 5


def test_a_name_is_enough_for_prune():
    small = prune(
        network(),
        X,
        m=3,
        solver="closed_loop",
        objective=InformationLoss(tau=1e-5),
        trajectory_fit=0,
    )
    assert small.rnn.hidden_size == 3


def test_a_regressor_is_judged_by_numbers():
    y = X.sum(axis=(1, 2))
    model = RNNRegressor(12, max_epochs=5, random_state=0).fit(X, y)
    fitted = (
        clone(SpectralRNNPruner(m=5, solver="closed_loop", trajectory_fit=0))
        .set_params(estimator=model)
        .fit(X)
    )
    best = [row for row in fitted.selection_report_ if row["best"]][-1]
    assert 0.0 < best["divergence"] < 1.0


def test_labels_tell_that_answers_are_classes():
    module, params = network(n_nodes=16), {"m": 5, "solver": ClosedLoopSolver(1, held_out=0.0)}
    by_labels = (
        SpectralRNNPruner(module, **params, trajectory_fit=0).fit(X, LABELS).selection_report_
    )
    told = (
        SpectralRNNPruner(module, likelihood="categorical", **params, trajectory_fit=0)
        .fit(X)
        .selection_report_
    )
    numbers = SpectralRNNPruner(module, **params, trajectory_fit=0).fit(X).selection_report_
    assert by_labels[0]["divergence"] == told[0]["divergence"] != numbers[0]["divergence"]


class Silent(nn.Module):
    """Answers with indices alone."""

    def __init__(self):
        super().__init__()
        self.rnn = make_rnn()

    def forward(self, x):
        return self.rnn(x)[0][:, -1].argmax(-1)


def test_a_module_without_numbers_to_answer_is_told_what_to_do():
    with pytest.raises(ValueError, match="or objective='one-step' and a solver that does not"):
        SpectralRNNPruner(Silent(), m=3, trajectory_fit=0).fit(X)
