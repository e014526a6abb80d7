"""Batches that somebody else made."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map

END = object()

# Positional arguments of ``forward``, or keyword arguments.
Batch = tuple[Any, ...] | dict[str, Any]


@dataclass(frozen=True)
class Forward:
    """Parameters of ``forward``, by which the entries of a batch are told apart.

    Parameters
    ----------
    signature : inspect.Signature or None
        Its signature; None if that is not known.
    name : str
        What the module is called in errors.
    """

    signature: inspect.Signature | None = None
    name: str = ""

    @classmethod
    def of(cls, module: nn.Module) -> Forward:
        """Return that of a module; of one that TorchScript compiled, nothing is known."""
        try:
            return cls(inspect.signature(module.forward), type(module).__name__)
        except ValueError:
            return cls()

    @property
    def n_inputs(self) -> int:
        """Entries of a list that are inputs: as many as have to be given, the first in any case."""
        parameters = self.signature.parameters.values() if self.signature else ()
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return max(1, sum(each.kind in positional and is_required(each) for each in parameters))

    def read(self, batch: Any, number: int) -> Batch:
        """Arguments from one batch of an iterable.

        Raises
        ------
        TypeError
            If it holds no tensors, or not those that have to be given.
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
        """Arguments and targets, which are the last entry of a list.

        Raises
        ------
        ValueError
            If the batch brings none.
        """
        n_inputs = len(batch) - 1 if isinstance(batch, list) else 0
        is_nested = n_inputs == 1 and isinstance(batch[0], list | tuple | Mapping)
        if not (n_inputs == self.n_inputs or is_nested):
            raise ValueError(
                f"batch {number} of X brings no targets to train on; give an iterable of lists "
                f"[inputs, targets], as a DataLoader over labeled data is, with {self.n_inputs} "
                "of inputs, as many as forward requires."
            )
        return self.read(batch[:-1], number), batch[-1]

    def _inputs(self, entries: list[Any]) -> Any:
        """The inputs of a list, which may be nested, ``[[inputs, lengths], targets]``."""
        first = entries[0]
        if isinstance(first, Mapping):
            return first
        if self.n_inputs > 1 and isinstance(first, list | tuple) and not is_packed(first):
            return tuple(first)
        return tuple(entries[: self.n_inputs])

    def _named(self, batch: dict[str, Any]) -> Batch:
        """Return the entries of a dict to pass on; with none, the dict itself is the argument."""
        parameters = self.signature.parameters if self.signature else {}
        kinds = {each.kind for each in parameters.values()}
        if not parameters or inspect.Parameter.VAR_KEYWORD in kinds:
            return batch
        taken = {name: value for name, value in batch.items() if name in parameters}
        return taken or (batch,)

    def _check(self, batch: Batch, number: int) -> None:
        if self.signature is None:
            return
        args, kwargs = ((), batch) if isinstance(batch, dict) else (batch, {})
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"batch {number} of X does not fit forward{self.signature} of {self.name}: "
                f"{error}; give tuples for module(*batch) or dicts for module(**batch)."
            ) from error


@dataclass(frozen=True)
class Batches:
    """Batches as somebody else made them, each what the module's ``forward`` takes.

    Parameters
    ----------
    source : iterable
        Yields tensors, packed sequences, tuples for ``module(*batch)``, dicts for
        ``module(**batch)``, or lists of inputs and targets, as a ``DataLoader`` over labeled data
        does.
    forward : Forward
        What the module takes.
    """

    source: Iterable[Any]
    forward: Forward = Forward()
    dtype = np.dtype(np.float32)

    def of(self, module: nn.Module) -> Batches:
        """Return the same batches, to be read by a module."""
        return replace(self, forward=Forward.of(module))

    def batches(self, batch_size: int) -> Iterator[tuple[None, Any]]:
        """The batches in their order; their size is the source's own."""
        with reading("batch 0 of X"):
            source = iter(self.source)
        for number in count():
            with reading(f"batch {number} of X"):
                batch = next(source, END)
            if batch is END:
                break
            yield None, self.forward.read(batch, number)
        if number == 0:
            raise ValueError("X yields no batches; give an iterable with at least one.")

    def in_memory(self) -> Batches:
        """All of the batches, read."""
        source, found = iter(self.source), list[Any]()
        while True:
            with reading(f"batch {len(found)} of X"):
                batch = next(source, END)
            if batch is END:
                return replace(self, source=found)
            found.append(batch)

    @staticmethod
    def n_features(batch: Batch) -> int:
        """Size of the last axis of the first tensor of a batch."""
        return next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)).shape[-1]


def is_required(parameter: inspect.Parameter) -> bool:
    """Return whether an argument has to be given."""
    return parameter.default is inspect.Parameter.empty


def is_packed(value: Any) -> bool:
    """Return whether a value is packed sequences, which are taken as they are."""
    return isinstance(value, PackedSequence)


def is_numbers(value: Any) -> bool:
    """Return whether a value is an array that torch can hold."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def as_tensor(value: Any) -> Any:
    """Numbers of NumPy as a tensor; other values as they are."""
    if not is_numbers(value):
        return value
    dtype = np.dtype(np.float64) if value.dtype.itemsize > 8 else value.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(value, dtype, ["C", "W"]))


def holds_tensors(batch: Any) -> bool:
    """Return whether a batch holds tensors, also in a list or dict inside it."""
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(batch))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Names what was being read when its source failed."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(
            f"{what} could not be read, its source raised {type(error).__name__}: {error}"
        ) from error
