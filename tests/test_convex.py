"""The convex relaxation: value, gradient, projection, certificate."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import best_support, direct_loss, residual
from problems import random_problem, with_copies
from scipy import optimize
from sklearn.exceptions import ConvergenceWarning

from skspectral.solvers import ConvexSolver, GreedySolver, SelectionProblem
from skspectral.solvers.convex import RELAXATIONS
from skspectral.solvers.design import DesignProblem, project

NOISES = pytest.mark.parametrize("noise", [1e-2, 0.3, 3.0])


def relaxed(seed, noise, rank=None):
    return DesignProblem(random_problem(seed, n=8, rank=rank), noise)


def interior_point(rng, m=3.0):
    z = rng.uniform(0.2, 0.8, size=8)
    return z * m / z.sum()


@NOISES
@pytest.mark.parametrize("rank", [None, 3])
def test_loss_is_that_of_nodes_seen_through_noise(noise, rank, rng):
    relaxation = relaxed(0, noise, rank)
    problem, z = relaxation.problem, interior_point(rng)
    noisy = SelectionProblem(problem.covariance, problem.weight, noise / z)
    np.testing.assert_allclose(relaxation.evaluate(z)[0], direct_loss(noisy, range(8)), rtol=1e-9)


@NOISES
def test_at_a_support_it_is_the_loss_with_the_noise_as_ridge(noise):
    relaxation, support = relaxed(1, noise), [0, 3, 5]
    problem = relaxation.problem
    z = np.zeros(8)
    z[support] = 1.0
    E = residual(problem.covariance, np.full(8, noise), support)
    np.testing.assert_allclose(relaxation.evaluate(z)[0], np.trace(problem.weight @ E), rtol=1e-9)


@NOISES
@pytest.mark.parametrize("rank", [None, 3])
def test_gradient_is_that_of_finite_differences(noise, rank, rng):
    relaxation, z = relaxed(2, noise, rank), interior_point(rng)
    numeric = optimize.approx_fprime(z, lambda x: relaxation.evaluate(x)[0], 1e-7)
    loss, gradient = relaxation.evaluate(z)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5 * max(loss, np.abs(gradient).max()))


@NOISES
def test_loss_is_convex_along_segments_and_above_its_tangents(noise, rng):
    relaxation = relaxed(3, noise)
    for _ in range(20):
        one, other = interior_point(rng), interior_point(rng)
        (f, gradient), (g, _) = relaxation.evaluate(one), relaxation.evaluate(other)
        for t in (0.25, 0.5, 0.75):
            between = relaxation.evaluate(t * one + (1 - t) * other)[0]
            assert between <= t * f + (1 - t) * g + 1e-12
        assert g >= f + gradient @ (other - one) - 1e-12


@NOISES
@pytest.mark.parametrize("m", [2, 5])
def test_minimum_less_its_gap_bounds_every_support(noise, m):
    relaxation = relaxed(4, noise)
    problem = relaxation.problem
    z, _, gap = relaxation.minimize(np.full(8, m / 8), tol=1e-3, max_iter=2000)
    loss = relaxation.evaluate(z)[0]
    assert 0.0 <= gap <= 1e-3
    assert z.sum() == pytest.approx(m)
    noisy = SelectionProblem(problem.covariance, problem.weight, np.full(8, noise))
    best = direct_loss(noisy, best_support(noisy, m))
    assert loss * (1.0 - gap) <= best * (1.0 + 1e-12)


@NOISES
@pytest.mark.parametrize("m", [2, 5])
def test_minimum_agrees_with_a_general_solver(noise, m):
    relaxation = relaxed(5, noise)
    z, _, gap = relaxation.minimize(np.full(8, m / 8), tol=1e-5, max_iter=5000)
    loss = relaxation.evaluate(z)[0]
    general = optimize.minimize(
        lambda x: relaxation.evaluate(np.clip(x, 0.0, 1.0))[0],
        np.full(8, m / 8),
        jac=lambda x: relaxation.evaluate(np.clip(x, 0.0, 1.0))[1],
        bounds=[(0.0, 1.0)] * 8,
        constraints={"type": "eq", "fun": lambda x: x.sum() - m, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    assert general.fun >= loss * (1.0 - gap) - 1e-9
    np.testing.assert_allclose(loss, general.fun, rtol=1e-4)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.data())
def test_projection_is_the_nearest_feasible_point(entries, data):
    z = np.array(entries)
    m = data.draw(st.integers(1, len(z) - 1))
    x = project(z, m)
    assert ((x >= 0.0) & (x <= 1.0)).all()
    assert x.sum() == pytest.approx(m)
    # Nearest: no feasible direction makes an acute angle with z − x; corners suffice.
    pull = z - x
    assert np.sort(pull)[-m:].sum() <= pull @ x + 1e-9


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.data())
def test_projection_keeps_feasible_points_and_the_order(entries, data):
    z = np.array(entries)
    m = data.draw(st.integers(1, len(z) - 1))
    x = project(z, m)
    np.testing.assert_allclose(project(x, m), x, atol=1e-12)
    order = np.argsort(z)
    assert (np.diff(x[order]) >= 0.0).all()


def test_stopping_early_warns_with_the_gap():
    problem = random_problem(6)
    with pytest.warns(
        ConvergenceWarning, match=r"gap of .* above tol=.*max_iter \(now 1\)"
    ) as told:
        selection = ConvexSolver(max_iter=1, tol=1e-6).select(problem, 4)
    (gap,) = re.findall(r"gap of (\S+),", str(told[0].message))
    assert selection.gap > 1e-6
    assert float(gap) == pytest.approx(selection.gap, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_wanted_gap_is_reached_in_silence(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = ConvexSolver(tol=1e-2).select(random_problem(seed), 4)
    assert 0.0 <= selection.gap <= 1e-2


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("seed", range(5))
def test_refined_is_at_least_as_good_as_refined_greedy(relaxation, seed):
    problem = random_problem(seed, n=14, tau=1e-6)
    convex = ConvexSolver(relaxation=relaxation, refine=True).select(problem, 5)
    greedy = GreedySolver(refine=True).select(problem, 5)
    assert convex.loss_path[-1] <= greedy.loss_path[-1] * (1.0 + 1e-12)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("seed", range(5))
def test_of_exact_copies_one_is_taken(relaxation, seed):
    """Where it takes both, greedy is better, and free."""
    problem = with_copies(random_problem(seed, n=8, tau=1e-9, weight="identity"), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = ConvexSolver(relaxation=relaxation).select(problem, 8)
    greedy = GreedySolver().select(problem, 8)
    assert found.loss_path[-1] <= greedy.loss_path[-1] <= 1e-6 * problem.total
    assert found.gap is not None


def test_an_unknown_relaxation_is_refused():
    with pytest.raises(ValueError, match="relaxation must be one of design, group_lasso; got 'lp'"):
        ConvexSolver(relaxation="lp").select(random_problem(0), 4)
