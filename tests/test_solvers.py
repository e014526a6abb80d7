"""What every solver in SOLVERS holds to."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from oracles import direct_loss
from problems import permuted, planted, random_problem, with_copies, with_dead

from skspectral import SOLVERS
from skspectral.pruners.parameters import as_solver
from skspectral.solvers import extend

PROBLEMS = {
    "general weight": random_problem(1),
    "multiple of the identity": replace(random_problem(2), weight=3.0 * np.eye(10)),
    "ridge": random_problem(3, tau=1e-3),
    "low rank": random_problem(4, n=12, rank=5),
    "low rank with ridge": random_problem(5, n=12, rank=5, tau=1e-3),
    "copied nodes": with_copies(random_problem(6, n=6), 4),
    "dead nodes": with_dead(random_problem(7), [0, 4, 9]),
}
SIZES = (1, 4, 9)
# A solver that draws has a random_state; what it chooses is a law only on average.
DRAWING = [name for name, kind in SOLVERS.items() if "random_state" in kind().get_params()]
EXACT = [name for name in SOLVERS if name not in DRAWING]
# The others are there for comparison, and may choose badly.
OPTIMIZING = [name for name, kind in SOLVERS.items() if kind.optimizes]

every_solver = pytest.mark.parametrize("solver", SOLVERS)
every_exact_solver = pytest.mark.parametrize("solver", EXACT)
every_optimizing_solver = pytest.mark.parametrize("solver", OPTIMIZING)
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
every_size = pytest.mark.parametrize("m", SIZES)


def choose(solver, problem, m, seed=0):
    return as_solver(solver, seed).select(problem, m)


@every_solver
@every_problem
@every_size
def test_contract_of_a_selection_of_distinct_nodes_and_their_losses_holds(solver, problem, m):
    selection = choose(solver, problem, m)
    assert selection.order.shape == (m,)
    assert len(set(selection.order)) == m
    assert set(selection.order) <= set(range(problem.n_nodes))
    assert selection.support.tolist() == sorted(selection.order)

    path = selection.loss_path
    direct = [direct_loss(problem, selection.order[:k]) for k in range(m + 1)]
    assert path.shape == (m + 1,)
    np.testing.assert_allclose(path, direct, rtol=0, atol=1e-9 * direct[0])
    assert (np.diff(path) <= 0.0).all()
    assert path[-1] >= 0.0
    assert direct[-1] >= problem.lower_bound()[m] - 1e-12 * problem.total


@every_solver
def test_same_seed_gives_the_same_selection(solver):
    problem = random_problem(1)
    first, second = choose(solver, problem, 5, seed=3), choose(solver, problem, 5, seed=3)
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.loss_path, second.loss_path)


@every_solver
def test_selecting_leaves_the_problem_as_it_was(solver):
    problem, same = random_problem(1), random_problem(1)
    choose(solver, problem, 5)
    for name in ("covariance", "weight", "ridge", "magnitude"):
        np.testing.assert_array_equal(getattr(problem, name), getattr(same, name))


@every_exact_solver
@pytest.mark.parametrize(("seed", "m"), [*enumerate(SIZES), (3, 4)])
def test_order_follows_a_renaming_of_the_nodes(solver, seed, m, rng):
    problem = random_problem(seed, tau=1e-6)
    p = rng.permutation(problem.n_nodes)
    renamed = choose(solver, permuted(problem, p), m)
    assert p[renamed.order].tolist() == choose(solver, problem, m).order.tolist()


@every_exact_solver
@pytest.mark.parametrize("exponent", [-8, 8])
def test_units_of_states_and_weight_change_nothing(solver, exponent):
    problem, scale = random_problem(1, tau=1e-6), 2.0**exponent
    scaled = replace(
        problem,
        covariance=scale * problem.covariance,
        weight=problem.weight / scale**2,
        ridge=scale * problem.ridge,
    )
    one, other = choose(solver, problem, 4), choose(solver, scaled, 4)
    assert one.order.tolist() == other.order.tolist()
    np.testing.assert_allclose(other.loss_path * scale, one.loss_path, rtol=1e-9)


@every_optimizing_solver
@pytest.mark.parametrize(
    ("name", "m"), [("general weight", 3), ("multiple of the identity", 6), ("ridge", 3)]
)
def test_loss_is_never_over_the_median_of_random_supports(solver, name, m):
    problem = PROBLEMS[name]
    random = [choose("random", problem, m, seed).loss_path[-1] for seed in range(50)]
    seeds = range(50) if solver in DRAWING else [0]
    median = np.median([choose(solver, problem, m, seed).loss_path[-1] for seed in seeds])
    assert median <= np.median(random)


@every_optimizing_solver
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n_sources", [2, 3, 5])
def test_planted_sources_are_found(solver, seed, n_sources):
    problem, sources = planted(n_sources, seed=seed)
    selection = choose(solver, problem, n_sources)
    assert selection.support.tolist() == sources.tolist()
    assert selection.loss_path[-1] <= 1e-12 * problem.total


@every_solver
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize(("seed", "m"), [(0, 5), (0, 8), (1, 7), (1, 8)])
def test_dead_nodes_come_after_all_live_ones(solver, seed, rank, m):
    problem = with_dead(random_problem(seed, rank=rank), dead=[0, 5, 6])
    order = choose(solver, problem, m, seed).order.tolist()
    assert not {0, 5, 6} & set(order[:7])


@every_solver
def test_keeping_all_nodes_loses_what_the_ridge_takes(solver):
    for name, problem in PROBLEMS.items():
        n = problem.n_nodes
        selection = choose(solver, problem, n)
        assert selection.support.tolist() == list(range(n)), name
        ridge = np.trace(problem.weight) * problem.ridge.max()
        assert selection.loss_path[-1] <= ridge + 1e-10 * problem.total, name


@every_solver
def test_a_problem_without_states_still_has_a_selection(solver):
    problem = with_dead(random_problem(0), dead=list(range(10)))
    selection = choose(solver, problem, 3)
    assert len(set(selection.order)) == 3
    np.testing.assert_array_equal(selection.loss_path, 0.0)


def test_random_supports_are_drawn_evenly():
    problem, draws = random_problem(0, n=6), 600
    counts = np.zeros(6)
    for seed in range(draws):
        counts[choose("random", problem, 2, seed).order] += 1
    expected, deviation = draws / 3, np.sqrt(draws * (1 / 3) * (2 / 3))
    assert (np.abs(counts - expected) < 4.0 * deviation).all()


@pytest.mark.parametrize("start", [[1, 1], [0, 2, 0], [-1], [10]])
def test_a_start_of_other_than_distinct_nodes_is_refused(start):
    with pytest.raises(ValueError, match=r"start must hold nodes from 0 to 9, each once; got \["):
        extend(random_problem(0, n=10), start, 4)


def test_of_a_start_only_the_nodes_that_are_needed_are_looked_at():
    problem = random_problem(0, n=10)
    assert extend(problem, itertools.count(), 3).order.tolist() == [0, 1, 2]
    assert extend(problem, [4, 7, 4], 2).order.tolist() == [4, 7]
