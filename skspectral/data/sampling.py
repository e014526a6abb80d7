"""Samples of the calibration sequences, to run again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.random import sample_without_replacement
from torch.utils._pytree import tree_leaves

from .sequences import Sequences

# Small batches, so that a poor network shows after a part of the sequences.
BATCH, N_BATCHES = 128, 8
HELD_OUT, HANDFUL = 0.1, 3
MANY = 2**24  # beyond this number, a permutation of all sequences would take too much memory


def take_sequences(batches: Iterable[Any], n_sequences: int) -> list[Any]:
    """Return the first batches that together hold at least ``n_sequences`` sequences."""
    found: list[Any] = []
    for batch in batches:
        if n_sequences <= 0:
            break
        found.append(batch)
        n_sequences -= count_sequences(batch)
    return found


def hold_out_fraction(batches: list[Any], fraction: float) -> tuple[list[Any], list[Any]]:
    """Split off a fraction of the batches at the end; a single batch is not held out."""
    wanted = max(round(fraction * len(batches)), int(fraction > 0.0))
    place = len(batches) - min(wanted, len(batches) - 1)
    return batches[:place], batches[place:]


def hold_out(batches: list[Any]) -> tuple[list[Any], list[Any]]:
    """Split off a tenth of the batches; up to ``HANDFUL`` batches are used for both parts."""
    return hold_out_fraction(batches, HELD_OUT) if len(batches) > HANDFUL else (batches, batches)


def sample_batches(
    sequences: Sequences, n_sequences: int, batch_size: int, rng: np.random.RandomState
) -> list[Any]:
    """Return batches of sequences drawn without replacement."""
    few = min(n_sequences, len(sequences))
    if len(sequences) > MANY:
        order = sample_without_replacement(len(sequences), few, random_state=rng)
    else:
        order = rng.permutation(len(sequences))[:few]
    drawn = sequences.take(order)
    size = max(1, min(batch_size, BATCH, len(drawn) // N_BATCHES))
    batches = [batch for _, batch in drawn.batches(size)]
    rng.shuffle(batches)  # otherwise they are sorted by length
    return batches


@dataclass
class Reservoir:
    """Reservoir sample of the batches of an iterable, each kept with the same probability.

    Parameters
    ----------
    n_sequences : int
        Number of sequences that the first batches must hold to fill the reservoir.
    rng : RandomState
        Random number generator that draws the batches to keep.
    """

    n_sequences: int
    rng: np.random.RandomState
    batches: list[Any] = field(default_factory=list)

    def tee(self, batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """Yield all batches, and keep some of them."""
        room, kept = self.n_sequences, self.batches
        for n_seen, (index, batch) in enumerate(batches, start=1):
            if room > 0:
                kept.append(batch)
                room -= count_sequences(batch)
            elif (place := self.rng.randint(n_seen)) < len(kept):
                kept[place] = batch
            yield index, batch


def count_sequences(batch: Any) -> int:
    """Return the number of sequences in a batch, the length of its first array."""
    return next((len(leaf) for leaf in tree_leaves(batch) if getattr(leaf, "ndim", 0)), 1)
