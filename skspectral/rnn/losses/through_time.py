"""Backpropagation through the steps of a layer, without gradients of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..kernels import LayerCall
from ..steps import Steps


def run_layer(call: LayerCall, errors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the states of all steps and the last states of a layer, as ``LayerCall.run`` does.

    Parameters
    ----------
    call : LayerCall
        The call.
    errors : Tensor of shape (n_rows, n_nodes)
        Zeros; their gradient is that with respect to errors in reading the states, step by step.
    """
    apply: Any = Recurrence.apply  # which torch does not type
    states, *last = apply(call, errors, call.input, *call.start)
    return states, tuple(last)


@dataclass
class Factors:
    """Derivatives of the steps of a layer, which is linear in the gradients.

    Let ``g`` be the gradient with respect to errors in reading the state of a step. What a step
    hands on to the next without reading it (the cell state of an LSTM, the state of a GRU) has the
    gradient ``v = carried + through * g``, where ``carried`` comes from the next step, and
    ``carry * v`` goes to the step before. The gradients with respect to the gates are ``gates * v``
    and, for the last gate of an LSTM, ``output * g``.

    Parameters
    ----------
    gates : Tensor of shape (n_rows, n_gates, n_nodes)
        Factors of the gates; a fourth one of a GRU is that of the new state as it reads the input.
    carry, through, output : Tensor of shape (n_rows, n_nodes) or None
        The other factors; None if a layer has no such part, or if it is one.
    """

    gates: Tensor
    carry: Tensor | None = None
    through: Tensor | None = None
    output: Tensor | None = None


class Recurrence(torch.autograd.Function):
    """Run of a layer whose backward pass takes few operations for each step."""

    @staticmethod
    def forward(
        ctx: Any,
        call: LayerCall,
        errors: Tensor,  # noqa: ARG004  they are zero
        given: Tensor,
        *start: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the layer and keep the derivatives of its steps."""
        states, last = call.run()
        sizes = [len(start[0])] * len(given)
        if call.batch_sizes is not None:
            sizes = call.batch_sizes.tolist()
        ctx.steps, ctx.shape, ctx.is_gru = Steps(sizes), given.shape, call.mode == "GRU"
        factors = factors_of(call, given.flatten(0, -2), states.flatten(0, -2), ctx.steps)
        ctx.save_for_backward(*call.weights[:2], *vars(factors).values())
        return states, *(each.clone() for each in last)  # forward may not write into views

    @staticmethod
    def backward(ctx: Any, of_states: Tensor, *of_last: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to errors, inputs and initial states."""
        weight_ih, weight_hh, *saved = ctx.saved_tensors
        of_errors = of_states.flatten(0, -2).clone()
        of_gates, of_start = backward_steps(
            Factors(*saved), ctx.steps, weight_hh, of_errors, of_last
        )
        of_input = None
        if ctx.needs_input_grad[2]:
            places = [0, 1, 3] if ctx.is_gru else slice(None)
            of_input = (of_gates[:, places].flatten(1) @ weight_ih).view(ctx.shape)
        return None, of_errors, of_input, *of_start


def factors_of(call: LayerCall, given: Tensor, states: Tensor, steps: Steps) -> Factors:
    """Return the derivatives of all steps, from what a layer reads and what it returned."""
    if call.mode == "RNN_RELU":
        return Factors((states > 0).to(states)[:, None])
    if call.mode == "RNN_TANH":
        return Factors((1 - states**2)[:, None])
    weight_ih, weight_hh, *biases = call.weights
    bias_ih, bias_hh = biases or (None, None)
    before = steps.before(call.start[0], states)
    x, read = linear(given, weight_ih, bias_ih), linear(before, weight_hh, bias_hh)
    if call.mode == "GRU":
        return gru_factors(x, read, before)
    return lstm_factors(x.add_(read), call.start[1], steps)


# The tensors of all steps are so large that new memory would take more time than the computation:
# both functions write into what they are given.
def gru_factors(x: Tensor, read: Tensor, before: Tensor) -> Factors:
    """Return the derivatives of the steps of a GRU."""
    n_nodes = before.shape[1]
    new_h = read[:, 2 * n_nodes :]
    new = x[:, 2 * n_nodes :].clone()
    reset, update, _ = x.add_(read).chunk(3, -1)
    new.addcmul_(reset.sigmoid_(), new_h).tanh_()
    update.sigmoid_()
    gates = x.new_empty(len(x), 4, n_nodes)
    by_reset, by_update, by_read, by_new = gates.unbind(1)
    torch.mul(1 - update, slope_of_tanh(new), out=by_new)
    torch.mul(by_new, reset, out=by_read)
    torch.mul(before.sub_(new), slope_of_sigmoid(update), out=by_update)
    torch.mul(by_read, (1 - reset).mul_(new_h), out=by_reset)
    return Factors(gates, update)


def lstm_factors(read: Tensor, start: Tensor, steps: Steps) -> Factors:
    """Return the derivatives of the steps of an LSTM."""
    enter, forget, new, leave = read.chunk(4, -1)
    for gate in (enter, forget, leave):
        gate.sigmoid_()
    added = enter * new.tanh_()
    cells = steps.accumulate(start, forget, added)
    before, shown = steps.before(start, cells), cells.tanh_()
    gates = read.new_empty(len(read), 3, start.shape[1])
    torch.mul(added, 1 - enter, out=gates[:, 0])
    torch.mul(before, slope_of_sigmoid(forget), out=gates[:, 1])
    torch.mul(enter, slope_of_tanh(new), out=gates[:, 2])
    through, output = leave * slope_of_tanh(shown), slope_of_sigmoid(leave).mul_(shown)
    return Factors(gates, forget, through, output)


def slope_of_sigmoid(gate: Tensor) -> Tensor:
    """Return the derivative of a sigmoid from its value."""
    return (1 - gate).mul_(gate)


def slope_of_tanh(state: Tensor) -> Tensor:
    """Return the derivative of tanh from its value."""
    return state.square().neg_().add_(1)


def backward_steps(
    factors: Factors, steps: Steps, weight: Tensor, grad: Tensor, of_last: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients with respect to the gates and to the initial states.

    Parameters
    ----------
    factors : Factors
        Derivatives of the steps.
    steps : Steps
        Rows of each step.
    weight : Tensor of shape (n_gates * n_nodes, n_nodes)
        Recurrent weights.
    grad : Tensor of shape (n_rows, n_nodes)
        Gradient with respect to the states; that through the gates of the next step is added.
    of_last : sequence of Tensor, each (n_sequences, n_nodes)
        Gradients with respect to the last states.
    """
    n_rows, n_inner, n_nodes = factors.gates.shape
    n_gates = len(weight) // n_nodes
    of_gates = grad.new_empty(n_rows, max(n_inner, n_gates), n_nodes)
    reads = of_gates.flatten(1)[:, : len(weight)]
    inner, last_gate = of_gates[:, :n_inner], of_gates[:, -1]
    of_cells = of_last[-1] if len(of_last) == 2 else torch.zeros_like(of_last[0])
    after, carried = reads[:0], of_cells[:0]
    every = [
        repeat(None) if rows is None else steps.split(rows)[::-1]
        for rows in (grad, inner, last_gate, reads, *vars(factors).values())
    ]
    for g, by_inner, by_last, read, gates, carry, through, output in zip(*every, strict=False):
        if len(after) < len(g):
            ended = slice(len(after), len(g))
            g[ended] += of_last[0][ended]
            carried = torch.cat([carried, of_cells[ended]])
        g[: len(after)].addmm_(after, weight)
        v = g if through is None else through * g
        if carry is not None:
            v = v + carried
            carried = carry * v
        torch.mul(gates, v[:, None], out=by_inner)
        if output is not None:
            torch.mul(output, g, out=by_last)
        after = read
    of_start = [after @ weight, *([carried] if len(of_last) == 2 else [])]
    if factors.carry is not None and len(of_last) == 1:
        of_start[0] += carried
    return of_gates, of_start
