"""Batches that somebody else made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

END = object()
TENSORS = (torch.Tensor, PackedSequence)


@dataclass(frozen=True)
class Batches:
    """Batches as somebody else made them, each what the module's ``forward`` takes.

    Parameters
    ----------
    source : iterable
        Yields tensors, packed sequences, tuples for ``module(*batch)`` or dicts for
        ``module(**batch)``; of a list, as a ``DataLoader`` over labelled data yields, the first
        entry is used.
    """

    source: Iterable[Any]
    dtype = np.dtype(np.float32)

    def batches(self, batch_size: int) -> Iterator[tuple[None, Any]]:
        """The batches in their order; their size is the source's own."""
        with reading("batch 0 of X"):
            source = iter(self.source)
        for number in count():
            with reading(f"batch {number} of X"):
                batch = next(source, END)
            if batch is END:
                break
            yield None, read_batch(batch, number)
        if number == 0:
            raise ValueError("X yields no batches; give an iterable with at least one.")

    def in_memory(self) -> Batches:
        """All of the batches, read."""
        source, found = iter(self.source), list[Any]()
        while True:
            with reading(f"batch {len(found)} of X"):
                batch = next(source, END)
            if batch is END:
                return Batches(found)
            found.append(batch)

    @staticmethod
    def n_features(batch: tuple[Any, ...] | dict[str, Any]) -> int:
        """Size of the last axis of the first tensor of a batch."""
        values = batch.values() if isinstance(batch, dict) else batch
        first = next(value for value in values if isinstance(value, TENSORS))
        return (first.data if isinstance(first, PackedSequence) else first).shape[-1]


def read_batch(batch: Any, number: int) -> tuple[Any, ...] | dict[str, Any]:
    """Arguments of ``forward`` from one batch of an iterable."""
    if isinstance(batch, list) and batch:
        batch = batch[0]
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    if isinstance(batch, TENSORS):
        return (batch,)
    named = isinstance(batch, Mapping)
    values = batch.values() if named else batch if isinstance(batch, tuple) else ()
    words = not named or all(isinstance(name, str) for name in batch)
    if words and any(isinstance(value, TENSORS) for value in values):
        return dict(batch) if named else batch
    raise TypeError(
        f"X yields {type(batch).__name__} as batch {number}; each batch must be a tensor, a tuple "
        "of tensors for module(*batch), or a dict for module(**batch)."
    )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Names what was being read when its source failed."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(
            f"{what} could not be read, its source raised {type(error).__name__}: {error}"
        ) from error
