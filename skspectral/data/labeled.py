"""Sequences and what a network should answer to them."""

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
from .batches import Batches, Forward
from .sequences import Sequences

Loss = Callable[[Any, Tensor], Tensor]  # of what ``forward`` returns and the targets


@dataclass(frozen=True)
class LabeledSequences:
    """Sequences or batches in memory, each with its target.

    Parameters
    ----------
    data : Sequences or list
        Sequences, or batches as ``forward`` takes them.
    targets : list of Tensor
        The target of each.
    """

    data: Sequences | list[Any]
    targets: list[Tensor]

    @classmethod
    def of(cls, sequences: Sequences | Batches, y: Any, module: nn.Module) -> LabeledSequences:
        """Sequences with their y; batches that bring their own, as they are read by a module.

        Raises
        ------
        ValueError
            If there are no targets, or not as many as sequences.
        """
        if isinstance(sequences, Batches):
            return cls.of_batches(list(sequences.source), Forward.of(module))
        if y is None:
            raise ValueError(
                "Training on targets requires y to be passed, but the target y is None; give y, or "
                "to SpectralRNNPruner distill= in place of finetune=, which needs none."
            )
        check_consistent_length(sequences.arrays, y)
        return cls(sequences.in_memory(), [as_target(each) for each in targets_of(y)])

    @classmethod
    def of_batches(cls, batches: list[Any], forward: Forward) -> LabeledSequences:
        """Batches as a ``DataLoader`` over labeled data yields them: lists of input and target."""
        pairs = [forward.labeled(batch, number) for number, batch in enumerate(batches)]
        return cls([inputs for inputs, _ in pairs], [as_target(target) for _, target in pairs])

    @property
    def groups(self) -> list[NDArray[np.intp]]:
        """Numbers of those that can run side by side."""
        if isinstance(self.data, list):
            return [np.array([number]) for number in range(len(self.data))]
        lengths = self.data.lengths
        return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]

    def take(self, numbers: NDArray[np.intp]) -> tuple[Any, Tensor]:
        """Some of them as a batch, and their targets."""
        if isinstance(self.data, list):
            (number,) = numbers
            return self.data[number], self.targets[number]
        _, batch = next(self.data.take(numbers).batches(len(numbers)))
        return batch, torch.stack([self.targets[number] for number in numbers])


class SupervisedLoss:
    """The loss of a network that should answer with the targets.

    Parameters
    ----------
    labeled : LabeledSequences
        What to answer to what.
    collector : StateCollector
        Knows how a module reads a batch.
    loss : callable
        Of what ``forward`` returns and the targets.
    """

    def __init__(self, labeled: LabeledSequences, collector: StateCollector, loss: Loss) -> None:
        self._labeled, self._collector, self._loss = labeled, collector, loss

    def loss(self, module: nn.Module, numbers: Tensor) -> Tensor:
        """Mean loss of a module on the examples of some numbers."""
        batch, targets = self._labeled.take(numbers.numpy())
        args, kwargs = self._collector.arguments(batch, whole=False)
        device = next(module.parameters()).device
        return self._loss(module(*args, **kwargs), targets.to(device))


def targets_of(y: Any) -> Iterable[Any]:
    """The target of every sequence: rows of an array, or entries of a list."""
    ragged = isinstance(y, list) and len({np.shape(each) for each in y}) > 1
    return y if ragged or isinstance(y, Tensor) else np.asarray(y)


def as_target(target: Any) -> Tensor:
    """A target as torch reads it."""
    found = torch.as_tensor(np.asarray(target) if not isinstance(target, Tensor) else target)
    return found.float() if found.is_floating_point() else found.long()


def task_loss(estimator: Any, likelihood: Likelihood) -> Loss:
    """The loss that an estimator is trained by, or else that of what the answers stand for."""
    if hasattr(estimator, "get_loss"):  # skorch
        return lambda output, targets: estimator.get_loss(output, targets, training=True)
    return lambda output, targets: likelihood.negative_log_likelihood(
        primary_output(output), targets
    )
