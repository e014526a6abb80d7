"""The steps of a fit, from sequences to a smaller module.

Each is a function of frozen results and of the parameters of a pruner, which it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..calibration.calibrator import Calibration, Calibrator
from ..calibration.moments import HiddenStateMoments
from ..calibration.previous import PreviousCalibration
from ..data.batches import Batches
from ..data.labeled import LabeledSequences, task_loss
from ..data.sequences import Sequences
from ..rnn.layers.find import RecurrentLayer, find_layers, output_layers
from ..rnn.layers.stack import merge_layers, split_layers
from ..rnn.states.collector import StateCollector
from ..rnn.tracing.readers import Readers
from ..training.distillation import as_distillation, distilled
from ..training.finetune import as_finetune, fine_tuned
from ..utils.doc_hints import refer_to_docs
from ..utils.progress import phase
from ..utils.warn_user import warn_user
from .allocation import count_in_all, intermediate_counts, node_counts
from .budget import N_SIZES, largest, parameters_of, part_of, smallest
from .dense_network import (
    fit_or_copy,
    get_module,
    labeled_data,
    memory_for,
    n_classes_of,
    replace_module,
)
from .held_out import measured_divergence
from .node_selection import choose, layer_of
from .parameters import as_moments, as_objective, as_solver
from .pruned_layer import PrunedLayer
from .trajectory_fit import trajectory_fitted

if TYPE_CHECKING:
    from .spectral import SpectralRNNPruner

N_TRAJECTORY = 2048  # sequences to fit trajectories to


@dataclass(frozen=True)
class DenseNetwork:
    """The trained network that is pruned.

    Parameters
    ----------
    estimator : nn.Module or estimator
        The network, or the estimator around it.
    n_classes : int or None
        Number of classes that its outputs tell apart, 0 if they are numbers; None if unknown.
    layout : str or None
        How its module reads a batch of sequences, once that is known.
    """

    estimator: Any
    n_classes: int | None = None
    layout: str | None = None

    @property
    def module(self) -> nn.Module:
        """The torch module."""
        return get_module(self.estimator)


@dataclass(frozen=True)
class Data:
    """The sequences that a network is calibrated on, and their targets.

    Parameters
    ----------
    sequences : Sequences or Batches
        The sequences.
    labeled : LabeledSequences or None
        The same with their targets, where the pruned network is trained on these.
    """

    sequences: Sequences | Batches
    labeled: LabeledSequences | None = None


@dataclass(frozen=True)
class SmallNetwork:
    """A pruned network, with the history of its training.

    Parameters
    ----------
    layers : dict of PrunedLayer
        What each layer keeps.
    module : nn.Module
        The smaller module.
    estimator : nn.Module or estimator
        What was given, with the finished module in it.
    found : tuple of RecurrentLayer
        Where its layers are.
    shown : list of RecurrentLayer
        Those whose states ``transform`` gives.
    readers : Readers
        Who reads their states.
    unfolded : dict of str
        By layer, why its reconstruction stays a layer of its own.
    unrefitted : dict of str
        By layer, which of its readers are not refitted, and why.
    trajectory_history, distillation_history, fine_tuning_history : dict
        How the divergence, or the loss, went.
    divergence : float
        How far its outputs are from those of the dense network.
    """

    layers: dict[str, PrunedLayer]
    module: nn.Module
    estimator: Any
    found: tuple[RecurrentLayer, ...]
    shown: list[RecurrentLayer]
    readers: Readers
    unfolded: dict[str, str]
    unrefitted: dict[str, str] = field(default_factory=dict)
    trajectory_history: dict[str, list[float]] = field(default_factory=dict)
    distillation_history: dict[str, list[float]] = field(default_factory=dict)
    fine_tuning_history: dict[str, list[float]] = field(default_factory=dict)
    divergence: float = np.nan


def train_dense(
    pruner: SpectralRNNPruner, sequences: Sequences | Batches, X: Any, y: Any
) -> tuple[DenseNetwork, Data]:
    """Return a trained copy of the given network, and the data to calibrate it on."""
    estimator = fit_or_copy(pruner, X, y, memory_for(pruner.memory, sequences))
    data = with_targets(pruner, DenseNetwork(estimator), sequences, y)
    targets = data.labeled.targets if data.labeled else y
    return DenseNetwork(estimator, n_classes_of(estimator, targets)), data


def with_targets(
    pruner: SpectralRNNPruner, dense: DenseNetwork, sequences: Sequences | Batches, y: Any
) -> Data:
    """Return the sequences, with their targets if the pruned network is fine-tuned."""
    if as_finetune(pruner.finetune) is None:
        return Data(sequences)
    return Data(*labeled_data(dense.estimator, sequences, y))


def calibrate(
    pruner: SpectralRNNPruner, dense: DenseNetwork, data: Data, before: PreviousCalibration
) -> Calibration:
    """Run the sequences through the network and return its statistics, added to earlier ones."""
    collector = collector_of(dense)
    before = replace(before, moments=as_moments(before.moments, collector.sizes))
    with refer_to_docs("Sequences and shapes"):
        return calibrator(pruner, dense, data.sequences).calibrate(
            collector, data.sequences, before, dense.module
        )


def collector_of(dense: DenseNetwork) -> StateCollector:
    """Return a collector of the hidden states of all layers."""
    module = split_layers(dense.module)
    with refer_to_docs("Whole models"):
        return StateCollector(module, find_layers(module), dense.layout)


def calibrator(
    pruner: SpectralRNNPruner, dense: DenseNetwork, sequences: Sequences | Batches
) -> Calibrator:
    """Return a calibrator with the settings of a pruner."""
    distillation, rebuilds = as_distillation(pruner.distill), pruner.reconstruction != "none"
    return Calibrator(
        objective=as_objective(pruner.objective),
        kind=pruner.reconstruction,
        family=pruner.likelihood,
        n_classes=dense.n_classes,
        n_distill=distillation.n_sequences if distillation else 0,
        finetunes=as_finetune(pruner.finetune) is not None,
        n_trajectory=N_TRAJECTORY if rebuilds and pruner.trajectory_fit else 0,
        n_refit=pruner.n_refit if rebuilds else 0,
        keeps_state_size=pruner.state_size == "dense",
        batch_size=pruner.batch_size,
        memory=memory_for(pruner.memory, sequences),
        n_jobs=pruner.n_jobs,
        seed=pruner._seed(),
        verbose=pruner.verbose,
    )


def dense_moments(
    pruner: SpectralRNNPruner, dense: DenseNetwork, sequences: Sequences | Batches
) -> dict[str, HiddenStateMoments]:
    """Return moments of the hidden states of the dense network, by layer."""
    collector = collector_of(dense)
    return calibrator(pruner, dense, sequences).collect(collector, sequences)[0]


def prune_network(
    pruner: SpectralRNNPruner, m: Any, dense: DenseNetwork, calibration: Calibration, data: Data
) -> SmallNetwork:
    """Prune to m nodes, or to the fewest that ``max_divergence`` allows."""
    most, tried = pruner.max_divergence, {}

    def at(size: int) -> SmallNetwork:
        counts = counts_at(pruner, m, calibration, size)
        tried[size] = prune_to(pruner, counts, dense, calibration, data)
        return tried[size]

    if most is None:
        return at(N_SIZES)
    size = smallest(lambda size: at(size).divergence <= most)
    if size is None:
        warn_user(
            f"max_divergence={most} is out of reach: the pruned module has a divergence of "
            f"{tried[N_SIZES].divergence:.2g} with as many nodes as m allows. Give a larger m, or "
            "more calibration sequences.",
        )
    return tried[size or N_SIZES]


def counts_at(
    pruner: SpectralRNNPruner, m: Any, calibration: Calibration, size: int
) -> dict[str, int]:
    """Return the number of nodes of every layer at a size; the largest size is that of m.

    All sizes stay within ``max_parameters``.
    """
    sizes = {name: problem.n_nodes for name, problem in calibration.problems.items()}
    is_shared = pruner.allocation == "global" and len(sizes) > 1
    if is_shared:
        m = count_in_all(m, sizes)

    def counts(size: int) -> dict[str, int]:
        part = part_of(m, size)
        if is_shared:
            part = max(part, len(sizes))  # one for each
        return node_counts(calibration, part, pruner.allocation)

    most = pruner.max_parameters
    if most is None:
        return counts(size)
    room = largest(lambda size: parameters_of(calibration, counts(size)) <= most)
    if parameters_of(calibration, counts(room)) > most:
        raise ValueError(
            f"max_parameters must be at least {parameters_of(calibration, counts(1)):,}, the "
            f"parameters of a module with the fewest nodes; got {most!r}."
        )
    return counts(max(1, room * size // N_SIZES))


def prune_to(
    pruner: SpectralRNNPruner,
    counts: dict[str, int],
    dense: DenseNetwork,
    calibration: Calibration,
    data: Data,
) -> SmallNetwork:
    """Prune every layer to a number of nodes, in as many rounds as fine-tuning has."""
    settings, counts = as_finetune(pruner.finetune), without_growth(calibration, counts)
    n_rounds = 1 if settings is None else settings.n_rounds
    part = calibration
    kept: dict[str, NDArray[np.intp]] = {}
    for left in range(n_rounds, 1, -1):
        layers = select_nodes(pruner, part, intermediate_counts(part, counts, 1 / left))
        kept = kept_before(kept, layers)
        network = prune_layers(pruner, dense, part, data, layers)
        layout = part.collector.layout
        dense = replace(dense, estimator=network.estimator, layout=layout)
        part = calibrate(pruner, dense, data, PreviousCalibration())
    layers = select_nodes(pruner, part, intermediate_counts(part, counts, 1.0), pruner.tol)
    network = prune_layers(pruner, dense, part, data, layers)
    if n_rounds == 1:
        return network
    # The attributes describe the selection among the nodes of the first network.
    reported = {
        name: layer_of(calibration, name, layer.among(kept[name])).posed_anew()
        for name, layer in layers.items()
    }
    divergence = measured_divergence(calibration, network.module, reported)
    return replace(network, layers=reported, divergence=divergence)


def without_growth(calibration: Calibration, counts: dict[str, int]) -> dict[str, int]:
    """Return counts in which layers keep all nodes that would have more parameters otherwise."""
    grown = calibration.surgery.grown(counts, affine=calibration.kind == "affine")
    if not grown:
        return counts
    warn_user(
        f"Layer{'s' * (len(grown) > 1)} {', '.join(map(repr, grown))} would have more parameters "
        "than before, with a reconstruction that remains a separate linear layer, and so keep"
        f"{'s' * (len(grown) == 1)} all nodes. Give a smaller m.",
    )
    sizes = {name: problem.n_nodes for name, problem in calibration.problems.items()}
    return {name: sizes[name] if name in grown else n for name, n in counts.items()}


def kept_before(
    kept: Mapping[str, NDArray[np.intp]], layers: Mapping[str, PrunedLayer]
) -> dict[str, NDArray[np.intp]]:
    """Return the kept nodes in the numbering of the first network."""
    return {
        name: kept[name][layer.support] if kept else layer.support for name, layer in layers.items()
    }


def select_nodes(
    pruner: SpectralRNNPruner,
    calibration: Calibration,
    counts: Mapping[str, int],
    tol: float | None = None,
) -> dict[str, PrunedLayer]:
    """Choose the nodes of every layer: ``counts`` of them or, given ``tol``, at most that many."""
    solver = as_solver(pruner.solver, pruner._drawn)
    layers = choose(calibration, solver, counts, pruner.verbose)
    return {name: layer.truncate_to_tol(tol) for name, layer in layers.items()}


def prune_layers(
    pruner: SpectralRNNPruner,
    dense: DenseNetwork,
    calibration: Calibration,
    data: Data,
    layers: dict[str, PrunedLayer],
) -> SmallNetwork:
    """Build the module of the chosen nodes and repair it."""
    return repair(pruner, calibration, data, build(pruner, dense, calibration, layers))


def build(
    pruner: SpectralRNNPruner,
    dense: DenseNetwork,
    calibration: Calibration,
    layers: dict[str, PrunedLayer],
) -> SmallNetwork:
    """Build the module of the chosen nodes, with weights fitted to trajectories."""
    surgery = calibration.surgery
    reductions = {name: layer.reduction for name, layer in layers.items()}
    reductions, history = trajectory_fitted(
        calibration, reductions, pruner.trajectory_fit, pruner.verbose
    )
    small = surgery.build_checked(reductions)
    surgery.warn(reductions)
    unrefitted: dict[str, str] = {}
    if calibration.refit and any(reduction.is_smaller for reduction in reductions.values()):
        with phase("refit", pruner.verbose):
            unrefitted = calibration.refit.apply(small, reductions)
    return SmallNetwork(
        layers,
        small,
        dense.estimator,
        surgery.layers,
        output_layers(surgery.layers, surgery.module, surgery.layers[-1].host),
        surgery.readers,
        {name: why for host, why in surgery.unfolded().items() for name in surgery.names(host)},
        unrefitted,
        {name: history.get(name, []) for name in reductions},
    )


def repair(
    pruner: SpectralRNNPruner, calibration: Calibration, data: Data, network: SmallNetwork
) -> SmallNetwork:
    """Train the module, without labels and on targets, as the pruner's parameters ask for."""
    supports = {name: torch.as_tensor(layer.support) for name, layer in network.layers.items()}
    small, seed, verbose = network.module, pruner._seed(), pruner.verbose
    distillation = distilled(small, supports, calibration, pruner.distill, seed, verbose)
    loss = task_loss(network.estimator, calibration.likelihood)
    fine_tuning = fine_tuned(
        small,
        calibration.collector,
        data.labeled,
        loss,
        pruner.finetune,
        seed,
        verbose,
    )
    finished = merge_layers(small)
    return replace(
        network,
        module=finished,
        estimator=replace_module(network.estimator, finished),
        distillation_history=distillation,
        fine_tuning_history=fine_tuning,
        divergence=measured_divergence(calibration, finished, network.layers),
    )
