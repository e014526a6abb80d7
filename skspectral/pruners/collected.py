"""Inputs and states of the layers of a fitted pruner, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from ..calibration.hidden_states import batch_factory, states_in_order
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
    dense: bool,
    collector: type[StateCollector] = StateCollector,
) -> Any:
    """Return what a collector records of a layer, in the dense or the small module."""
    check_is_fitted(pruner)
    name = name_among(pruner.layers_, layer)
    (found,) = (each for each in pruner._network.found if each.name == name)
    module = split_layers(pruner._dense.module if dense else pruner.pruned_module_)
    sequences = check_sequences(X, pruner, reset=False)
    own = collector(module, [found], pruner._dense.layout).copy()
    batches = batch_factory(own, sequences, pruner.batch_size)(0)
    return states_in_order(own, batches, "states", pruner.verbose)
