"""Swaps: their rating, and what is left when no swap helps."""

import numpy as np
import pytest
from oracles import best_support, direct_loss
from problems import echo_problem, random_problem, with_copies, with_dead

from skspectral.solvers import (
    SOLVERS,
    ExchangeSolver,
    GreedySolver,
    PivotedCholeskySolver,
)
from skspectral.solvers.swaps import ExchangeState, chained, exchange

PROBLEMS = {
    "general weight": random_problem(1, n=12),
    "identity weight": random_problem(2, n=12, weight="identity"),
    "ridge": random_problem(3, n=12, tau=1e-3),
    "low rank": random_problem(4, n=12, rank=5),
    "copied nodes": with_copies(random_problem(6, n=6), 4),
    "dead nodes": with_dead(random_problem(7, n=12), [0, 4, 9]),
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
REFINING = [name for name, kind in SOLVERS.items() if "refine" in kind().get_params()]


def swapped(support, place, node):
    other = support.copy()
    other[place] = node
    return other


def direct_gains(problem, support):
    """Gain of every swap, each by two direct solves."""
    gains = np.full((len(support), problem.n_nodes), -np.inf)
    before = direct_loss(problem, support)
    for place in range(len(support)):
        for node in np.setdiff1d(np.arange(problem.n_nodes), support):
            gains[place, node] = before - direct_loss(problem, swapped(support, place, node))
    return gains


@pytest.mark.parametrize("name", ["general weight", "identity weight", "ridge"])
@pytest.mark.parametrize("support", [[3], [7, 2, 5], [0, 11, 4, 6, 8, 1]])
def test_gains_are_those_of_direct_solves(name, support):
    problem = PROBLEMS[name]
    gains = ExchangeState(problem, np.array(support)).all_gains()
    expected = direct_gains(problem, np.array(support))
    np.testing.assert_allclose(gains, expected, atol=1e-8 * problem.total)


def test_state_stays_right_through_many_swaps(rng):
    problem = PROBLEMS["ridge"]
    state = ExchangeState(problem, np.arange(5))
    for _ in range(20):
        state.swap_if_better(int(rng.integers(5)), -np.inf)
        fresh = ExchangeState(problem, state.support)
        np.testing.assert_allclose(state.all_gains(), fresh.all_gains(), atol=1e-8 * problem.total)


@every_problem
@pytest.mark.parametrize("m", [1, 3, 6])
def test_no_swap_is_left_and_nothing_is_lost(problem, m, rng):
    start = rng.permutation(problem.n_nodes)[:m]
    support = exchange(problem, start)
    loss = direct_loss(problem, support)
    assert len(set(support.tolist())) == m
    assert loss <= direct_loss(problem, start) + 1e-12 * problem.total
    assert direct_gains(problem, support).max() <= 1e-8 * problem.total


@every_problem
@pytest.mark.parametrize("m", [2, 5])
def test_exchange_is_between_its_starts_and_the_best_support(problem, m):
    starts = [GreedySolver().select(problem, m), PivotedCholeskySolver().select(problem, m)]
    loss = direct_loss(problem, ExchangeSolver().select(problem, m).order)
    assert loss <= min(start.loss_path[-1] for start in starts) + 1e-10 * problem.total
    assert loss >= direct_loss(problem, best_support(problem, m)) - 1e-10 * problem.total


@pytest.mark.parametrize("name", REFINING)
def test_refining_never_makes_a_solver_worse(name):
    problem = random_problem(8, n=12, tau=1e-6)
    seed = {"random_state": 0} if "random_state" in SOLVERS[name]().get_params() else {}
    plain = SOLVERS[name](**seed).select(problem, 4)
    refined = SOLVERS[name](**seed, refine=True).select(problem, 4)
    assert refined.loss_path[-1] <= plain.loss_path[-1] * (1.0 + 1e-12)
    assert direct_gains(problem, refined.order).max() <= 1e-8 * problem.total


def test_the_chain_finds_the_best_support_where_swaps_do_not():
    missed = {exchange: 0, chained: 0}
    for seed in range(10):
        problem = echo_problem(seed, n=14)
        best = direct_loss(problem, best_support(problem, 5))
        for start in np.random.default_rng(seed).permuted(np.tile(np.arange(14), (6, 1)), axis=1):
            for improve in missed:
                loss = direct_loss(problem, improve(problem, start[:5]))
                missed[improve] += loss > 1.0001 * best
    assert missed[exchange] > 0
    assert missed[chained] == 0


def test_the_chain_leaves_no_swap_and_makes_nothing_worse():
    problem = echo_problem(0)
    for m in (1, 2, 24):
        start = np.arange(m)
        support = chained(problem, start)
        assert len(set(support.tolist())) == m
        assert direct_loss(problem, support) <= direct_loss(problem, exchange(problem, start))
        assert direct_gains(problem, support).max() <= 1e-8 * problem.total


def test_keeping_all_leaves_nothing_to_swap():
    problem = PROBLEMS["ridge"]
    for improve in (exchange, chained):
        assert improve(problem, np.arange(12)).tolist() == list(range(12))
