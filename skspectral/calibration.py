"""What calibration sequences tell of a network, whatever the number of nodes to keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .covariance import HiddenStateMoments
from .rnn.readers import Readers
from .rnn.states import StateCollector
from .solvers import SelectionProblem


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
    problem : SelectionProblem
        The choice that the moments pose.
    """

    collector: StateCollector
    readers: Readers
    batch: Any
    problem: SelectionProblem


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
