"""GRU with a backward pass of fewer operations than torch records on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels import LayerCall


def run_gru(call: LayerCall) -> Tensor:
    """Return the hidden states of all steps of a GRU, differentiable with respect to its weights.

    Parameters
    ----------
    call : LayerCall
        A call with sequences that are not packed.

    Returns
    -------
    Tensor of shape (n_steps, n_sequences, n_nodes)
        Hidden states.
    """
    weight_ih, weight_hh, *biases = call.weights
    bias_ih, bias_hh = biases or [weight_ih.new_zeros(len(weight_ih))] * 2
    read = weight_ih @ call.input.mT + bias_ih[:, None]
    apply: Any = Steps.apply  # which torch does not type
    states: Tensor = apply(read, call.start[0].T, weight_hh, bias_hh[:, None])
    return states.mT


class Steps(Function):
    """Steps of a GRU; sequences are along the last axis, so that each gate is contiguous.

    The contribution of a step to the gradients is linear in the gradient ``d`` of its state. The
    factors of all steps are computed together, which leaves three operations for each step of the
    backward pass.
    """

    @staticmethod
    def forward(ctx: Any, read: Tensor, start: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return states of shape (n_steps, n_nodes, n_sequences).

        Parameters
        ----------
        ctx : object
            Context that stores tensors for ``backward``.
        read : Tensor of shape (n_steps, 3 n_nodes, n_sequences)
            Contributions of the input to the gates.
        start : Tensor of shape (n_nodes, n_sequences)
            State before the first step.
        weight : Tensor of shape (3 n_nodes, n_nodes)
            Recurrent weights.
        bias : Tensor of shape (3 n_nodes, 1)
            Recurrent bias.
        """
        m = len(start)
        states = torch.cat([start[None], read.new_empty(len(read), *start.shape)])
        gates = read.clone()
        gates[:, : 2 * m] += bias[: 2 * m]
        recurrent = torch.empty_like(states[1:])  # recurrent part of the candidate state
        to_gates, to_new, shift = weight[: 2 * m], weight[2 * m :], bias[2 * m :]
        steps = (states[:-1], states[1:], recurrent, gates[:, : 2 * m], *gates.split(m, 1))
        for before, after, own, both, reset, update, new in zip(*steps, strict=True):
            torch.addmm(both, to_gates, before, out=both).sigmoid_()
            torch.addmm(shift, to_new, before, out=own)
            new.addcmul_(reset, own).tanh_()
            torch.lerp(new, before, update, out=after)
        ctx.save_for_backward(states, recurrent, gates, weight)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients with respect to the arguments of ``forward``."""
        states, recurrent, gates, weight = ctx.saved_tensors
        n_steps, m, n_sequences = grad.shape
        reset, update, new = gates.split(m, 1)
        by_new = (1.0 - update) * (1.0 - new.square())
        # Factors of d in the gradients of the recurrent parts of the three gates.
        by_read = grad.new_empty(n_steps, 3, m, n_sequences)
        torch.mul(by_new, reset, out=by_read[:, 2])
        torch.mul(by_read[:, 2], recurrent, out=by_read[:, 0]).mul_(1.0 - reset)
        torch.sub(states[:-1], new, out=by_read[:, 1]).mul_(update).mul_(1.0 - update)
        d = torch.cat([torch.zeros_like(grad[:1]), grad])
        transposed = weight.T.contiguous()
        steps = zip(d[:-1], d[1:], by_read, update, strict=True)
        for before, own, factors, gate in reversed(list(steps)):
            factors.mul_(own)
            before.addcmul_(own, gate).addmm_(transposed, factors.view(3 * m, -1))
        by_read = by_read.flatten(1, 2)
        rows = by_read.transpose(0, 1).flatten(1)
        by_weight = rows @ states[:-1].transpose(0, 1).flatten(1).T
        by_input = torch.cat([by_read[:, : 2 * m], by_new.mul_(d[1:])], 1)
        return by_input, d[0], by_weight, rows.sum(1, keepdim=True)
