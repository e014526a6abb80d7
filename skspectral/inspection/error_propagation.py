"""Errors of a pruned Elman network through time, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..pruners.collected import collected
from ..pruners.dense_network import get_module
from ..pruners.pruned_layer import name_among
from ..rnn.layers.find import RecurrentLayer
from ..rnn.layers.stack import split_layers
from ..rnn.layers.weights import in_float64, reading_of, weights_of
from ..rnn.runtime.kinds import mode_of
from ..rnn.states.collector import StepCollector
from ..rnn.tracing.readers import Readers
from ..theory import propagated_errors
from ..utils.doc_hints import refer_to_docs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorPropagation:
    """Distances of a pruned Elman network from the dense one at every step, and their bounds.

    The arrays have the shape (n_sequences, n_steps). For sequences of unequal length, they are
    lists of arrays of shape (n_steps,).

    Parameters
    ----------
    state_errors : ndarray
        ``‖h_J − z‖``, the errors of the kept states.
    state_bounds : ndarray
        Upper bounds on ``state_errors``.
    output_errors : ndarray
        Errors of the outputs of the readers outside the layer; errors of the kept states if no
        linear maps read them.
    output_bounds : ndarray
        Upper bounds on ``output_errors``.
    recurrent_norm : float
        The largest singular value of ``weight_hh`` of the pruned network, the growth factor of the
        bounds per step.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner, error_propagation
    >>> _ = torch.manual_seed(0)
    >>> rnn, X = torch.nn.RNN(3, 32, batch_first=True), torch.randn(50, 20, 3)
    >>> pruner = SpectralRNNPruner(rnn, m=24).fit(X)
    >>> found = error_propagation(pruner, X)
    >>> found.state_bounds.shape
    (50, 20)
    """

    state_errors: Any
    state_bounds: Any
    output_errors: Any
    output_bounds: Any
    recurrent_norm: float


def error_propagation(pruner: Any, X: Any) -> ErrorPropagation:
    """Compute the errors of a pruned Elman network through time, and their bounds.

    The bounds are those of :func:`~skspectral.theory.propagated_errors` and hold for each sequence.

    Parameters
    ----------
    pruner : SpectralRNNPruner
        A pruner fitted to a network with one ``nn.RNN`` of one level and direction, whose states
        start from zero and whose inputs do not depend on its outputs.
    X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
        Sequences, as in ``fit``.

    Returns
    -------
    ErrorPropagation
        The errors and their bounds.

    Raises
    ------
    ValueError
        If the network does not meet these conditions.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner, error_propagation
    >>> _ = torch.manual_seed(0)
    >>> rnn, X = torch.nn.RNN(3, 32, batch_first=True), torch.randn(50, 20, 3)
    >>> pruner = SpectralRNNPruner(rnn, m=24).fit(X)
    >>> found = error_propagation(pruner, X)
    >>> bool((found.state_errors <= found.state_bounds).all())
    True
    """
    check_is_fitted(pruner)
    with refer_to_docs("Theoretical bounds"):
        maps = Maps.of(pruner)
    steps = collected(pruner, X, None, dense=[True, False], collector=StepCollector)
    if isinstance(steps[0], np.ndarray):
        return ErrorPropagation(*maps.errors(*steps), maps.recurrent_norm)
    rows = [maps.errors(*both) for both in zip(*steps, strict=True)]
    errors, bounds, outputs, output_bounds = map(list, zip(*rows, strict=True))
    return ErrorPropagation(errors, bounds, outputs, output_bounds, maps.recurrent_norm)


@dataclass(frozen=True)
class Affine:
    """An affine map."""

    weight: Array
    bias: Array

    @classmethod
    def of(cls, weight: Any, *biases: Any) -> Affine:
        """Return the map with a weight and the sum of the biases that are not None."""
        found = [in_float64(each).numpy() for each in biases if each is not None]
        return cls(in_float64(weight).numpy(), np.sum([np.zeros(len(weight)), *found], axis=0))

    @property
    def norm(self) -> float:
        """The largest singular value."""
        return float(np.linalg.norm(self.weight, 2))

    def __call__(self, states: Array) -> Array:
        """Apply the map to states."""
        return states @ self.weight.T + self.bias


@dataclass(frozen=True)
class Maps:
    """The maps that read the state in the dense and in the pruned network.

    Parameters
    ----------
    support : ndarray of int, shape (m,)
        The kept nodes.
    recurrent : tuple of Affine
        Maps from the concatenated input and previous state to the pre-activations of the kept
        nodes, in the dense and in the pruned network.
    readers : tuple of Affine
        Maps of the readers outside the layer, in the dense and in the pruned network.
    """

    support: NDArray[np.intp]
    recurrent: tuple[Affine, Affine]
    readers: tuple[Affine, Affine]

    @classmethod
    def of(cls, pruner: Any) -> Maps:
        """Return the maps of a fitted pruner."""
        modules = split_layers(get_module(pruner.estimator_)), split_layers(pruner.pruned_module_)
        name_among(pruner.layers_, None)
        (layer,) = pruner._network.found
        support = pruner.support_
        wide, narrow = (layer.of(module) for module in modules)
        check_elman(wide, layer, pruner._network.readers)
        weights, small = weights_of(wide), weights_of(narrow)
        kept = {name: weight[support] for name, weight in weights.items()}
        recurrent = [
            Affine.of(
                torch.cat([each["weight_ih"], each["weight_hh"]], 1),
                each.get("bias_ih"),
                each.get("bias_hh"),
            )
            for each in (kept, small)
        ]
        found, readers = pruner._network.readers, shown(wide.hidden_size, support)
        if found.readers and not pruner._network.unfolded:
            readers = stacked_readers(found, modules[0]), stacked_readers(found, modules[1])
        return cls(support, (recurrent[0], recurrent[1]), readers)

    @property
    def recurrent_norm(self) -> float:
        """Return the largest singular value of ``weight_hh`` of the pruned network."""
        m = len(self.support)
        return float(np.linalg.norm(self.recurrent[1].weight[:, -m:], 2))

    def errors(self, wide: Array, narrow: Array) -> tuple[Array, Array, Array, Array]:
        """Return the errors of states and outputs, each with its bound, shape (..., n_steps).

        ``wide`` and ``narrow`` hold the concatenated inputs and states of the dense and of the
        pruned network.
        """
        n_features = narrow.shape[-1] - len(self.support)
        inputs, states = zip(
            *(np.split(each.astype(np.float64), [n_features], axis=-1) for each in (wide, narrow)),
            strict=True,
        )
        dense, small = states
        kept = dense[..., self.support]
        before = np.zeros_like(dense)
        before[..., 1:, :] = dense[..., :-1, :]
        steps = before, before[..., self.support]
        read = [np.concatenate(pair, axis=-1) for pair in zip(inputs, steps, strict=True)]
        misread = distance(self.recurrent[0](read[0]), self.recurrent[1](read[1]))
        bounds = propagated_errors(misread, self.recurrent_norm)
        of_dense, of_small = self.readers
        outputs = distance(of_dense(dense), of_small(small))
        return (
            distance(kept, small),
            bounds,
            outputs,
            distance(of_dense(dense), of_small(kept)) + of_small.norm * bounds,
        )


def stacked_readers(readers: Readers, module: nn.Module) -> Affine:
    """Return all readers outside the layer as one map."""
    parts = [Affine.of(*reading_of(module.get_submodule(each.path))) for each in readers.readers]
    return Affine(np.vstack([part.weight for part in parts]), np.hstack([p.bias for p in parts]))


def shown(n_nodes: int, support: NDArray[np.intp]) -> tuple[Affine, Affine]:
    """Return maps that select the kept states, from all nodes and from the kept ones."""
    rows, zero = np.eye(n_nodes)[support], np.zeros(len(support))
    return Affine(rows, zero), Affine(rows[:, support], zero)


def distance(one: Array, other: Array) -> Array:
    """Return the distances between vectors along the last axis."""
    return np.linalg.norm(one - other, axis=-1)


def check_elman(rnn: nn.Module, layer: RecurrentLayer, readers: Readers) -> None:
    """Raise if the bound does not hold for the layer."""
    if not mode_of(rnn).startswith("RNN"):
        raise ValueError(
            f"pruner has pruned an nn.{type(rnn).__name__}, but the bound holds for nn.RNN only; "
            "layers with gates need not reduce an error in any step."
        )
    if readers.started:
        raise ValueError(
            f"pruner has pruned {layer.host!r}, which is given a state to start from, and the "
            "bound is for layers that start from zero."
        )
    if any(
        reader.path == layer.path or len(reader.runs) > 1 or reader.weight is not None
        for reader in readers.readers
    ):
        raise ValueError(
            f"pruner has pruned {layer.host!r}, whose states are its own inputs or are read "
            "together with other inputs or by other weights than those of an nn.Linear, and the "
            "bound is for layers that a linear map reads alone."
        )
