"""Hidden states of the dense and the pruned network through time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from ..pruners.collected import collected
from ..pruners.pruned_layer import name_among


@dataclass(frozen=True)
class Trajectories:
    """Hidden states of a layer at each step of some sequences, in both networks.

    Parameters
    ----------
    name : str
        Name of the layer.
    dense : ndarray of shape (n_sequences, n_steps, n_nodes)
        States of the dense network; for sequences of unequal length, a list of arrays of shape
        (n_steps, n_nodes). The first state of a layer that runs backward is that of the last step.
    small : ndarray of shape (n_sequences, n_steps, m)
        States of the pruned network, in the same form.
    """

    name: str
    dense: Any
    small: Any

    @classmethod
    def of(cls, pruner: Any, X: Any, layer: str | None = None) -> Self:
        """Return the states of the dense and of the pruned network.

        Parameters
        ----------
        pruner : SpectralRNNPruner
            A fitted pruner.
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.
        layer : str or None, default=None
            Name of the layer; None if there is only one.

        Returns
        -------
        Trajectories
            The states.
        """
        check_is_fitted(pruner)
        dense, small = collected(pruner, X, layer, dense=[True, False])
        return cls(name_among(pruner.layers_, layer), dense, small)
