"""The comparison methods: each by its definition."""

from dataclasses import replace

import numpy as np
import pytest
from networks import N_FEATURES, make_rnn
from oracles import residual
from problems import echo_problem, random_problem, with_dead
from scipy import stats

from skspectral import SOLVERS, SpectralRNNPruner
from skspectral.pruners.parameters import as_solver
from skspectral.solvers import (
    ColumnNormSolver,
    LeverageSolver,
    MagnitudeSolver,
    PivotedCholeskySolver,
    SelectionProblem,
    VarianceSolver,
    extend,
)
from skspectral.theory import lam_of, leverage_scores

COMPARISON = [name for name, kind in SOLVERS.items() if not kind.optimizes]


def uneven_problem():
    """Four nodes, one of them dead, that are far from equal by any measure."""
    covariance = np.array([[4.0, 1.0, 0.0, 0.5], [1.0, 2.0, 0.0, 0.3], [0.0] * 4, [0.5, 0.3, 0, 1]])
    return SelectionProblem(covariance, np.eye(4), np.zeros(4))


def count(solver, problem, m, draws=3000):
    """How often each order of m nodes is drawn."""
    orders = [
        tuple(solver.set_params(random_state=seed).select(problem, m).order.tolist())
        for seed in range(draws)
    ]
    return {order: orders.count(order) for order in set(orders)}


def test_the_comparison_methods_say_so():
    named = {"column_norm", "leverage", "magnitude", "pivoted_cholesky", "random", "variance"}
    assert named <= set(COMPARISON)
    assert not {"backward", "convex", "exhaustive", "greedy"} & set(COMPARISON)


@pytest.mark.parametrize("solver", COMPARISON)
@pytest.mark.parametrize("seed", range(4))
def test_they_do_not_look_at_the_weight(solver, seed):
    problem = random_problem(seed)
    other = replace(problem, weight=np.eye(10))
    orders = [as_solver(solver, seed).select(each, 6).order.tolist() for each in (problem, other)]
    assert orders[0] == orders[1]


def test_the_loudest_nodes_come_first():
    problem = random_problem(0)
    loudness = problem.covariance.diagonal()[VarianceSolver().select(problem, 10).order]
    assert (np.diff(loudness) < 0.0).all()


def test_the_nodes_of_the_largest_weights_come_first():
    problem = random_problem(0)
    magnitude = problem.magnitude[MagnitudeSolver().select(problem, 10).order]
    assert (np.diff(magnitude) < 0.0).all()


def test_a_dead_node_of_large_weights_comes_last():
    problem = with_dead(replace(random_problem(0), magnitude=np.arange(10.0)), [3, 9])
    order = MagnitudeSolver().select(problem, 10).order
    assert order.tolist() == [8, 7, 6, 5, 4, 2, 1, 0, 9, 3]


def test_a_problem_without_magnitudes_is_refused():
    with pytest.raises(ValueError, match=r"MagnitudeSolver .* magnitude .* is None; give the"):
        MagnitudeSolver().select(replace(random_problem(0), magnitude=None), 3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tau", [0.0, 1e-2])
def test_pivots_are_the_nodes_of_largest_residual_variance(seed, tau):
    problem = random_problem(seed, tau=tau)
    order = PivotedCholeskySolver().select(problem, 9).order.tolist()
    for k, node in enumerate(order):
        E = residual(problem.covariance, np.zeros(10), order[:k])
        assert node == np.argmax(E.diagonal())


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_past_the_rank_pivots_go_on_greedily(rank):
    problem = random_problem(0, rank=rank, tau=1e-2)
    order = PivotedCholeskySolver().select(problem, 10).order
    np.testing.assert_array_equal(order, extend(problem, order[:rank], 10).order)


@pytest.mark.parametrize("m", [1, 3, 7, 9])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_leverage_scores_have_as_many_degrees_of_freedom_as_nodes(m, scale):
    covariance = scale * echo_problem(0, n=10).covariance
    scores = leverage_scores(covariance, lam_of(covariance, m))
    assert scores.sum() == pytest.approx(m, rel=1e-9)
    assert ((scores > 0.0) & (scores < 1.0)).all()


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3])
def test_leverage_scores_are_the_diagonal_of_the_smoother(lam):
    covariance = random_problem(1).covariance
    expected = np.linalg.solve(covariance + lam * np.eye(10), covariance).diagonal()
    np.testing.assert_allclose(leverage_scores(covariance, lam), expected, rtol=1e-9)


def test_past_the_rank_leverage_scores_are_those_of_the_projection():
    covariance = random_problem(2, rank=4).covariance
    expected = (covariance @ np.linalg.pinv(covariance, rcond=1e-11)).diagonal()
    assert lam_of(covariance, 6) == 0.0
    np.testing.assert_allclose(leverage_scores(covariance, 0.0), expected, rtol=1e-9)


@pytest.mark.parametrize("lam", [-1e-3, float("nan")])
def test_a_lam_below_zero_is_refused(lam):
    with pytest.raises(ValueError, match=f"lam must be None or .* at least 0; got {lam}"):
        LeverageSolver(lam=lam).select(random_problem(0), 3)


@pytest.mark.parametrize("lam", [None, 0.1, 3.0])
def test_the_first_node_is_drawn_by_its_leverage_score(lam):
    problem = uneven_problem()
    scores = leverage_scores(problem.covariance, lam or lam_of(problem.covariance, 1))
    counts = count(LeverageSolver(lam=lam), problem, 1)
    observed = np.array([counts.get((node,), 0) for node in range(4)])
    assert observed[2] == scores[2] == 0
    alive = [0, 1, 3]
    expected = scores[alive] / scores.sum() * observed.sum()
    assert stats.chisquare(observed[alive], expected).pvalue > 0.01


def test_the_first_node_is_drawn_by_the_squared_norm_of_its_column():
    problem = uneven_problem()
    norms = np.array([4.0**2 + 1 + 0.5**2, 2.0**2 + 1 + 0.3**2, 0.0, 1 + 0.5**2 + 0.3**2])
    counts = count(ColumnNormSolver(), problem, 1)
    observed = np.array([counts.get((node,), 0) for node in range(4)])
    assert observed[2] == 0
    alive = [0, 1, 3]
    expected = norms[alive] / norms.sum() * observed.sum()
    assert stats.chisquare(observed[alive], expected).pvalue > 0.01


def test_two_nodes_are_drawn_as_independent_draws_first_meet_them():
    problem = uneven_problem()
    share = leverage_scores(problem.covariance, lam_of(problem.covariance, 2))
    share /= share.sum()
    counts = count(LeverageSolver(), problem, 2)
    pairs = [(i, j) for i in (0, 1, 3) for j in (0, 1, 3) if i != j]
    expected = [share[i] * share[j] / (1.0 - share[i]) * 3000 for i, j in pairs]
    assert set(counts) == set(pairs)
    assert stats.chisquare([counts[pair] for pair in pairs], expected).pvalue > 0.01


def test_magnitude_in_the_pruner_goes_by_the_weights_into_each_node():
    rnn = make_rnn("gru")
    norms = np.zeros(rnn.hidden_size)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight = getattr(rnn, name).detach().numpy()
        for node in range(rnn.hidden_size):
            norms[node] += np.square(weight[node :: rnn.hidden_size]).sum()
    X = np.random.default_rng(0).normal(size=(6, 5, N_FEATURES))
    pruner = SpectralRNNPruner(rnn, m=3, solver="magnitude", trajectory_fit=0).fit(X)
    assert set(pruner.support_) == set(np.argsort(-norms)[:3])
