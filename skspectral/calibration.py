"""From calibration sequences to the choice that they pose, whatever the number of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from .caching import recalled
from .covariance import HiddenStateMoments
from .objective import Objective
from .reconstruction import Kind
from .rnn.layers import in_float64, incoming_norms, weights_of
from .rnn.likelihood import Likelihood
from .rnn.readers import Readers, find_readers
from .rnn.refit import Refit, dense_states
from .rnn.states import StateCollector
from .sampling import Reservoir, draw, first, split
from .sensitivity import answers_likelihood, reading_sensitivity
from .sequences import Batches, Sequences
from .solvers import SelectionProblem, Solver
from .statistics import LayerStatistics
from .trials import trials_of


@dataclass(frozen=True)
class Calibration:
    """A dense network that has seen its calibration sequences.

    Parameters
    ----------
    collector : StateCollector
        The module and its layer.
    readers : Readers
        Who reads the layer.
    batch : object
        A calibration batch.
    moments : HiddenStateMoments
        Moments of the hidden states.
    statistics : LayerStatistics
        What the objectives know of the layer.
    problem : SelectionProblem
        The choice that they pose.
    sample : list
        Batches to run again, where they are needed.
    likelihood : Likelihood
        What the answers say of the labels, where that is needed.
    refit : Refit or None
        Fits readers to the states that a pruned network reaches.
    """

    collector: StateCollector
    readers: Readers
    batch: Any
    moments: HiddenStateMoments
    statistics: LayerStatistics
    problem: SelectionProblem
    sample: list[Any]
    likelihood: Likelihood
    refit: Refit | None


@dataclass(frozen=True)
class Calibrator:
    """Runs sequences through a network, and makes of them what its user asks for.

    Parameters
    ----------
    objective : Objective
        The loss to keep small.
    solver : Solver
        Who will choose the nodes.
    kinds : tuple of str
        Reconstructions to choose from.
    family : str
        What the answers stand for.
    classifies : bool or None
        Whether they are known to be classes.
    n_distill : int
        How many sequences distillation needs.
    n_refit : int
        On how many sequences readers are refitted.
    batch_size : int
        Most sequences in one forward pass.
    memory : object
        Where results are kept.
    seed : int
        Seed of what is drawn.
    verbose : int
        Whether to show progress.
    """

    objective: Objective
    solver: Solver
    kinds: tuple[Kind, ...]
    family: str
    classifies: bool | None
    n_distill: int
    n_refit: int
    batch_size: int
    memory: Any
    seed: int
    verbose: int

    def calibrate(
        self,
        collector: StateCollector,
        sequences: Sequences | Batches,
        before: tuple[HiddenStateMoments, NDArray[np.float64] | None] | None = None,
    ) -> Calibration:
        """Run the sequences, and add moments and sensitivity of those seen before."""
        moments, batch, sample = self._collect(collector, sequences)
        readers = self._recall(find_readers, collector, batch)
        likelihood = Likelihood("gaussian")
        if self._needs_likelihood():
            likelihood = self._recall(
                answers_likelihood, collector, batch, self.family, self.classifies
            )
        sensitivity = self._sensitivity(collector, sample, likelihood)
        if before is not None:
            share = moments.n_steps / (moments.n_steps + before[0].n_steps)
            if sensitivity is not None and before[1] is not None:
                sensitivity = share * sensitivity + (1.0 - share) * before[1]
            moments.merge(before[0])
        statistics = statistics_of(collector, readers, moments, sensitivity)
        problem = self._problem(collector, readers, statistics, sample, likelihood)
        refit = self._refit(collector, readers, first(sample, self.n_refit))
        return Calibration(
            collector, readers, batch, moments, statistics, problem, sample, likelihood, refit
        )

    def _refit(
        self, collector: StateCollector, readers: Readers, batches: list[Any]
    ) -> Refit | None:
        if not batches or collector.layer.of(collector.module) is collector.module:
            return None
        passes = [collector.arguments(batch, whole=False) for batch in batches]
        paths = readers.paths if readers.obstacle is None else ()
        dense = self._recall(dense_states, collector.module, collector.layer, passes, paths)
        return Refit(collector.module, collector.layer, readers.paths, passes, {paths: dense})

    def _recall(self, function: Any, *args: Any) -> Any:
        """Call a function, or take its result from memory."""
        return recalled(function, self.memory, args)(*args)

    def _collect(
        self, collector: StateCollector, sequences: Sequences | Batches
    ) -> tuple[HiddenStateMoments, Any, list[Any]]:
        """Moments of the hidden states, the first batch, and batches to run again."""
        rng, n_sequences = np.random.RandomState(self.seed), self._n_sample()
        if isinstance(sequences, Sequences):
            found, batch = self.collect(collector, sequences)
            sample = draw(sequences, n_sequences, self.batch_size, rng) if n_sequences else []
        else:
            reservoir = Reservoir(n_sequences, rng)
            found, batch = self.collect(collector, sequences, reservoir)
            sample = reservoir.batches
        # Added to none, since what memory gives may be a map of a file, which cannot be changed.
        return HiddenStateMoments(found.n_nodes).merge(found), batch, sample

    def _n_sample(self) -> int:
        needed = self.objective.n_sensitivity if self._needs_sensitivity() else 0
        return max(needed, getattr(self.solver, "n_sequences", 0), self.n_distill, self.n_refit)

    def _needs_likelihood(self) -> bool:
        return self._needs_sensitivity() or self.n_distill > 0

    def _needs_sensitivity(self) -> bool:
        return self.solver.runs_network or self.objective.uses_sensitivity

    def collect(
        self,
        collector: StateCollector,
        sequences: Sequences | Batches,
        reservoir: Reservoir | None = None,
    ) -> tuple[HiddenStateMoments, Any]:
        """Moments of the hidden states, and the first batch."""
        batches = sequences.batches(self.batch_size)
        head = next(batches)
        every = chain([head], batches)
        run_through = recalled(collect, self.memory, (collector, sequences, self.batch_size))
        watched = every if reservoir is None else reservoir.watch(every)
        moments, collector.layout = run_through(collector, watched, self.verbose)
        return moments, head[1]

    def _sensitivity(
        self, collector: StateCollector, sample: list[Any], likelihood: Likelihood
    ) -> NDArray[np.float64] | None:
        if not self._needs_sensitivity():
            return None
        some = first(sample, self.objective.n_sensitivity)
        return self._recall(reading_sensitivity, collector, some, likelihood, self.seed)

    def _problem(
        self,
        collector: StateCollector,
        readers: Readers,
        statistics: LayerStatistics,
        sample: list[Any],
        likelihood: Likelihood,
    ) -> SelectionProblem:
        """The choice that the objective poses, with trials where the solver runs networks."""
        problem = statistics.problem(self.objective, self.kinds[0])
        if not self.solver.runs_network:
            return problem
        bare = collector.layer.of(collector.module) is collector.module
        parts = split(first(sample, self.solver.n_sequences), self.solver.held_out)
        trials = trials_of(
            collector,
            readers,
            statistics,
            parts,
            likelihood,
            self.kinds,
            problem.ridge,
            self.n_refit > 0 and not bare,
            self.verbose,
        )
        return replace(problem, trials=trials)


def statistics_of(
    collector: StateCollector,
    readers: Readers,
    moments: HiddenStateMoments,
    sensitivity: NDArray[np.float64] | None,
) -> LayerStatistics:
    """Moments of the states and weights of the network, as arrays."""
    rnn = collector.layer.of(collector.module)
    return LayerStatistics(
        moments.covariance,
        moments.mean,
        in_float64(weights_of(rnn)["weight_hh"]).numpy(),
        [weight.numpy() for weight in readers.weights(collector.module)],
        incoming_norms(rnn).numpy(),
        sensitivity,
    )


def run(
    collector: StateCollector, batches: Iterable[tuple[Any, Any]], what: str, verbose: int
) -> Iterator[tuple[Any, Any, Tensor]]:
    """Places in X, batches, and hidden states (n_sequences, n_steps, n_nodes)."""
    for index, batch in tqdm(batches, desc=what, unit="batch", disable=not verbose):
        yield index, batch, collector.run(batch)


def collect(
    collector: StateCollector, batches: Iterable[tuple[Any, Any]], verbose: int
) -> tuple[HiddenStateMoments, str | None]:
    """Moments of the hidden states, and the layout in which the module read the batches.

    Raises
    ------
    ValueError
        If a state is not finite.
    """
    n_nodes = collector.layer.of(collector.module).hidden_size
    moments = HiddenStateMoments(n_nodes)
    for _, _, states in run(collector, batches, "hidden states", verbose):
        moments.update(states.reshape(-1, n_nodes).to("cpu", torch.float64).numpy())
        if not np.isfinite(moments.products_.diagonal()).all():
            raise ValueError(
                f"the hidden states of layer {collector.layer.name!r} are not finite on X; "
                "check the scale of X and that the training of the network did not diverge."
            )
    return moments, collector.layout
