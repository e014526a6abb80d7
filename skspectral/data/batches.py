"""Batches that the user made, such as those of a ``DataLoader``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map

END = object()
IGNORED = -100  # the ignore_index of torch's losses, the label of padded steps

# Positional arguments of ``forward``, or keyword arguments.
Batch = tuple[Any, ...] | dict[str, Any]


@dataclass(frozen=True)
class Forward:
    """Signature of ``forward``, which determines which entries of a batch are inputs.

    Parameters
    ----------
    signature : inspect.Signature or None
        The signature; None if it is not known.
    name : str
        Name of the module in error messages.
    """

    signature: inspect.Signature | None = None
    name: str = ""

    @classmethod
    def of(cls, module: nn.Module) -> Forward:
        """Take the signature of a module; that of a TorchScript module is not known."""
        try:
            return cls(inspect.signature(module.forward), type(module).__name__)
        except ValueError:
            return cls()

    @property
    def n_inputs(self) -> int:
        """Number of first entries of a list that are inputs: the required ones, at least one."""
        return max(1, sum(map(is_required, self._positional)))

    @property
    def n_most(self) -> int:
        """Number of inputs with the optional ones, which are None by default, such as lengths."""
        optional = sum(each.default is None for each in self._positional)
        return max(1, sum(map(is_required, self._positional)) + optional)

    @property
    def _positional(self) -> list[inspect.Parameter]:
        parameters = self.signature.parameters.values() if self.signature else ()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [each for each in parameters if each.kind in kinds]

    def read(self, batch: Any, number: int) -> Batch:
        """Return the arguments of ``forward`` for one batch of an iterable.

        Raises
        ------
        TypeError
            If the batch holds no tensors, or does not fit the signature.
        """
        given = self._inputs(batch) if isinstance(batch, list) and batch else batch
        given = dict(given) if isinstance(given, Mapping) else given
        given = tree_map(as_tensor, given, is_leaf=is_packed)
        if isinstance(given, Tensor | PackedSequence):
            given = (given,)
        words = not isinstance(given, dict) or all(isinstance(name, str) for name in given)
        if not (isinstance(given, tuple | dict) and words and holds_tensors(given)):
            raise TypeError(
                f"X yields {type(given).__name__} as batch {number}; each batch must be a tensor, "
                "a tuple of tensors for module(*batch), or a dict for module(**batch)."
            )
        arguments = self._named(given) if isinstance(given, dict) else given
        self._check(arguments, number)
        return arguments

    def labeled(self, batch: Any, number: int) -> tuple[Batch, Any]:
        """Return the arguments and the targets of a batch.

        Targets are the last entry of a list or tuple, or the one entry of a dict that ``forward``
        does not accept.

        Raises
        ------
        ValueError
            If the batch has no targets.
        """
        if isinstance(batch, Mapping) and len(unknown := self._unknown(batch)) == 1:
            return self.read(batch, number), *unknown
        inputs: list[Any] = list(batch[:-1]) if is_list(batch) else []
        is_nested = len(inputs) == 1 and (is_list(inputs[0]) or isinstance(inputs[0], Mapping))
        if not (self.n_inputs <= len(inputs) <= self.n_most or is_nested):
            raise ValueError(
                f"batch {number} of X brings no targets to train on; give an iterable of lists or "
                "tuples [inputs, targets], as a DataLoader over labeled data is, with "
                f"{self.n_inputs} of inputs, as many as forward requires, or of dicts with one "
                "entry that forward does not accept."
            )
        given = self._inputs(inputs) if is_nested else tuple(inputs)
        return self.read(given, number), batch[-1]

    def n_classes(self, batch: Any) -> int | None:
        """Return the number of classes, at least, if targets of a batch can only be class labels.

        That is not known of an entry that ``forward`` could take as an optional input.
        """
        if isinstance(batch, Mapping):
            targets = self._unknown(batch)
        elif isinstance(batch, list) and len(batch) == 1 + self.n_most and self.signature:
            targets = batch[-1:]
        else:
            return None
        leaves = tree_leaves(targets)
        are_labels = len(targets) == 1 and bool(leaves) and all(map(is_label, leaves))
        return n_classes_in(leaves) if are_labels else None

    def _inputs(self, entries: list[Any]) -> Any:
        """Return the inputs of a list, which may be nested, ``[[inputs, lengths], targets]``."""
        first = entries[0]
        if isinstance(first, Mapping):
            return first
        # A list of one tensor may be what forward reads; a tuple of one holds its arguments.
        fewest = 1 if isinstance(first, tuple) else 2
        if is_list(first) and (self.n_inputs > 1 or fewest <= len(first) <= self.n_most):
            return tuple(first)
        return tuple(entries[: self.n_inputs])

    def _named(self, batch: dict[str, Any]) -> Batch:
        """Return the entries of a dict that ``forward`` accepts; without any, the dict itself."""
        taken = {name: value for name, value in batch.items() if self._accepts(name)}
        return taken or (batch,)

    def _unknown(self, batch: Mapping[str, Any]) -> list[Any]:
        """Return the entries of a dict that ``forward`` does not accept, beside those that it does.

        A dict none of whose entries it accepts is an argument itself.
        """
        unknown = [value for name, value in batch.items() if not self._accepts(name)]
        return unknown if len(unknown) < len(batch) else []

    def _accepts(self, name: str) -> bool:
        """Return whether ``forward`` takes an argument of this name, as far as is known."""
        parameters = self.signature.parameters if self.signature else {}
        kinds = {each.kind for each in parameters.values()}
        return not parameters or name in parameters or inspect.Parameter.VAR_KEYWORD in kinds

    def _check(self, batch: Batch, number: int) -> None:
        if self.signature is None:
            return
        args, kwargs = ((), batch) if isinstance(batch, dict) else (batch, {})
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"batch {number} of X does not fit forward{self.signature} of {self.name}: "
                f"{error}; give tuples for module(*batch), dicts for module(**batch), or lists "
                "of inputs and targets."
            ) from error


@dataclass(frozen=True)
class Batches:
    """Batches that the user made, each with the arguments of the module's ``forward``.

    Parameters
    ----------
    source : iterable
        Iterable of tensors, packed sequences, tuples for ``module(*batch)``, dicts for
        ``module(**batch)``, or lists of inputs and targets, as from a ``DataLoader`` over labeled
        data.
    forward : Forward
        Signature of the module's ``forward``.
    first : list
        The first batch, once it has been read.
    """

    source: Iterable[Any]
    forward: Forward = Forward()
    first: list[Any] = field(default_factory=list, compare=False)
    dtype = np.dtype(np.float32)

    def of(self, module: nn.Module) -> Batches:
        """Return the batches with the signature of a module."""
        return replace(self, forward=Forward.of(module))

    def batches(self, batch_size: int) -> Iterator[tuple[None, Any]]:
        """Yield None and each batch, in order; ``batch_size`` has no effect."""
        with reading("batch 0 of X"):
            source = iter(self.source)
        for number in count():
            with reading(f"batch {number} of X"):
                batch = next(source, END)
            if batch is END:
                break
            self.first[:] = self.first or [batch]
            yield None, self.forward.read(batch, number)
        if number == 0:
            raise ValueError("X yields no batches; give an iterable with at least one.")

    @property
    def n_classes(self) -> int | None:
        """Number of classes, at least, by the first batch that was read; None if not known."""
        return self.forward.n_classes(self.first[0]) if self.first else None

    @property
    def n_batches(self) -> int | None:
        """Number of batches; None if the source does not tell it."""
        return length_hint(self.source, 0) or None

    def in_memory(self) -> Batches:
        """Return the batches with a list as source."""
        source, found = iter(self.source), list[Any]()
        while True:
            with reading(f"batch {len(found)} of X"):
                batch = next(source, END)
            if batch is END:
                return replace(self, source=found)
            found.append(batch)

    @staticmethod
    def n_features(batch: Batch) -> int:
        """Return the size of the last axis of the first tensor of a batch."""
        return next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)).shape[-1]


def is_required(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter has no default."""
    return parameter.default is inspect.Parameter.empty


def is_packed(value: Any) -> bool:
    """Return whether a value is a ``PackedSequence``, which must not be taken for a tuple."""
    return isinstance(value, PackedSequence)


def is_list(value: Any) -> bool:
    """Return whether a value is a list or tuple of entries."""
    return isinstance(value, list | tuple) and not is_packed(value)


def is_numbers(value: Any) -> bool:
    """Return whether a value is a NumPy array of numbers that torch supports."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def is_label(value: Any) -> bool:
    """Return whether a value is a whole number, or an array of whole numbers."""
    value = as_tensor(value)
    return isinstance(value, int) or (isinstance(value, Tensor) and not value.is_floating_point())


def n_classes_in(labels: Any) -> int:
    """Return the number of classes that labels name: 2 if all are 0 or 1, or else at least 3."""
    parts = labels if isinstance(labels, list) else [labels]
    values = {value for part in parts for value in np.unique(np.asarray(part)).tolist()}
    return 2 if values <= {0, 1, IGNORED} else max(3, len(values))


def as_tensor(value: Any) -> Any:
    """Return a NumPy array of numbers as a tensor, and any other value unchanged."""
    if not is_numbers(value):
        return value
    dtype = np.dtype(np.float64) if value.dtype.itemsize > 8 else value.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(value, dtype, ["C", "W"]))


def holds_tensors(batch: Any) -> bool:
    """Return whether a batch holds tensors, including nested ones."""
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(batch))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise an error that names what was read if its source fails."""
    try:
        yield
    except Exception as error:  # whatever the user's source raises
        raise RuntimeError(
            f"{what} could not be read, its source raised {type(error).__name__}: {error}"
        ) from error
