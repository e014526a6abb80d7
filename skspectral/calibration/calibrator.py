"""From calibration sequences to the choice that they pose, whatever the number of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.batches import Batches
from ..data.dask_sequences import DaskSequences
from ..data.labeled import LabeledSequences
from ..data.memory import cached, checkpoint_path, content_hash
from ..data.sampling import Reservoir, hold_out, sample_batches, take_sequences
from ..data.sequences import Sequences
from ..rnn.forward_pass import ForwardPass
from ..rnn.layers.weights import in_float64, incoming_norms, weights_of
from ..rnn.losses.likelihood import Likelihood
from ..rnn.states.collector import StateCollector
from ..rnn.surgery.refit import ReadSite, Refit, dense_states
from ..rnn.surgery.surgery import Surgery
from ..rnn.tracing.readers import Readers
from ..rnn.tracing.tracer import find_readers
from ..rnn.trajectory.dense_outputs import DenseOutputs
from ..rnn.trajectory.fit import TrajectoryFit
from ..selection.objective import Objective
from ..selection.reconstruction import Kind
from ..solvers import GreedySolver, SelectionProblem
from ..utils.progress import phase
from .dask_pass import run_chunks
from .forward_pass import run_through
from .hidden_states import batch_factory, cell_moments, short_batches
from .layer_statistics import LayerStatistics
from .moments import HiddenStateMoments
from .previous import PreviousCalibration, averaged, check_layers
from .sensitivity import outputs_likelihood, reading_sensitivity

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A dense network that has seen its calibration sequences.

    Parameters
    ----------
    collector : StateCollector
        The module and its layers.
    surgery : Surgery
        Prunes it.
    batch : object
        A calibration batch.
    moments : dict of HiddenStateMoments
        Moments of the hidden states of every layer.
    statistics : dict of LayerStatistics
        What the objectives know of each.
    problems : dict of SelectionProblem
        The choices that they pose.
    sample : list
        Batches to run again, where they are needed.
    likelihood : Likelihood
        What the answers say of the labels, if they say anything.
    answers : DenseOutputs
        Of the dense network, on the batches of the sample that are held out.
    refit : Refit or None
        Fits readers to the states that a pruned network reaches.
    trajectory_fit : TrajectoryFit or None
        Fits small layers to the trajectories of the dense ones.
    kind : str
        How lost nodes are rebuilt.
    labeled : LabeledSequences or None
        Sequences and their targets, where they are needed.
    """

    collector: StateCollector
    surgery: Surgery
    batch: Any
    moments: dict[str, HiddenStateMoments]
    statistics: dict[str, LayerStatistics]
    problems: dict[str, SelectionProblem]
    sample: list[Any]
    likelihood: Likelihood
    outputs: DenseOutputs
    refit: Refit | None
    trajectory_fit: TrajectoryFit | None
    kind: Kind
    labeled: LabeledSequences | None = None

    @cached_property
    def greedy_paths(self) -> dict[str, Array]:
        """By layer, the relative loss of the best first nodes, by the greedy solver."""
        return {name: greedy_path(problem) for name, problem in self.problems.items()}


def greedy_path(problem: SelectionProblem) -> Array:
    """Return the loss of the first 0, 1, … nodes of the greedy solver, over that of none."""
    path = GreedySolver().select(problem, problem.n_nodes).loss_path
    return path / (path[0] or 1.0)


@dataclass(frozen=True)
class Calibrator:
    """Runs sequences through a network, and makes of them what its user asks for.

    Parameters
    ----------
    objective : Objective
        The loss to keep small.
    kind : str
        How lost nodes are rebuilt.
    family : str
        What the answers stand for.
    classifies : bool or None
        Whether they are known to be classes.
    n_distill : int
        How many sequences distillation needs.
    finetunes : bool
        Whether a loss of the answers is needed.
    n_trajectory : int
        On how many sequences small layers are fitted to the trajectories of the dense ones.
    n_refit : int
        On how many sequences readers are refitted.
    batch_size : int
        Most sequences in one forward pass.
    memory : object
        Where results are kept.
    n_jobs : int or None
        Processes that run batches at the same time.
    seed : int
        Seed of what is drawn.
    verbose : int
        Whether to show progress.
    """

    objective: Objective
    kind: Kind
    family: str
    classifies: bool | None
    n_distill: int
    finetunes: bool
    n_trajectory: int
    n_refit: int
    batch_size: int
    memory: Any
    n_jobs: int | None
    seed: int
    verbose: int

    def calibrate(
        self,
        collector: StateCollector,
        sequences: Sequences | Batches,
        before: PreviousCalibration,
        given: nn.Module,
    ) -> Calibration:
        """Run the sequences, and add moments and sensitivity of those seen before.

        What is pruned is compared with the given module, as it was before it was laid out.
        """
        moments, witnesses, sample = self._collect(collector, sequences)
        batch = witnesses[0]
        collector.layers = tuple(layer for layer in collector.layers if layer.name in moments)
        readers = self._recall(follow, collector, witnesses)
        likelihood = self._likelihood(collector, batch)
        weights = self._sensitivity(collector, sample, likelihood, moments)
        if before.moments:
            check_layers(before.moments, moments)
            weights = averaged(weights, before.weights, moments, before.moments)
            n_new = next(iter(moments.values())).n_steps
            moments = {name: each.merge(before.moments[name]) for name, each in moments.items()}
            share = n_new / next(iter(moments.values())).n_steps
            sample = self._mixed(sample, before.sample, share)
        cells = cell_moments(collector, readers, sample or [batch])
        statistics = statistics_of(collector, readers, moments, weights, cells)
        passes = passes_of(collector, witnesses)
        surgery = Surgery(collector.module, collector.layers, readers, passes, given)
        some, held_out = hold_out(sample)
        others = forward_passes(collector, held_out)
        outputs = DenseOutputs(collector.module, others, likelihood)
        return Calibration(
            collector,
            surgery,
            batch,
            moments,
            statistics,
            {name: each.problem(self.objective, self.kind) for name, each in statistics.items()},
            sample,
            likelihood,
            outputs,
            self._refit(collector, readers, take_sequences(some, self.n_refit)),
            self._trajectory_fit(collector, statistics, some, outputs),
            self.kind,
        )

    def _mixed(self, new: list[Any], old: list[Any], share: float) -> list[Any]:
        """Batches of which a share are new."""
        if not old:
            return new
        n_sequences = self._n_sample()
        n_new = round(share * n_sequences)
        batches = [*take_sequences(new, n_new), *take_sequences(old, n_sequences - n_new)]
        np.random.RandomState(self.seed).shuffle(batches)
        return batches

    def _refit(
        self, collector: StateCollector, readers: Readers, batches: list[Any]
    ) -> Refit | None:
        if not batches or (collector.is_bare and not readers.readers):
            return None
        passes = [collector.arguments(batch, whole=False) for batch in batches]
        own = {layer.path: layer for layer in collector.layers}
        places = [ReadSite(reader.path, own.get(reader.path)) for reader in readers.readers]
        stays = [layer for layer in own.values() if layer.host in readers.not_foldable]
        places += [ReadSite(layer.path, layer, leaving=True) for layer in stays if layer.host]
        known = self._recall(dense_states, collector.module, places, passes)
        return Refit(collector.module, collector.layers, readers, passes, known)

    def _trajectory_fit(
        self,
        collector: StateCollector,
        statistics: Mapping[str, LayerStatistics],
        sample: list[Any],
        outputs: DenseOutputs,
    ) -> TrajectoryFit | None:
        passes = forward_passes(collector, take_sequences(sample, self.n_trajectory))
        if not passes:
            return None
        weights = {name: torch.as_tensor(each.reading_weight) for name, each in statistics.items()}
        layers = collector.layers
        return TrajectoryFit(collector.module, layers, weights, passes, outputs, self.seed)

    def _recall(self, function: Any, *args: Any) -> Any:
        """Call a function, or take its result from memory."""
        return cached(function, self.memory, args)(*args)

    def _collect(
        self, collector: StateCollector, sequences: Sequences | Batches
    ) -> tuple[dict[str, HiddenStateMoments], list[Any], list[Any]]:
        """Return moments of the hidden states, batches to look at, and batches to run again."""
        rng, n_sequences = np.random.RandomState(self.seed), self._n_sample()
        if isinstance(sequences, Sequences):
            found, witnesses = self.collect(collector, sequences)
            sample = (
                sample_batches(sequences, n_sequences, self.batch_size, rng) if n_sequences else []
            )
        else:
            reservoir = Reservoir(n_sequences, rng)
            found, witnesses = self.collect(collector, sequences, reservoir)
            sample = reservoir.batches
        # Added to none, since what memory gives may be a map of a file, which cannot be changed.
        fresh = {name: HiddenStateMoments(each.n_nodes).merge(each) for name, each in found.items()}
        return fresh, witnesses, sample

    def _n_sample(self) -> int:
        needed = self.objective.n_sensitivity if self.objective.uses_sensitivity else 0
        return max(needed, self.n_distill, self.n_trajectory, self.n_refit)

    def _likelihood(self, collector: StateCollector, batch: Any) -> Likelihood:
        """Return what the answers stand for; numbers, where there are none that can be compared."""
        recalled_args = collector, batch, self.family, self.classifies
        try:
            found: Likelihood = self._recall(outputs_likelihood, *recalled_args)
        except ValueError:
            if self._needs_likelihood():
                raise
            return Likelihood("gaussian")
        return found

    def _needs_likelihood(self) -> bool:
        return self.objective.uses_sensitivity or self.n_distill > 0 or self.finetunes

    def collect(
        self,
        collector: StateCollector,
        sequences: Sequences | Batches,
        reservoir: Reservoir | None = None,
    ) -> tuple[dict[str, HiddenStateMoments], list[Any]]:
        """Return moments of the hidden states, and batches to look at, the first of all first."""
        batches_from = batch_factory(collector, sequences, self.batch_size, self.memory)
        if isinstance(sequences, DaskSequences):
            moments, collector.layout, _, found = run_chunks(sequences, collector, self.batch_size)
            kept = short_batches(collector, sequences, found)
        elif isinstance(sequences, Batches):
            batches = batches_from(0)
            watched = batches if reservoir is None else reservoir.tee(batches)
            moments, collector.layout, kept = self._run(
                collector, sequences, lambda _: watched, None
            )
        else:
            moments, collector.layout, kept = self._run_kept(collector, sequences, batches_from)
        if not moments:
            raise ValueError(
                f"no recurrent layer of {type(collector.module).__name__} ran on X; give sequences "
                "on which it does."
            )
        # What memory gives may be a map of a file, which torch does not take.
        kept = [np.array(each) if isinstance(each, np.ndarray) else each for each in kept]
        return moments, kept

    def _run_kept(self, collector: StateCollector, sequences: Sequences, batches_from: Any) -> Any:
        """What memory keeps of such a pass, finished or stopped, or else the pass."""
        if self.memory is None:
            return self._run(collector, sequences, batches_from, None)
        digest = content_hash((collector, sequences, self.batch_size))
        place = checkpoint_path(self.memory, digest)
        run = cached(self._run, self.memory, digest)
        return run(collector, sequences, batches_from, place)

    def _run(
        self, collector: StateCollector, sequences: Any, batches_from: Any, place: Path | None
    ) -> tuple[dict[str, HiddenStateMoments], str | None, list[Any]]:
        found = run_through(collector, batches_from, self.n_jobs, place, self.verbose)
        moments, collector.layout, kept = found
        if isinstance(sequences, Sequences):
            kept = short_batches(collector, sequences, kept)
        return moments, collector.layout, kept

    def _sensitivity(
        self,
        collector: StateCollector,
        sample: list[Any],
        likelihood: Likelihood,
        moments: dict[str, HiddenStateMoments],
    ) -> dict[str, Array] | None:
        if not self.objective.uses_sensitivity:
            return None
        some = take_sequences(sample, self.objective.n_sensitivity)
        # Layers in their own units, all of them in those of one, so that float32 holds them.
        unit = max(each.scale for each in moments.values())
        units = {name: each.whitening * unit for name, each in moments.items()}
        with phase("sensitivity", self.verbose):
            return self._recall(reading_sensitivity, collector, some, likelihood, units, self.seed)


def forward_passes(collector: StateCollector, batches: list[Any]) -> list[ForwardPass]:
    """Return a forward pass of each batch."""
    return [ForwardPass(*collector.arguments(batch, whole=False)) for batch in batches]


def passes_of(collector: StateCollector, batches: list[Any]) -> list[ForwardPass]:
    """Return a forward pass of each batch, and one of the first in training mode."""
    every = forward_passes(collector, batches)
    return [*every, replace(every[0], training=True)]


def follow(collector: StateCollector, batches: list[Any]) -> Readers:
    """Return who reads the states of a module on some batches."""
    return find_readers(collector.module, collector.layers, passes_of(collector, batches))


def statistics_of(
    collector: StateCollector,
    readers: Readers,
    moments: dict[str, HiddenStateMoments],
    weights: dict[str, Array] | None,
    cells: dict[str, HiddenStateMoments],
) -> dict[str, LayerStatistics]:
    """Moments of the states and weights of the network, as arrays."""
    found = {}
    for layer in collector.layers:
        rnn, name = layer.of(collector.module), layer.name
        found[name] = LayerStatistics(
            moments[name].covariance,
            moments[name].mean,
            in_float64(weights_of(rnn)["weight_hh"]).numpy(),
            [weight.numpy() for weight in readers.weights(collector.module, name)],
            incoming_norms(rnn).numpy(),
            None if weights is None else weights.get(name),
            cells.get(name),
        )
    return found
