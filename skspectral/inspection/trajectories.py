"""Hidden states through time, of the dense network and of the pruned one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from ..calibration.hidden_states import cutter, states_in_order
from ..data.batches import Batches
from ..data.checks import check_sequences
from ..data.sequences import Sequences
from ..pruners.dense_network import module_of
from ..pruners.pruned_layer import name_among
from ..rnn.layers.stack import laid_out
from ..rnn.states.collector import StateCollector


@dataclass(frozen=True)
class Trajectories:
    """Hidden states of a layer at every step of some sequences.

    Parameters
    ----------
    name : str
        The layer.
    dense : ndarray of shape (n_sequences, n_steps, n_nodes)
        States of the dense network; a list of (n_steps, n_nodes) when of unequal length. A layer
        that runs backward has those of the last step first.
    small : ndarray of shape (n_sequences, n_steps, m)
        States of the pruned network, in the same form.
    """

    name: str
    dense: Any
    small: Any

    @classmethod
    def of(cls, pruner: Any, X: Any, layer: str | None = None) -> Self:
        """Run both networks of a fitted pruner.

        Parameters
        ----------
        pruner : SpectralRNNPruner
            A fitted pruner.
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.
        layer : str or None, default=None
            Name of the layer; None if there is one alone.

        Returns
        -------
        Trajectories
            The states.
        """
        check_is_fitted(pruner)
        name = name_among(pruner.layers_, layer)
        return cls(name, *run_both(pruner, name, X, StateCollector))


def run_both(pruner: Any, name: str, X: Any, collector: type[StateCollector]) -> tuple[Any, Any]:
    """Return what is collected of a layer on all sequences, in the dense and the small module."""
    (layer,) = (each for each in pruner._found if each.name == name)
    sequences = check_sequences(X, pruner, reset=False)
    if isinstance(sequences, Batches):  # which may be given but once, and run twice
        sequences = sequences.in_memory()
    dense, small = (
        collector(laid_out(module), [layer], pruner._layout).copy()
        for module in (module_of(pruner.estimator_), pruner.pruned_module_)
    )
    return run_through(pruner, dense, sequences), run_through(pruner, small, sequences)


def run_through(pruner: Any, collector: StateCollector, sequences: Sequences | Batches) -> Any:
    """Return what a collector keeps on all sequences."""
    batches = cutter(collector, sequences, pruner.batch_size)(0)
    return states_in_order(collector, batches, "states", pruner.verbose)
