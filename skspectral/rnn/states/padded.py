"""Sequences of unequal length side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


class Padded(NamedTuple):
    """Sequences that zeros fill up to one length, the longest first.

    Parameters
    ----------
    filled : Tensor of shape (n_sequences, n_steps[, n_features])
        The sequences.
    lengths : Tensor of int, shape (n_sequences,)
        Their own steps.
    """

    filled: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> Padded:
        """Put sequences side by side."""
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        return cls(torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths)

    def packed(self) -> PackedSequence:
        """Without the zeros, as layers of torch read them."""
        return pack_padded_sequence(self.filled, self.lengths, batch_first=True)

    def own(self, states: Tensor) -> Tensor:
        """The own steps of every sequence, one sequence after another."""
        steps = torch.arange(self.filled.shape[1], device=states.device)
        return states[steps < self.lengths.to(states.device)[:, None]]

    def by_steps(self, states: Tensor) -> Tensor:
        """The same, one step of the sequences after another, as which they are copied in blocks."""
        return Padded(states, self.lengths).packed().data
