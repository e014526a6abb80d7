"""Choice and search by what the pruned network answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .base import Solver
from .exchange import ExchangeSolver
from .greedy import GreedySolver
from .problem import Selection, SelectionProblem
from .residual import extend
from .swaps import ExchangeState
from .trials import Trials

PROPOSERS = {"greedy": GreedySolver(), "exchange": ExchangeSolver()}
REACH = 0.1  # mean rank of the swaps that are tried first, as a fraction of all swaps


class ClosedLoopSolver(Solver):
    """Keep the nodes with which the whole network answers most like the dense one.

    The losses look at one step; this solver runs the pruned network over calibration sequences,
    each from beginning to end, and goes by the divergence of its answers. First it runs what
    greedy and exchange propose under several objectives, with each reconstruction. Then it swaps a
    node of the best for another as long as there is budget, and keeps the swap when the divergence
    falls. Swaps that lower the loss are tried before others.

    Parameters
    ----------
    n_evaluations : int, default=400
        The most networks that are run, for all layers together, each of which has an equal share.
    time_budget : float or None, default=None
        Seconds of the search, for all layers together, after which no more networks are run. At
        least one is, for each layer.
    n_sequences : int, default=2048
        The most calibration sequences that each is run on.
    held_out : float, default=0.1
        Part of these sequences that no choice is made by. The divergence on them is reported
        with that of every network that was the best so far; when it rises, the search has learned
        the other sequences by heart, and more of them are needed.
    random_state : int, RandomState or None, default=None
        Seed of the swaps.

    Notes
    -----
    A network is run no further once it is too far behind the best on the sequences so far. With
    ``time_budget`` the outcome depends on the speed of the machine.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> from skspectral.solvers import ClosedLoopSolver
    >>> _ = torch.manual_seed(0)
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> solver = ClosedLoopSolver(n_evaluations=50, random_state=0)
    >>> pruner = SpectralRNNPruner(gru, m=8, solver=solver).fit(torch.randn(50, 20, 3))
    >>> chosen = [row for row in pruner.selection_report_ if row["best"]]
    >>> chosen[-1]["divergence"] < chosen[0]["divergence"]
    True
    """

    runs_network = True

    def __init__(
        self,
        n_evaluations: int = 400,
        time_budget: float | None = None,
        n_sequences: int = 2048,
        held_out: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_evaluations = n_evaluations
        self.time_budget = time_budget
        self.n_sequences = n_sequences
        self.held_out = held_out
        self.random_state = random_state

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        self._check_params()
        if problem.trials is None:
            raise ValueError(
                "ClosedLoopSolver goes by the trials of the SelectionProblem, which is None; use "
                "it through SpectralRNNPruner, which runs the network."
            )
        share = problem.trials.share
        n_evaluations = max(1, int(self.n_evaluations * share))
        seconds = None if self.time_budget is None else self.time_budget * share
        search = Search(problem, problem.trials, n_evaluations, seconds)
        for candidate in takewhile(lambda _: search.goes_on(), proposals(problem, m)):
            search.evaluate(candidate)
        rng = check_random_state(self.random_state)
        while search.goes_on():
            search.improve(rng)
        best = search.best
        ordered = extend(problem, (), m, among=best.support)
        return replace(ordered, reconstruction=best.reconstruction, report=search.report())

    def _check_params(self) -> None:
        for name in ("n_evaluations", "n_sequences"):
            self._check(name, "an int of at least 1", Integral, lambda value: value >= 1)
        if self.time_budget is not None:
            rule = "None or a number of seconds above 0"
            self._check("time_budget", rule, Real, lambda value: value > 0.0)
        self._check("held_out", "a fraction in [0, 1)", Real, lambda value: 0.0 <= value < 1.0)

    def _check(self, name: str, rule: str, kind: type, holds: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if isinstance(value, kind) and holds(value):
            return
        error = ValueError if isinstance(value, kind) else TypeError
        raise error(f"{name} of ClosedLoopSolver must be {rule}; got {value!r}.")


@dataclass
class Candidate:
    """Nodes to keep with a reconstruction, and what was found of them."""

    source: str
    support: NDArray[np.intp]
    reconstruction: str
    loss: float = np.nan
    divergence: float = np.nan
    held_out: float = np.nan
    best: bool = False
    seconds: float = np.nan

    @property
    def key(self) -> tuple[bytes, str]:
        """What equal candidates have in common."""
        return self.support.tobytes(), self.reconstruction


def proposals(problem: SelectionProblem, m: int) -> Iterator[Candidate]:
    """What other solvers choose under every objective, with every reconstruction."""
    trials = cast(Trials, problem.trials)
    for name, solver in PROPOSERS.items():
        for objective, posed in {"chosen": problem, **trials.problems}.items():
            support = solver.select(posed, m).support
            for kind in trials.reconstructions:
                yield Candidate(f"{name}, {objective}", support, kind)


class Search:
    """Candidates, the best of them, and the budget."""

    def __init__(
        self,
        problem: SelectionProblem,
        trials: Trials,
        n_evaluations: int,
        time_budget: float | None,
    ) -> None:
        self._problem, self._trials = problem, trials
        self._live = problem.covariance.diagonal() > 0.0
        self._n_left, self._start = n_evaluations, time.perf_counter()
        self._end = np.inf if time_budget is None else self._start + time_budget
        self._seen: dict[tuple[bytes, str], Candidate] = {}
        self.best: Candidate
        self._least = np.inf  # divergence of the best, once that is finite

    def goes_on(self) -> bool:
        """Whether there is budget left."""
        return self._n_left > 0 and (not self._seen or time.perf_counter() < self._end)

    def evaluate(self, candidate: Candidate) -> bool:
        """Run a candidate that is new, if the budget allows; whether it is the best so far."""
        if candidate.key in self._seen or not self.goes_on():
            return False
        nodes, kind = candidate.support, candidate.reconstruction
        candidate.divergence = self._trials.run(nodes, kind, self._least)
        candidate.seconds = time.perf_counter() - self._start
        candidate.loss = self._loss(nodes, kind)
        # Of networks whose answers are not finite, the first stands in until there is another.
        candidate.best = not self._seen or candidate.divergence < self._least
        self._seen[candidate.key] = candidate
        self._n_left -= 1
        if candidate.best:
            self._take(candidate)
        return candidate.best

    def _take(self, candidate: Candidate) -> None:
        if np.isinf(self._least) and len(self._seen) > 1:
            self.best.best = False
        self.best = candidate
        if np.isfinite(candidate.divergence):
            self._least = candidate.divergence
        candidate.held_out = self._trials.held_out(candidate.support, candidate.reconstruction)

    def _loss(self, support: NDArray[np.intp], kind: str) -> float:
        """Relative loss, of the reconstruction where that is known."""
        if self._trials.loss is not None:
            return self._trials.loss(support, kind)
        return self._problem.loss(support) / (self._problem.total or 1.0)

    def improve(self, rng: np.random.RandomState) -> None:
        """Try swaps until one is better, none is left or the budget is spent."""
        swaps = self._ranked_swaps()
        # Drawn one after another, those of low rank first with the odds of an exponential law.
        keys = np.arange(len(swaps)) / (REACH * len(swaps)) - rng.gumbel(size=len(swaps))
        for place, node in swaps[np.argsort(keys)]:
            if self.evaluate(self._swapped(place, node)) or not self.goes_on():
                return
        self._n_left = 0  # no swap helps

    def _ranked_swaps(self) -> NDArray[np.intp]:
        """Pairs of a place in the support and a node outside, the best by the loss first."""
        gains = ExchangeState(self._problem, self.best.support).all_gains()
        gains[:, ~self._live] = -np.inf
        order = np.argsort(-gains, axis=None, kind="stable")
        order = order[np.isfinite(gains.ravel()[order])]
        return np.column_stack(np.unravel_index(order, gains.shape))

    def _swapped(self, place: int, node: int) -> Candidate:
        support = self.best.support.copy()
        support[place] = node
        return Candidate("swap", np.sort(support), self.best.reconstruction)

    def report(self) -> tuple[dict[str, Any], ...]:
        """A row for every candidate, in the order they were run."""
        return tuple(asdict(candidate) for candidate in self._seen.values())
