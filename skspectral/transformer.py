"""The hidden states of the smaller network, as features for what comes behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .calibration import run
from .parameters import check_choice
from .rnn.states import StateCollector
from .sequences import check_sequences, in_order

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "last": lambda states: states[:, -1],
    "mean": lambda states: states.mean(dim=1),
    "sequence": lambda states: states,
}


class StateTransformer(TransformerMixin):
    """What makes a fitted pruner a transformer: kept states, and which and how called they are."""

    output: str
    batch_size: int
    verbose: int
    pruned_module_: nn.Module
    support_: NDArray[np.intp]
    ranking_: NDArray[np.intp]
    m_: int
    _collector: Callable[[nn.Module], StateCollector]

    def transform(self, X: Any) -> Any:
        """Hidden states of the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_sequences, m)
            State of the last step, or mean over the steps. With ``output="sequence"``
            (n_sequences, n_steps, m), or a list of (n_steps, m) when of unequal length.
        """
        check_is_fitted(self)
        check_choice("output", self.output, POOLINGS)
        sequences = check_sequences(X, self, reset=False)
        collector = self._collector(self.pruned_module_)
        batches = sequences.batches(self.batch_size)
        found: list[tuple[Any, NDArray[Any]]] = []
        for index, _, states in run(collector, batches, "transform", self.verbose):
            if states.ndim != 3:
                raise ValueError(
                    "transform cannot tell the sequences of a packed batch apart; give sequences "
                    "that the module reads without packing."
                )
            pooled = POOLINGS[self.output](states)
            found.append((index, pooled.float().numpy(force=True).astype(sequences.dtype)))
        return in_order(found)

    def get_support(self, indices: bool = False) -> NDArray[Any]:
        """Which nodes are kept.

        Parameters
        ----------
        indices : bool, default=False
            Whether to give their indices instead of a mask.

        Returns
        -------
        ndarray
            Mask of shape (n_nodes,), or indices of shape (m,).
        """
        check_is_fitted(self)
        return self.support_ if indices else self.ranking_ <= self.m_

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Name the kept nodes.

        Parameters
        ----------
        input_features : object
            Ignored; here for the sake of the interface.

        Returns
        -------
        ndarray of str, shape (m,)
            ``"h3"`` for node 3 of the dense layer.
        """
        check_is_fitted(self)
        return np.array([f"h{node}" for node in self.support_], dtype=object)
