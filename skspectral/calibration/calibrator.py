"""Calibration: run sequences through a network and pose the selection problem of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from ..data.memory import cached, checkpoint_path, content_hash
from ..data.sampling import Reservoir, hold_out, sample_batches, take_sequences
from ..data.sequences import Sequences
from ..rnn.forward_pass import ForwardPass
from ..rnn.layers.weights import in_float64, incoming_norms, n_parameters, weights_of
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
from ..utils.threads import enough_threads
from .dask_pass import run_chunks
from .forward_pass import run_through
from .hidden_states import BatchFactory, batch_factory, cell_moments, first_sequences, short_batch
from .layer_statistics import LayerStatistics, shared_statistics
from .moments import HiddenStateMoments
from .previous import PreviousCalibration, averaged, check_layers
from .sensitivity import outputs_likelihood, reading_sensitivity

Array = NDArray[np.float64]

N_COMPARED = 512  # sequences run again in every fit: a tenth are held out to compare outputs on


@dataclass(frozen=True)
class Calibration:
    """Results of running calibration sequences through a dense network.

    Parameters
    ----------
    collector : StateCollector
        Collector of the module and its layers.
    surgery : Surgery
        Builder of smaller modules.
    batch : object
        A calibration batch.
    moments : dict of HiddenStateMoments
        Moments of the hidden states, by layer.
    statistics : dict of LayerStatistics
        Inputs of the objectives, by layer.
    problems : dict of SelectionProblem
        Selection problems, by layer.
    sample : list
        Batches to run again, if any are needed.
    likelihood : Likelihood
        Distribution of the labels given the outputs.
    outputs : DenseOutputs
        Outputs of the dense network on the held-out batches of the sample.
    refit : Refit or None
        Refit of the readers to the states that a pruned network reaches.
    trajectory_fit : TrajectoryFit or None
        Fit of small layers to the trajectories of the dense ones.
    kind : str
        Kind of reconstruction.
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

    @cached_property
    def greedy_paths(self) -> dict[str, Array]:
        """Relative losses of the first nodes of the greedy solver, by layer."""
        return {name: greedy_path(problem) for name, problem in self.problems.items()}


def greedy_path(problem: SelectionProblem) -> Array:
    """Return the loss of the greedy solver's first 0, 1, … nodes, relative to that of none."""
    path = GreedySolver().select(problem, problem.n_nodes).loss_path
    return path / (path[0] or 1.0)


@dataclass(frozen=True)
class Calibrator:
    """Settings of a calibration, and the methods that run it.

    Parameters
    ----------
    objective : Objective
        Loss that the selection minimizes.
    kind : str
        Kind of reconstruction.
    family : str
        Family of the likelihood, or ``"auto"``.
    n_classes : int or None
        Number of classes, 0 if the network is no classifier; None if that is not known.
    n_distill : int
        Number of sequences for distillation.
    finetunes : bool
        Whether a loss of the outputs is needed for fine-tuning.
    n_trajectory : int
        Number of sequences to fit small layers to the trajectories of the dense ones.
    n_refit : int
        Number of sequences to refit readers.
    keeps_state_size : bool
        Whether last states that ``forward`` returns have to keep their size.
    batch_size : int
        Maximum number of sequences in one forward pass.
    memory : object
        Cache of results: None, a path or a ``joblib.Memory``.
    n_jobs : int or None
        Number of processes that run batches in parallel.
    seed : int
        Seed of random draws.
    verbose : int
        Whether to show progress.
    """

    objective: Objective
    kind: Kind
    family: str
    n_classes: int | None
    n_distill: int
    finetunes: bool
    n_trajectory: int
    n_refit: int
    keeps_state_size: bool
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
        """Run the sequences, and add moments and sensitivities of earlier sequences.

        ``given`` is the module as users wrote it, with which pruned modules are compared.
        """
        moments, witnesses, sample = self._collect(collector, sequences)
        batch = witnesses[0]
        collector.layers = tuple(layer for layer in collector.layers if layer.name in moments)
        readers = self._recall(follow, collector, witnesses, self.keeps_state_size)
        likelihood = self._likelihood(collector, batch, sequences)
        weights = self._sensitivity(collector, sample, likelihood, moments)
        if before.moments:
            check_layers(before.moments, moments)
            weights = averaged(weights, before.weights, moments, before.moments)
            n_new = next(iter(moments.values())).n_steps
            moments = {name: each.merge(before.moments[name]) for name, each in moments.items()}
            share = n_new / next(iter(moments.values())).n_steps
            sample = self._mixed(sample, before.sample, share)
        cells = cell_moments(collector, readers, sample or [batch])
        alike = pruned_alike(collector, readers)
        statistics = statistics_of(collector, readers, moments, weights, cells, alike)
        problems = {
            name: each.problem(self.objective, self.kind) for name, each in statistics.items()
        }
        problems |= {name: problems[names[0]] for names in alike for name in names}
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
            problems,
            sample,
            likelihood,
            outputs,
            self._refit(collector, readers, take_sequences(some, self.n_refit)),
            self._trajectory_fit(
                collector, statistics, some, outputs, [name for names in alike for name in names]
            ),
            self.kind,
        )

    def _mixed(self, new: list[Any], old: list[Any], share: float) -> list[Any]:
        """Return a sample in which new batches have the given share."""
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
        places = [ReadSite(reader.path, own.get(reader.path)) for reader in readers.called]
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
        alike: Sequence[str],
    ) -> TrajectoryFit | None:
        passes = forward_passes(collector, take_sequences(sample, self.n_trajectory))
        if not passes:
            return None
        weights = {name: torch.as_tensor(each.reading_weight) for name, each in statistics.items()}
        layers = collector.layers
        return TrajectoryFit(collector.module, layers, weights, passes, outputs, self.seed, alike)

    def _recall(self, function: Any, *args: Any) -> Any:
        """Return the result of a function, from the cache if it is there."""
        return cached(function, self.memory, args)(*args)

    def _collect(
        self, collector: StateCollector, sequences: Sequences | Batches
    ) -> tuple[dict[str, HiddenStateMoments], list[Any], list[Any]]:
        """Return the moments of the hidden states, the witness batches and the sample."""
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
        # Copies, since cached arrays may be read-only memory maps.
        fresh = {name: HiddenStateMoments(each.n_nodes).merge(each) for name, each in found.items()}
        return fresh, witnesses, sample

    def _n_sample(self) -> int:
        needed = self.objective.n_sensitivity if self.objective.uses_sensitivity else 0
        return max(needed, self.n_distill, self.n_trajectory, self.n_refit, N_COMPARED)

    def _likelihood(
        self, collector: StateCollector, batch: Any, sequences: Sequences | Batches
    ) -> Likelihood:
        """Return the likelihood of the outputs; Gaussian if no output can be compared."""
        n_classes = self.n_classes
        if n_classes is None and isinstance(sequences, Batches):
            n_classes = sequences.of(collector.module).n_classes
        recalled_args = collector, batch, self.family, n_classes
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
        """Return the moments of the hidden states and the witness batches, in order."""
        batches = batch_factory(collector, sequences, self.batch_size, self.memory)
        if isinstance(sequences, DaskSequences):
            moments, collector.layout, _, found = run_chunks(sequences, collector, self.batch_size)
            kept = [short_batch(collector, sequences, each) for each in found]
        elif isinstance(sequences, Batches):
            if reservoir is not None:
                watched = reservoir.tee(batches.batches_from(0))
                batches = BatchFactory(lambda _: watched, batches.total)
            moments, collector.layout, kept = self._run(collector, sequences, batches, None)
        else:
            moments, collector.layout, kept = self._run_kept(collector, sequences, batches)
        if not moments:
            raise ValueError(
                f"no recurrent layer of {type(collector.module).__name__} ran on X; give sequences "
                "on which it does."
            )
        # Cached arrays may be read-only memory maps, which torch does not accept.
        kept = [np.array(each) if isinstance(each, np.ndarray) else each for each in kept]
        return moments, kept

    def _run_kept(
        self, collector: StateCollector, sequences: Sequences, batches: BatchFactory
    ) -> Any:
        """Return the result of the pass, from the cache or from a checkpoint if there is one."""
        if self.memory is None:
            return self._run(collector, sequences, batches, None)
        digest = content_hash((collector, sequences, self.batch_size))
        place = checkpoint_path(self.memory, digest)
        run = cached(self._run, self.memory, digest)
        return run(collector, sequences, batches, place)

    def _run(
        self, collector: StateCollector, sequences: Any, batches: BatchFactory, place: Path | None
    ) -> tuple[dict[str, HiddenStateMoments], str | None, list[Any]]:
        found = run_through(collector, batches, self.n_jobs, place, self.verbose)
        moments, collector.layout, witnesses = found
        kept = [
            short_batch(collector, sequences, glimpse)
            if batch is None
            else first_sequences(collector, batch, glimpse)
            for glimpse, batch in witnesses
        ]
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
        # States are whitened per layer and scaled by one common unit, within the float32 range.
        unit = max(each.scale for each in moments.values())
        units = {name: each.whitening * unit for name, each in moments.items()}
        threads = enough_threads(n_parameters(collector.module))
        args = collector, some, likelihood, units, self.seed
        with threads:
            return cached(reading_sensitivity, self.memory, args)(*args, self.verbose)


def forward_passes(collector: StateCollector, batches: list[Any]) -> list[ForwardPass]:
    """Return one forward pass for each batch."""
    return [ForwardPass(*collector.arguments(batch, whole=False)) for batch in batches]


def passes_of(collector: StateCollector, batches: list[Any]) -> list[ForwardPass]:
    """Return one forward pass for each batch, and one of the first batch in training mode."""
    every = forward_passes(collector, batches)
    return [*every, replace(every[0], training=True)]


def pruned_alike(collector: StateCollector, readers: Readers) -> list[tuple[str, ...]]:
    """Return the names of layers that have to be pruned alike, since their states are added up."""
    hosts = {layer.name: layer.host for layer in collector.layers}
    return [
        names
        for names in readers.ties.values()
        if not any(hosts[name] in readers.not_foldable for name in names)
    ]


def follow(collector: StateCollector, batches: list[Any], keeps_state_size: bool) -> Readers:
    """Return the readers of a module's hidden states, traced on some batches."""
    passes = passes_of(collector, batches)
    return find_readers(collector.module, collector.layers, passes, keeps_state_size)


def statistics_of(
    collector: StateCollector,
    readers: Readers,
    moments: dict[str, HiddenStateMoments],
    weights: dict[str, Array] | None,
    cells: dict[str, HiddenStateMoments],
    alike: Sequence[tuple[str, ...]] = (),
) -> dict[str, LayerStatistics]:
    """Return the statistics of every layer, as NumPy arrays; those of layers alike are the same."""
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
    for names in alike:
        shared = shared_statistics([found[name] for name in names])
        found |= {name: replace(shared, cells=found[name].cells) for name in names}
    return found
