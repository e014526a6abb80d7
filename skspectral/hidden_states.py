"""Hidden states of the sequences, batch by batch, and their moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .covariance import HiddenStateMoments
from .rnn.readers import Readers
from .rnn.states import StateCollector


def run(
    collector: StateCollector, batches: Iterable[tuple[Any, Any]], what: str, verbose: int
) -> Iterator[tuple[Any, Any, dict[str, Tensor]]]:
    """Places in X, batches, and hidden states of every layer."""
    for index, batch in tqdm(batches, desc=what, unit="batch", disable=not verbose):
        yield index, batch, collector.run(batch)


def collect(
    collector: StateCollector, batches: Iterable[tuple[Any, Any]], verbose: int
) -> tuple[dict[str, HiddenStateMoments], str | None]:
    """Moments of the hidden states, and the layout in which the module read the batches.

    Raises
    ------
    ValueError
        If a state is not finite, or no layer ran.
    """
    moments: dict[str, HiddenStateMoments] = {}
    for _, _, found in run(collector, batches, "hidden states", verbose):
        for name, states in found.items():
            rows = states.reshape(-1, states.shape[-1]).to("cpu", torch.float64).numpy()
            seen = moments.setdefault(name, HiddenStateMoments(rows.shape[1])).update(rows)
            if not np.isfinite(seen.products_.diagonal()).all():
                raise ValueError(
                    f"the hidden states of layer {name!r} are not finite on X; "
                    "check the scale of X and that the training of the network did not diverge."
                )
    if not moments:
        raise ValueError(
            f"no recurrent layer of {type(collector.module).__name__} ran on X; give sequences on "
            "which it does."
        )
    return moments, collector.layout


def cell_moments(
    collector: StateCollector, readers: Readers, batches: list[Any]
) -> dict[str, HiddenStateMoments]:
    """Moments of the last cell states of the layers from which others start."""
    layers = [layer for layer in collector.layers if layer.host in readers.cells]
    moments = {
        layer.name: HiddenStateMoments(layer.of(collector.module).hidden_size) for layer in layers
    }
    for batch in batches if layers else []:
        for name, cells in collector.cells(batch, layers).items():
            moments[name].update(cells.to("cpu", torch.float64).numpy())
    return moments
