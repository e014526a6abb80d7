"""Hidden states of the smaller network as features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..calibration.hidden_states import as_array, batch_factory, states_in_order
from ..data.checks import check_sequences
from ..rnn.layers.find import RecurrentLayer
from ..rnn.states.collector import StateCollector
from ..utils.validation import check_choice
from .options import Pooling
from .pruned_layer import unwrap_single_layer

POOLINGS: dict[Pooling, Callable[[Tensor], Tensor]] = {
    "last": lambda states: states[:, -1],
    "mean": lambda states: states.mean(dim=1),
    "sequence": lambda states: states,
}


class StateTransformer(TransformerMixin):
    """Transformer methods of a fitted pruner: kept states and their names."""

    output: Pooling
    batch_size: int
    verbose: int
    pruned_module_: nn.Module
    layers_: dict[str, Any]

    _shown: list[RecurrentLayer]  # whose states ``transform`` gives
    _layout: str | None  # in which the module reads a batch of sequences

    def transform(self, X: Any) -> Any:
        """Return the hidden states of the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_sequences, m)
            State of the last step, or mean over the steps. With ``output="sequence"``
            (n_sequences, n_steps, m), or a list of (n_steps, m) when of unequal length.
            Of several layers, the states of the last level, of all its directions.

        Raises
        ------
        ValueError
            If ``output="sequence"`` and ``set_output`` asks for a table.
        """
        check_is_fitted(self)
        check_choice("output", self.output, POOLINGS)
        self._check_container()
        sequences = check_sequences(X, self, reset=False)
        # The states of the last level, of all directions.
        host = self._shown[0].host
        shown = RecurrentLayer(host, host, host)
        # Threads may share the pruner, and so each reads off the states of its own copy.
        collector = StateCollector(self.pruned_module_, [shown], self._layout).copy()
        batches = batch_factory(collector, sequences, self.batch_size)
        pooling, dtype = POOLINGS[self.output], sequences.dtype
        return states_in_order(
            collector,
            batches,
            "transform",
            self.verbose,
            lambda states: as_array(pooling(states)).astype(dtype),
        )

    def _check_container(self) -> None:
        """Raise if states of every step are to be put into a table, which has no axis for them."""
        own = getattr(self, "_sklearn_output_config", {})  # what ``set_output`` writes
        container = own.get("transform", get_config()["transform_output"])
        if self.output == "sequence" and container != "default":
            raise ValueError(
                f'output="sequence" gives states of every step, which a {container} table cannot '
                'hold; use output="last" or "mean", or set_output(transform="default").'
            )

    def get_support(self, indices: bool = False) -> Any:
        """Return which nodes are kept.

        Parameters
        ----------
        indices : bool, default=False
            Whether to give their indices instead of a mask.

        Returns
        -------
        ndarray or dict of ndarray
            Mask of shape (n_nodes,), or indices of shape (m,); of several layers, by their names.
        """
        check_is_fitted(self)
        found = {
            name: layer.support if indices else layer.ranking <= layer.m
            for name, layer in self.layers_.items()
        }
        return unwrap_single_layer(found)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Name the kept nodes whose states ``transform`` gives.

        Parameters
        ----------
        input_features : object
            Ignored; here for the sake of the interface.

        Returns
        -------
        ndarray of str, shape (m,)
            ``"h3"`` for node 3 of the dense layer; of several layers, ``"rnn.l1.h3"``.
        """
        check_is_fitted(self)
        names = [layer.name for layer in self._shown]
        prefix = {name: f"{name}." if len(self.layers_) > 1 else "" for name in names}
        nodes = [f"{prefix[name]}h{node}" for name in names for node in self.layers_[name].support]
        return np.array(nodes, dtype=object)
