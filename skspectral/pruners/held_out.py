"""Losses and divergences on held-out sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..calibration.calibrator import Calibration
from ..calibration.hidden_states import collect
from ..calibration.moments import HiddenStateMoments
from ..data.memory import cached
from ..data.sampling import HELD_OUT, hold_out_fraction
from ..rnn.layers.find import output_layers
from ..rnn.states.collector import StateCollector
from ..utils.warn_user import warn_user
from .pruned_layer import PrunedLayer

FEW = 3  # steps for each node; where half of them stay, the error on others is 1.4 times as large
# Ratios of the held-out loss to the loss. Below NEAR, few steps are enough. Above FAR, and above
# FLOOR, the loss is unreliable with any number of steps.
NEAR, FAR, FLOOR = 2.0, 10.0, 1e-3


def moments_of(collector: StateCollector, batches: list[Any]) -> dict[str, HiddenStateMoments]:
    """Return moments of the hidden states on some batches, by layer."""
    return collect(collector, ((i, None, batch) for i, batch in enumerate(batches)))[0]


def held_out_loss(
    layer: PrunedLayer, every: HiddenStateMoments, some: HiddenStateMoments | None
) -> float:
    """Return the relative loss on some states of a reconstruction made from all others.

    Moments are sums, so those of the others are a difference. NaN where either part is empty.
    """
    if some is None or not 0 < some.n_steps < every.n_steps:
        return np.nan
    others = HiddenStateMoments.from_sums(
        every.n_steps - some.n_steps, every.sum_ - some.sum_, every.products_ - some.products_
    )
    return layer.made_from(others.covariance, others.mean).loss_on(some.covariance, some.mean)


def held_out_losses(
    calibration: Calibration, layers: Mapping[str, PrunedLayer], memory: Any
) -> dict[str, float]:
    """Return the relative loss of every layer on held-out sequences."""
    collector, batches = calibration.collector, hold_out_fraction(calibration.sample, HELD_OUT)[1]
    found = cached(moments_of, memory, (collector, batches))(collector, batches)
    return {
        name: held_out_loss(layer, calibration.moments[name], found.get(name))
        for name, layer in layers.items()
    }


def measured_divergence(
    calibration: Calibration, small: nn.Module, layers: Mapping[str, PrunedLayer]
) -> float:
    """Return the divergence of the outputs of a pruned module from those of the dense one.

    On held-out batches. The outputs of a bare layer are the states of the kept nodes. NaN if there
    are no batches, or no outputs that can be compared.
    """
    columns = shown_columns(calibration, layers) if calibration.collector.is_bare else None
    return calibration.outputs.divergence(small, columns=columns)


def shown_columns(calibration: Calibration, layers: Mapping[str, PrunedLayer]) -> torch.Tensor:
    """Return the columns of what a bare layer puts out that are of kept nodes."""
    collector, found, start = calibration.collector, [], 0
    for layer in output_layers(collector.layers, collector.module, ""):
        found.append(start + torch.as_tensor(layers[layer.name].support))
        start += layers[layer.name].problem.n_nodes
    return torch.cat(found)


def warn_of_few_steps(
    layers: Mapping[str, PrunedLayer],
    moments: Mapping[str, HiddenStateMoments],
    losses: Mapping[str, float],
) -> None:
    """Warn of layers with too few time steps for their losses to hold elsewhere.

    Warns
    -----
    UserWarning
        Where there are fewer steps than nodes; or few for each node, unless the loss on states held
        out vouches for them; or where that is far above the loss.
    """
    for name, layer in layers.items():
        n_nodes, n_steps, loss = layer.problem.n_nodes, moments[name].n_steps, losses[name]
        if layer.m < n_nodes and are_too_few(n_steps / n_nodes, layer.information_loss, loss):
            elsewhere = "" if np.isnan(loss) else f" and {loss:.1g} on sequences held out"
            warn_user(
                f"Layer {name!r} has {n_nodes} nodes and saw {n_steps} steps, too few to estimate "
                "how its states depend on one another: the relative loss is "
                f"{layer.information_loss:.1g} on them{elsewhere}. Give more calibration "
                f"sequences: at least {FEW} steps for each node, and many times that where states "
                "change slowly.",
            )


def are_too_few(steps_each: float, loss: float, elsewhere: float) -> bool:
    """Return whether there are too few steps per node, judged by both losses."""
    if elsewhere > max(FAR * loss, FLOOR):
        return True
    vouched = elsewhere <= NEAR * loss and steps_each >= 1.0
    return steps_each < FEW and not vouched
