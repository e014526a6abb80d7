"""Calibration pass over a dask array, with one dask task for each chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from ..data.dask_sequences import DaskSequences
from ..data.sequences import Sequences
from ..rnn.states.collector import StateCollector
from .checkpoint import PassCheckpoint
from .hidden_states import Found, collect

FAN_IN = 8  # results that are merged in one task


def run_chunks(sequences: DaskSequences, collector: StateCollector, batch_size: int) -> Found:
    """Return the moments of the hidden states on all chunks, run by dask's scheduler."""
    from dask.delayed import delayed  # noqa: PLC0415  installed, since X is a dask array

    whole = dict.fromkeys(range(1, sequences.arrays.ndim), -1)
    array = sequences.arrays.rechunk(whole)
    starts = np.cumsum([0, *array.chunks[0]])
    shared = delayed(collector, traverse=False)
    found = [
        delayed(collect_chunk)(shared, chunk, int(start), sequences.n_features, batch_size)
        for chunk, start in zip(array.to_delayed().ravel(), starts, strict=False)
    ]
    while len(found) > 1:
        found = [delayed(merge_chunks)(found[i : i + FAN_IN]) for i in range(0, len(found), FAN_IN)]
    return found[0].compute()


def collect_chunk(
    collector: StateCollector, chunk: Any, start: int, n_features: int, batch_size: int
) -> Found:
    """Return the moments on one chunk, whose first sequence has number ``start`` in X."""
    checked = check_array(np.asarray(chunk), allow_nd=True, input_name=f"X[{start}:]")
    batches = enumerate(Sequences(checked, n_features).batches(batch_size))
    numbered = ((i, start + index, batch) for i, (index, batch) in batches)
    return collect(collector.copy(), numbered)


def merge_chunks(parts: list[Found]) -> Found:
    """Return the merged results of chunks without changing them, since dask may rerun a task."""
    whole = PassCheckpoint()
    for part in parts:
        whole = whole.merged_with(*part)
    return whole.moments, whole.layout, whole.n_batches, whole.witnesses
