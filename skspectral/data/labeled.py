"""Labeled sequences, and the loss of a network on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length
from torch import Tensor, nn

from ..rnn.losses.likelihood import Likelihood, primary_output
from ..rnn.states.collector import StateCollector
from .batches import IGNORED, Batches, Forward
from .sequences import Sequences

Loss = Callable[[Any, Tensor], Tensor]  # function of the output of ``forward`` and the targets
Encoding = Callable[[NDArray[Any]], NDArray[Any]]  # function from labels to class numbers


@dataclass(frozen=True)
class LabeledSequences:
    """Sequences or batches in memory, each with its target.

    Parameters
    ----------
    data : Sequences or list
        Sequences, or batches of arguments of ``forward``.
    targets : list of Tensor
        Target of each sequence or batch.
    """

    data: Sequences | list[Any]
    targets: list[Tensor]

    @classmethod
    def of(
        cls,
        sequences: Sequences | Batches,
        y: Any,
        module: nn.Module,
        encoding: Encoding | None = None,
    ) -> LabeledSequences:
        """Combine sequences with y, or read batches that contain their targets.

        Raises
        ------
        ValueError
            If there are no targets, or not as many as sequences.
        """
        if isinstance(sequences, Batches):
            return cls.of_batches(list(sequences.source), Forward.of(module), encoding)
        if y is None:
            raise ValueError(
                "Training on targets requires y to be passed, but the target y is None; give y, or "
                "to SpectralRNNPruner distill= in place of finetune=, which needs none."
            )
        check_consistent_length(sequences.arrays, y)
        targets = [as_target(each, encoding) for each in targets_of(y)]
        return cls(sequences.in_memory(), targets)

    @classmethod
    def of_batches(
        cls, batches: list[Any], forward: Forward, encoding: Encoding | None = None
    ) -> LabeledSequences:
        """Read lists of inputs and targets, as from a ``DataLoader`` over labeled data."""
        pairs = [forward.labeled(batch, number) for number, batch in enumerate(batches)]
        targets = [as_target(target, encoding) for _, target in pairs]
        return cls([inputs for inputs, _ in pairs], targets)

    @property
    def groups(self) -> list[NDArray[np.intp]]:
        """Groups of the indices of examples that can form a batch."""
        if isinstance(self.data, list):
            return [np.array([number]) for number in range(len(self.data))]
        lengths = self.data.lengths
        return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]

    def take(self, numbers: NDArray[np.intp]) -> tuple[Any, Tensor]:
        """Return some examples as a batch, and their targets."""
        if isinstance(self.data, list):
            (number,) = numbers
            return self.data[number], self.targets[number]
        _, batch = next(self.data.take(numbers).batches(len(numbers)))
        return batch, torch.stack([self.targets[number] for number in numbers])


class SupervisedLoss:
    """Loss of a network on labeled sequences.

    Parameters
    ----------
    labeled : LabeledSequences
        Sequences and their targets.
    collector : StateCollector
        Collector that converts batches to arguments of ``forward``.
    loss : callable
        Function of the output of ``forward`` and the targets.
    """

    def __init__(self, labeled: LabeledSequences, collector: StateCollector, loss: Loss) -> None:
        self._labeled, self._collector, self._loss = labeled, collector, loss

    def loss(self, module: nn.Module, numbers: Tensor) -> Tensor:
        """Return the mean loss of a module on the examples with the given numbers."""
        batch, targets = self._labeled.take(numbers.numpy())
        args, kwargs = self._collector.arguments(batch, whole=False)
        device = next(module.parameters()).device
        return self._loss(module(*args, **kwargs), targets.to(device))


def targets_of(y: Any) -> Iterable[Any]:
    """Return the targets, one for each sequence: rows of an array, or entries of a list."""
    if isinstance(y, Tensor):
        return y
    if isinstance(y, tuple) or (getattr(y, "dtype", None) == np.dtype(object) and y.ndim == 1):
        y = list(y)
    ragged = isinstance(y, list) and len({np.shape(each) for each in y}) > 1
    return y if ragged else np.asarray(y)


def as_target(target: Any, encoding: Encoding | None = None) -> Tensor:
    """Return a target as a tensor of float32 or int64.

    Raises
    ------
    ValueError
        If it is neither numbers nor labels that ``encoding`` knows.
    """
    if encoding is not None or not isinstance(target, Tensor):
        array = np.asarray(target)
        array = array if encoding is None else encoding(array)
        if array.dtype.kind not in "biuf":
            raise ValueError(
                "y must hold numbers, and for classes those of the network's outputs; got "
                f"{array.dtype}, so encode the labels, as numpy.searchsorted(classes, y) does."
            )
        target = torch.from_numpy(np.require(array, requirements="W"))
    return target.float() if target.is_floating_point() else target.long()


def task_loss(estimator: Any, likelihood: Likelihood) -> Loss:
    """Return the loss of a skorch net, or else the negative log-likelihood of the targets."""
    if hasattr(estimator, "get_loss"):  # skorch
        return lambda output, targets: estimator.get_loss(output, targets, training=True)

    def loss(output: Any, targets: Tensor) -> Tensor:
        outputs = primary_output(output)
        if likelihood.family != "gaussian":
            outputs, targets = without_padding(likelihood, outputs, targets)
        if not targets.numel():
            return 0.0 * primary_output(output).sum()
        return likelihood.negative_log_likelihood(outputs, targets)

    return loss


def without_padding(
    likelihood: Likelihood, outputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return outputs and labels without those whose label is ``IGNORED``, if there are any."""
    rows = outputs.flatten(0, -2) if likelihood.family == "categorical" else outputs.flatten()
    counted = labels.flatten() != IGNORED
    if len(rows) != len(counted) or counted.all():
        return outputs, labels
    return rows[counted], labels.flatten()[counted]
