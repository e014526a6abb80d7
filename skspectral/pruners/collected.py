"""Inputs and states of the layers of a fitted pruner, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from ..calibration.hidden_states import batch_factory, states_in_order
from ..data.batches import Batches
from ..data.checks import check_sequences
from ..rnn.layers.stack import split_layers
from ..rnn.states.collector import StateCollector
from .pruned_layer import name_among

if TYPE_CHECKING:
    from .spectral import SpectralRNNPruner


def collected(
    pruner: SpectralRNNPruner,
    X: Any,
    layer: str | None,
    *,
    dense: Sequence[bool],
    collector: type[StateCollector] = StateCollector,
) -> list[Any]:
    """Return what a collector records of a layer on all sequences, for each of some networks.

    A network is the dense one where ``dense`` is True, else the pruned one.
    """
    check_is_fitted(pruner)
    name = name_among(pruner.layers_, layer)
    (found,) = (each for each in pruner._network.found if each.name == name)
    sequences = check_sequences(X, pruner, reset=False)
    if isinstance(sequences, Batches) and len(dense) > 1:  # some can be read only once
        sequences = sequences.in_memory()
    recorded = []
    for is_dense in dense:
        module = split_layers(pruner._dense.module if is_dense else pruner.pruned_module_)
        own = collector(module, [found], pruner._dense.layout).copy()
        batches = batch_factory(own, sequences, pruner.batch_size)
        recorded.append(states_in_order(own, batches, "states", pruner.verbose))
    return recorded
