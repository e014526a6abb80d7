"""Layers that expose gradients with respect to errors in reading their states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..layers.find import states_of
from ..layers.weights import weights_of
from ..runtime.kinds import mode_of
from ..runtime.wrappers import RNNWrapper


@dataclass
class Call:
    """Record of one call of a layer.

    Parameters
    ----------
    watched : list of Tensor
        Tensors with respect to which the score is differentiated.
    output : object
        Hidden states that the layer returned.
    start : object
        Initial states.
    gradients : list of Tensor
        Gradients of the score with respect to the watched tensors.
    """

    watched: list[Tensor]
    output: Any
    start: Any
    gradients: list[Tensor] = field(default_factory=list)


class InstrumentedLayer(RNNWrapper):
    """Base of layers that record, in each call, the tensors to differentiate with respect to."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.rnn: Any
        self._calls: list[Call] = []
        self.training = layer.training

    def take(self) -> list[Call]:
        """Return the calls recorded since the last time, and forget them."""
        calls, self._calls = self._calls, []
        return calls

    def of_states(self, calls: list[Call]) -> Iterator[Tensor]:
        """Yield the gradients with respect to reading errors, from those of the watched tensors."""
        raise NotImplementedError


class InstrumentedCell(InstrumentedLayer):
    """Cell that adds an error of zero to the state that its gates read."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the cell for one step."""
        n_nodes, mode, weights = self.rnn.hidden_size, mode_of(self.rnn), weights_of(self.rnn)
        zero = input.new_zeros(*input.shape[:-1], n_nodes)
        hx = ((zero, zero) if mode == "LSTM" else zero) if hx is None else hx
        start, c = hx if mode == "LSTM" else (hx, zero)
        # Zeros added to all uses of the state in the cell, and only to what the gates read.
        enters, error = (torch.zeros_like(start, requires_grad=True) for _ in range(2))
        h = start + enters
        linear = nn.functional.linear
        x = linear(input, weights["weight_ih"], weights.get("bias_ih"))
        read = linear(h + error, weights["weight_hh"], weights.get("bias_hh"))
        output, c = step(mode, x, read, h, c)
        self._calls.append(Call([enters, error, output], output, start))
        return (output, c) if mode == "LSTM" else output

    def of_states(self, calls: list[Call]) -> Iterator[Tensor]:
        """Yield the gradient of each state, through outside readers and the next step's gates."""
        for call, after in zip_longest(calls, calls[1:]):
            gradient = call.gradients[2]
            if after is not None and after.start is call.output:
                gradient = gradient - after.gradients[0] + after.gradients[1]
            yield gradient


class InstrumentedRNN(InstrumentedLayer):
    """Layer that adds an error of zero to every state that its gates read."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the layer step by step, which needs no gradients of weights."""
        packed, is_lstm = isinstance(input, PackedSequence), self.rnn.mode == "LSTM"
        data, weights = input.data if packed else input, weights_of(self.rnn)
        linear, recurrent = nn.functional.linear, weights["weight_hh"]
        x = linear(data, weights["weight_ih"], weights.get("bias_ih"))
        errors = x.new_zeros(*x.shape[:-1], self.rnn.hidden_size, requires_grad=True)
        sizes = input.batch_sizes.tolist() if packed else None
        parts = [
            rows.split(sizes) if packed else rows.unbind(self._steps(rows)) for rows in (x, errors)
        ]
        h, c = self._start(parts[1][0], hx, input.sorted_indices if packed else None)
        states, ended = [], []
        for own, error in zip(*parts, strict=True):
            if packed and len(own) < len(h):
                ended.append((h[len(own) :], c[len(own) :]))
                h, c = h[: len(own)], c[: len(own)]
            read = linear(h + error, recurrent, weights.get("bias_hh"))
            h, c = step(self.rnn.mode, own, read, h, c)
            states.append(h)
        if packed:
            output: Any = PackedSequence(torch.cat(states), *input[1:])
            h, c = (torch.cat(rows) for rows in zip((h, c), *reversed(ended), strict=True))
            if (order := input.unsorted_indices) is not None:
                h, c = h[order], c[order]
        else:
            output = torch.stack(states, self._steps(data))
        # As with the initial states, these are copies, since forward may write into them.
        last, cells = h[None].clone(), c[None].clone()
        shown = output, ((last, cells) if is_lstm else last)
        self._calls.append(Call([errors, states_of(shown), last], output, hx))
        return shown

    def _start(self, like: Tensor, hx: Any, order: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the initial hidden and cell states of the sequences in their order."""
        zero = torch.zeros_like(like)
        given = (zero, zero) if hx is None else tuple(hx) if self.rnn.mode == "LSTM" else (hx, zero)
        h, c = (each.reshape(zero.shape).clone() for each in given)
        return (h, c) if order is None or hx is None else (h[order], c[order])

    def of_states(self, calls: list[Call]) -> Iterator[Tensor]:
        """Yield the gradient of each state, through outside readers and the next step's gates."""
        for call in calls:
            before, gradient, last = call.gradients
            yield self._joined(call.output, before, gradient.clone(), last)

    def _joined(self, output: Any, before: Tensor, gradient: Tensor, last: Tensor) -> Tensor:
        """Add gradients through the next step and the last state to those through the outputs."""
        if isinstance(output, PackedSequence):
            rows, places, ends = packed_rows(output)
            gradient.index_add_(0, places, before[rows])
            order = output.sorted_indices
            return gradient.index_add_(0, ends, last[0] if order is None else last[0][order])
        steps = self._steps(output)
        n_steps = output.shape[steps]
        gradient.narrow(steps, 0, n_steps - 1).add_(before.narrow(steps, 1, n_steps - 1))
        gradient.select(steps, n_steps - 1).add_(last.squeeze(0))
        return gradient

    def _steps(self, output: Tensor) -> int:
        """Return the axis of the steps."""
        return 1 if self.rnn.batch_first and output.ndim == 3 else 0


def step(mode: str, x: Tensor, read: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state and the cell state after a step; without a cell state, c is returned.

    Parameters
    ----------
    mode : str
        A key of ``GATES``.
    x, read : Tensor of shape (n_sequences, n_gates * n_nodes)
        What the gates read of the input, and of the state.
    h, c : Tensor of shape (n_sequences, n_nodes)
        State and cell state before the step.
    """
    if mode == "GRU":
        reset_x, update_x, new_x = x.chunk(3, -1)
        reset_h, update_h, new_h = read.chunk(3, -1)
        update = (update_x + update_h).sigmoid()
        new = (new_x + (reset_x + reset_h).sigmoid() * new_h).tanh()
        return torch.lerp(new, h, update), c
    if mode == "LSTM":
        gate_in, forget, new, gate_out = (x + read).chunk(4, -1)
        c = forget.sigmoid() * c + gate_in.sigmoid() * new.tanh()
        return gate_out.sigmoid() * c.tanh(), c
    return (x + read).tanh() if mode == "RNN_TANH" else (x + read).relu(), c


def packed_rows(states: PackedSequence) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that follow another step, the rows they follow, and sequences' last rows."""
    sizes = states.batch_sizes
    rows = torch.arange(int(sizes[0]), len(states.data))
    before = rows - sizes[:-1].repeat_interleave(sizes[1:])
    lengths = (sizes[:, None] > torch.arange(int(sizes[0]))).sum(0)
    ends = (sizes.cumsum(0) - sizes)[lengths - 1] + torch.arange(int(sizes[0]))
    device = states.data.device
    return rows.to(device), before.to(device), ends.to(device)
