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
from ..layers.weights import empty_like, filled, weights_of
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
        if mode == "GRU":
            reset_x, update_x, new_x = x.chunk(3, -1)
            reset_h, update_h, new_h = read.chunk(3, -1)
            update = (update_x + update_h).sigmoid()
            new = (new_x + (reset_x + reset_h).sigmoid() * new_h).tanh()
            output = (1.0 - update) * new + update * h
        elif mode == "LSTM":
            gate_in, forget, new, gate_out = (x + read).chunk(4, -1)
            c = forget.sigmoid() * c + gate_in.sigmoid() * new.tanh()
            output = gate_out.sigmoid() * c.tanh()
        else:
            output = (x + read).tanh() if mode == "RNN_TANH" else (x + read).relu()
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
    """Layer that exposes the gradient with respect to what its gates read, step by step.

    The input contributions to the gates are computed first and fed to an inner layer whose
    ``weight_ih`` is the identity. The gradient with respect to them is the gradient of the gates.

    Parameters
    ----------
    layer : nn.RNNBase
        The layer that it replaces.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__(layer)
        weights = weights_of(layer)
        n_rows = len(weights["weight_hh"])
        identity = torch.eye(n_rows, device=weights["weight_hh"].device)
        inner = {"weight_ih_l0": identity, "weight_hh_l0": weights["weight_hh"]}
        if layer.bias:
            zero = torch.zeros_like(weights["bias_hh"])
            inner |= {"bias_ih_l0": zero, "bias_hh_l0": weights["bias_hh"]}
        empty = empty_like(layer, n_rows, layer.hidden_size, layer.bias)
        self.inner = filled(empty, inner, layer)
        self.weight_ih, self.bias_ih = weights["weight_ih"], weights.get("bias_ih")

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the layer."""
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        read = nn.functional.linear(data, self.weight_ih, self.bias_ih).detach().requires_grad_()
        given = PackedSequence(read, *input[1:]) if packed else read
        output, final = shown = self.inner(given, hx)
        last = final[0] if isinstance(final, tuple) else final
        self._calls.append(Call([read, states_of(shown), last], output, hx))
        return output, final

    def of_states(self, calls: list[Call]) -> Iterator[Tensor]:
        """Yield the gradient of each state, through outside readers and the next step's gates."""
        for call in calls:
            read, gradient, last = call.gradients
            if self.rnn.mode == "GRU":
                # The reset gate scales what the candidate state reads of the state.
                gates = read.chunk(3, -1)
                read = torch.cat([*gates[:2], self._reset(call) * gates[2]], -1)
            before = read @ self.inner.get_parameter("weight_hh_l0")
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

    @torch.no_grad()
    def _reset(self, call: Call) -> Tensor:
        n_nodes = self.rnn.hidden_size
        weights = weights_of(self.rnn)
        bias = weights["bias_hh"][:n_nodes] if self.rnn.bias else None
        before = self._previous(call.output, call.start)
        recurrent = nn.functional.linear(before, weights["weight_hh"][:n_nodes], bias)
        return (call.watched[0][..., :n_nodes] + recurrent).sigmoid()

    def _previous(self, output: Any, start: Any) -> Tensor:
        """Return the state before every step, with the axes of the states."""
        if isinstance(output, PackedSequence):
            return self._previous_packed(output, start)
        steps = self._steps(output)
        first = output.select(steps, 0)
        start = torch.zeros_like(first) if start is None else start.reshape(first.shape)
        rest = output.narrow(steps, 0, output.shape[steps] - 1)
        return torch.cat([start.unsqueeze(steps), rest], steps)

    def _previous_packed(self, states: PackedSequence, given: Any) -> Tensor:
        first = states.data[: states.batch_sizes[0]]
        start = torch.zeros_like(first)
        if given is not None:
            order = states.sorted_indices
            start = given[0] if order is None else given[0][order]
        return torch.cat([start, states.data[packed_rows(states)[1]]])


def packed_rows(states: PackedSequence) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that follow another step, the rows they follow, and sequences' last rows."""
    sizes = states.batch_sizes
    rows = torch.arange(int(sizes[0]), len(states.data))
    before = rows - sizes[:-1].repeat_interleave(sizes[1:])
    lengths = (sizes[:, None] > torch.arange(int(sizes[0]))).sum(0)
    ends = (sizes.cumsum(0) - sizes)[lengths - 1] + torch.arange(int(sizes[0]))
    device = states.data.device
    return rows.to(device), before.to(device), ends.to(device)
