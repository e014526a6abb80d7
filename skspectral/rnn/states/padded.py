"""Batches of sequences of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


class Padded(NamedTuple):
    """Sequences padded with zeros to one length, the longest first.

    Parameters
    ----------
    filled : Tensor of shape (n_sequences, n_steps[, n_features])
        The padded sequences.
    lengths : Tensor of int, shape (n_sequences,)
        Number of valid steps of each sequence.
    """

    filled: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> Padded:
        """Pad sequences, given in order of decreasing length."""
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        return cls(torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths)

    def packed(self) -> PackedSequence:
        """Return the sequences as ``PackedSequence``, without the padding."""
        return pack_padded_sequence(self.filled, self.lengths, batch_first=True)

    def own(self, states: Tensor) -> Tensor:
        """Return the states of the valid steps, one sequence after another."""
        steps = torch.arange(self.filled.shape[1], device=states.device)
        return states[steps < self.lengths.to(states.device)[:, None]]

    def by_steps(self, states: Tensor) -> Tensor:
        """Return the states of the valid steps, one step of all sequences after another.

        This is their order in memory if the layer runs one step after another, so it copies less.
        """
        return Padded(states, self.lengths).packed().data
