"""Layers that expose gradients with respect to errors in reading their states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..kernels import LayerCall
from ..layers.weights import weights_of
from ..runtime.kinds import mode_of
from ..runtime.wrappers import RNNWrapper
from ..steps import Steps, states_after
from .through_time import run_layer


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
        output, c = states_after(mode, x, read, h, c, Steps([len(h)]))
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
    """Layer that adds an error of zero to its states wherever they are read."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the layer."""
        is_lstm, n_nodes = self.rnn.mode == "LSTM", self.rnn.hidden_size
        packed = isinstance(input, PackedSequence)
        data, sizes, order, back = input if packed else (self._by_step(input), None, None, None)
        zero = data.new_zeros(data.shape[1] if sizes is None else int(sizes[0]), n_nodes)
        given = (zero,) * (1 + is_lstm) if hx is None else hx if is_lstm else (hx,)
        start = tuple(
            rows if order is None or hx is None else rows[order]
            for rows in (each.reshape(zero.shape) for each in given)
        )
        call = LayerCall(self.rnn.mode, [*weights_of(self.rnn).values()], data, sizes, start)
        errors = data.new_zeros(data[..., 0].numel(), n_nodes, requires_grad=True)
        states, last = run_layer(call, errors)
        if back is not None:
            last = tuple(each[back] for each in last)
        if sizes is not None or input.ndim == 3:
            last = tuple(each.unsqueeze(0) for each in last)
        output = self._as_given(states, input)
        self._calls.append(Call([errors], output, hx))
        return output, (last if is_lstm else last[0])

    def of_states(self, calls: list[Call]) -> Iterator[Tensor]:
        """Yield the gradient of the states in each call."""
        for call in calls:
            yield from call.gradients

    def _by_step(self, input: Tensor) -> Tensor:  # noqa: A002  as in torch
        """Return sequences with the steps along the first axis."""
        if input.ndim == 2:
            return input.unsqueeze(1)
        return input.transpose(0, 1) if self.rnn.batch_first else input

    def _as_given(self, states: Tensor, input: Any) -> Any:  # noqa: A002  as in torch
        """Return states with the axes of the input, or packed as it is."""
        if isinstance(input, PackedSequence):
            return PackedSequence(states, *input[1:])
        if input.ndim == 2:
            return states.squeeze(1)
        return states.transpose(0, 1) if self.rnn.batch_first else states
