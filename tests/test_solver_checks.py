"""check_solver passes what keeps the laws, and names the law that a solver breaks."""

from dataclasses import replace

import numpy as np
import pytest

from skspectral import SOLVERS
from skspectral.solvers import GreedySolver, RandomSolver, Solver, check_solver, extend


class First(Solver):
    """Takes the first nodes, which breaks the last law alone: they may have no states."""

    def _select(self, problem, m):
        return extend(problem, range(m), m)


class Changed(GreedySolver):
    """Greedy, whose selection is changed at the end."""

    def _select(self, problem, m):
        return self.changed(problem, super()._select(problem, m))


class Shifted(Changed):
    def changed(self, problem, selection):
        return replace(selection, loss_path=selection.loss_path * (1.0 + 1e-6))


class Short(Changed):
    def changed(self, problem, selection):
        return replace(selection, loss_path=selection.loss_path[1:])


class Rising(Changed):
    def changed(self, problem, selection):
        path = selection.loss_path.copy()
        if path[-2] - path[-1] < 1e-10 * problem.total:
            path[-1] = np.nextafter(path[-2], np.inf)
        return replace(selection, loss_path=path)


class Overwriting(Changed):
    def changed(self, problem, selection):
        problem.magnitude[0] += 1.0
        return selection


class Unseeded(Solver):
    """Draws from a source that no random_state reaches."""

    def _select(self, problem, m):
        live = np.flatnonzero(problem.covariance.diagonal())
        return extend(problem, np.random.default_rng().permutation(live)[:m], m)


@pytest.mark.parametrize("kind", SOLVERS.values())
def test_solvers_of_the_package_pass(kind):
    check_solver(kind())


def test_solver_itself_stays_as_it_was():
    solver = RandomSolver(random_state=7)
    check_solver(solver)
    assert solver.random_state == 7


@pytest.mark.parametrize(
    ("solver", "law"),
    [
        (First(), "'dead nodes', m=4: nodes whose covariance is zero must come last"),
        (Shifted(), "'dense weight', m=1: loss_path must hold the losses of the first"),
        (Short(), r"loss_path must hold 2 losses, .* got shape \(1,\)"),
        (Rising(), "'low rank', m=4: loss_path must not increase"),
        (Overwriting(), "m=1: the problem was changed"),
        (Unseeded(), "the same problem and random_state gave other nodes"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_broken_law_is_named(solver, law):
    with pytest.raises(AssertionError, match=law):
        check_solver(solver)
