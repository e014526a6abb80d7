"""Sequences in a dask array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from .sequences import LazySequences, Sequences


class DaskSequences(LazySequences):
    """Sequences in a dask array, which are read in slices if only some are needed.

    Parameters
    ----------
    arrays : dask.array.Array
        Array of shape (n_sequences, n_steps[, n_features]).
    n_features : int
        Size of its last axis.
    """

    def take(self, index: NDArray[np.intp]) -> Sequences:
        """Return some of the sequences, read by one task graph."""
        order = np.sort(index)
        found = check_array(np.asarray(self.arrays[order]), allow_nd=True, input_name="X")
        return Sequences(found[order.searchsorted(index)], self.n_features)
