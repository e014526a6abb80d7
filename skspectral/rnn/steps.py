"""Rows of several sequences, one step after the other, as in packed sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Steps:
    """Numbers of rows that belong to each step; a sequence has the same place in all its steps.

    Parameters
    ----------
    sizes : list of int
        Number of sequences in each step, which never grows.
    """

    sizes: list[int]

    def split(self, rows: Tensor) -> Sequence[Tensor]:
        """Return the rows of each step."""
        return rows.split(self.sizes)

    def before(self, start: Tensor, states: Tensor) -> Tensor:
        """Return the states before each step."""
        if self.sizes[0] == self.sizes[-1]:
            return torch.cat([start, states[: len(states) - len(start)]])
        every = [start, *self.split(states)]
        return torch.cat([step[:size] for step, size in zip(every, self.sizes, strict=False)])

    def accumulate(self, start: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
        """Return the states of ``state = factor * state + summand`` after each step."""
        states = [start]
        for scale, shift in zip(self.split(factor), self.split(summand), strict=True):
            states.append(torch.addcmul(shift, scale, states[-1][: len(scale)]))
        return torch.cat(states[1:])


def states_after(
    mode: str, x: Tensor, read: Tensor, before: Tensor, cells: Tensor, steps: Steps
) -> tuple[Tensor, Tensor]:
    """Return the states after steps of which the states before are known.

    Parameters
    ----------
    mode : str
        A key of ``GATES``.
    x, read : Tensor of shape (n_rows, n_gates * n_nodes)
        What the gates read of the inputs, and of the states.
    before : Tensor of shape (n_rows, n_nodes)
        States before each step.
    cells : Tensor of shape (n_sequences, n_nodes)
        Cell states before the first step of an LSTM.
    steps : Steps
        Rows of each step.

    Returns
    -------
    states : Tensor of shape (n_rows, n_nodes)
        States after each step.
    cells : Tensor
        Cell states after each step of an LSTM, (n_rows, n_nodes); otherwise those given.
    """
    if mode == "GRU":
        *_, new_x = x.chunk(3, -1)
        *_, new_h = read.chunk(3, -1)
        reset, update, _ = (x + read).sigmoid().chunk(3, -1)
        return torch.lerp((new_x + reset * new_h).tanh(), before, update), cells
    if mode == "LSTM":
        enter, forget, new, leave = (x + read).chunk(4, -1)
        cells = steps.accumulate(cells, forget.sigmoid(), enter.sigmoid() * new.tanh())
        return leave.sigmoid() * cells.tanh(), cells
    return (x + read).tanh() if mode == "RNN_TANH" else (x + read).relu(), cells
