"""Sequences, and their division into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from ..rnn.states.collector import BLOCK
from ..rnn.states.padded import Padded
from .batches import as_tensor, reading

MOST_PADDED = 1.1  # limit on the steps with padding, relative to those without
READ = 1024  # sequences that are read at once if some of them are needed


@dataclass(frozen=True)
class Sequences:
    """Sequences in memory, or in a memory-mapped file.

    Parameters
    ----------
    arrays : ndarray or list of ndarray
        One array of shape (n_sequences, n_steps[, n_features]), or one of shape
        (n_steps[, n_features]) per sequence.
    n_features : int
        Size of the last axis of X.
    """

    arrays: Any
    n_features: int

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Number of steps of each sequence."""
        if not isinstance(self.arrays, list):
            return np.full(len(self), self.arrays.shape[1])
        return np.array([len(sequence) for sequence in self.arrays])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating dtype of results: that of X if it is float32 or float64, else float64."""
        arrays = self.arrays if isinstance(self.arrays, list) else [self.arrays]
        given = np.result_type(*{array.dtype for array in arrays})
        return given if given in (np.float32, np.float64) else np.dtype(np.float64)

    @property
    def is_ragged(self) -> bool:
        """Return whether the lengths are unequal."""
        return isinstance(self.arrays, list) and len(np.unique(self.lengths)) > 1

    @property
    def has_features(self) -> bool:
        """Return whether X has an axis of features; without one, steps are numbers or token ids."""
        if isinstance(self.arrays, list):
            return self.arrays[0].ndim == 2
        return len(self.arrays.shape) == 3

    @property
    def n_step_features(self) -> int:
        """Number of features of a step: one without an axis of features."""
        return self.n_features if self.has_features else 1

    def batches(
        self, batch_size: int, *, pad: bool = False, start: int = 0
    ) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Yield batches of sequences of one length, or of similar lengths if ``pad``.

        Parameters
        ----------
        batch_size : int
            Maximum number of sequences in a batch.
        pad : bool
            Whether a batch may hold sequences of unequal length, padded with zeros.
        start : int
            Number of first batches to leave out.

        Yields
        ------
        index : ndarray of int
            Indices of the sequences in the batch.
        batch : ndarray of shape (n_sequences, n_steps[, n_features]) or Padded
            The sequences.
        """
        for index in islice(self.plan(batch_size, pad=pad), start, None):
            yield index, self._take(index)

    def batch(self, index: Iterable[int]) -> Any:
        """Return the sequences at some indices as one batch, as in ``batches``."""
        return self._take(np.fromiter(index, dtype=np.intp))

    def plan(self, batch_size: int, *, pad: bool = False) -> Iterator[NDArray[np.intp]]:
        """Return an iterator over the indices of the sequences in each batch."""
        if not isinstance(self.arrays, list):
            starts = range(0, len(self), batch_size)
            return (np.arange(i, min(i + batch_size, len(self))) for i in starts)
        lengths = self.lengths
        if pad and self.is_ragged:
            return of_like_length(lengths, batch_size)
        groups = (np.flatnonzero(lengths == length) for length in np.unique(lengths))
        return (
            same[i : i + batch_size] for same in groups for i in range(0, len(same), batch_size)
        )

    def in_memory(self) -> Sequences:
        """Return the sequences in memory."""
        return self

    def take(self, index: NDArray[np.intp]) -> Sequences:
        """Return the sequences at some indices."""
        if isinstance(self.arrays, list):
            return Sequences([self.arrays[i] for i in index], self.n_features)
        return Sequences(self.arrays[index], self.n_features)

    def _take(self, index: NDArray[np.intp]) -> Any:
        if not isinstance(self.arrays, list):
            block = self.arrays[index[0] : index[-1] + 1]
            return np.require(block, requirements=["C", "W"])  # so that torch shares its memory
        found = [self.arrays[i] for i in index]
        if len({len(sequence) for sequence in found}) == 1:
            return np.stack(found)
        return Padded.of([as_tensor(sequence) for sequence in found])


class LazySequences(Sequences):
    """Sequences in a file or a store, which are read and checked slice by slice.

    Parameters
    ----------
    arrays : object
        Object with a ``shape`` and a ``dtype`` whose slices along the first axis are arrays.
    n_features : int
        Size of its last axis.
    """

    def __len__(self) -> int:
        return int(self.arrays.shape[0])

    def in_memory(self) -> Sequences:
        """Return all sequences, read into memory."""
        return self.take(np.arange(len(self)))

    def take(self, index: NDArray[np.intp]) -> Sequences:
        """Return the sequences at some indices, read in slices."""
        order = np.sort(index)
        parts = np.split(order, np.flatnonzero(np.diff(order // READ)) + 1)
        found = []
        for part in parts:
            start = int(part[0]) // READ * READ
            found.append(self.read(start, start + READ)[part - start])
        return Sequences(np.concatenate(found)[order.searchsorted(index)], self.n_features)

    def _take(self, index: NDArray[np.intp]) -> Any:
        return self.read(int(index[0]), int(index[-1]) + 1)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a slice of the sequences, checked."""
        stop = min(stop, len(self))
        name = f"X[{start}:{stop}]"
        with reading(name):
            found = np.asarray(self.arrays[start:stop])
        return check_array(found, allow_nd=True, input_name=name)


def of_like_length(lengths: NDArray[np.intp], batch_size: int) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of batches with little padding, from the longest sequences to the shortest.

    The first ``BLOCK`` sequences of a batch may need any padding, since no fewer are ever run.
    """
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        window = lengths[order[:batch_size]]
        steps = window[0] * np.arange(1, len(window) + 1)
        fits = steps <= MOST_PADDED * window.cumsum()
        fits[:BLOCK] = True
        size = len(window) if fits.all() else int(fits.argmin())
        yield order[:size]
        order = order[size:]


def in_order(found: list[tuple[Any, NDArray[Any]]]) -> Any:
    """Return the results of batches in the order of X, as a list if their shapes differ."""
    if found[0][0] is None:
        return np.concatenate([result for _, result in found])
    places = np.argsort(np.concatenate([index for index, _ in found]))
    if len({result.shape[1:] for _, result in found}) == 1:
        return np.concatenate([result for _, result in found])[places]
    rows = [row for _, result in found for row in result]
    return [rows[place] for place in places]
