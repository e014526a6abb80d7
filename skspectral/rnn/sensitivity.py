"""How much an error in reading the hidden state changes what the network says."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .layers import weights_of
from .likelihood import Likelihood, answer_of
from .states import StateCollector
from .surgery import StandIn, empty_like, filled, replace


def sensitivity(
    collector: StateCollector,
    batches: Iterable[Any],
    likelihood: Likelihood,
    generator: torch.Generator,
) -> Tensor:
    """Gauss–Newton weight of a reading error, ``G = mean_t g_t g_tᵀ``.

    With ``e_t`` added to the hidden state as ``weight_hh`` reads it at step t, and ℓ a random
    projection of what the network answers (of its logits, where it answers with labels),
    ``g_t = ∂ℓ/∂e_t`` at zero, through all later steps.

    Parameters
    ----------
    collector : StateCollector
        The module and its layer; both are left as they are.
    batches : iterable
        Batches to run.
    likelihood : Likelihood
        What the answer says of the labels.
    generator : torch.Generator
        Draws the projections.

    Returns
    -------
    Tensor of shape (n_nodes, n_nodes)
        G, float64; zero where the answer does not depend on the states.
    """
    module, exposed = with_exposed_layer(collector)
    n_nodes = exposed.rnn.hidden_size
    products, n_steps = torch.zeros(n_nodes, n_nodes, dtype=torch.float64), 0
    for batch in batches:
        args, kwargs = collector.arguments(batch, whole=False)
        # The backward pass of cuDNN needs training mode, in which dropout would be on.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            score = likelihood.projected(answer_of(module(*args, **kwargs)), generator)
        gradient = exposed.reading_gradient(score).to("cpu", torch.float64)
        products += gradient.T @ gradient
        n_steps += len(gradient)
    return products / max(n_steps, 1)


def with_exposed_layer(collector: StateCollector) -> tuple[nn.Module, ExposedRNN]:
    """A copy of the module that does not train, and in it the layer laid open."""
    module = copy.deepcopy(collector.module).requires_grad_(False)
    layer = collector.layer.of(module)
    exposed = ExposedRNN(layer)
    if layer is module:
        return exposed, exposed
    replace(module, layer, exposed)
    return module, exposed


class ExposedRNN(StandIn):
    """A layer whose gates can be differentiated by what they read, step by step.

    What a step reads of its input is worked out beforehand and fed to a layer that takes it
    as it is, with the identity for ``weight_ih``. The gradient there is that of the gates.

    Parameters
    ----------
    layer : nn.RNNBase
        The layer it takes the place of.
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
        empty = empty_like(layer, layer.hidden_size, layer.bias, input_size=n_rows)
        self.inner = filled(empty, inner, layer)
        self.weight_ih, self.bias_ih = weights["weight_ih"], weights.get("bias_ih")

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the layer."""
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        read = nn.functional.linear(data, self.weight_ih, self.bias_ih).detach().requires_grad_()
        output, final = self.inner(PackedSequence(read, *input[1:]) if packed else read, hx)
        self._read, self._output, self._start = read, output, hx
        return output, final

    def reading_gradient(self, score: Tensor) -> Tensor:
        """``g_t`` of the last forward pass, shape (n_sequences * n_steps, n_nodes)."""
        if not score.requires_grad:
            return self._read.new_zeros(self._read.shape[:-1].numel(), self.rnn.hidden_size)
        (gates,) = torch.autograd.grad(score, self._read)
        if self.rnn.mode == "GRU":
            # The reset gate stands between what is read of the state and the candidate.
            gates = torch.cat([*gates.chunk(3, -1)[:2], self._reset() * gates.chunk(3, -1)[2]], -1)
        return (gates @ self.inner.get_parameter("weight_hh_l0")).flatten(0, -2)

    @torch.no_grad()
    def _reset(self) -> Tensor:
        n_nodes = self.rnn.hidden_size
        weights = weights_of(self.rnn)
        bias = weights["bias_hh"][:n_nodes] if self.rnn.bias else None
        recurrent = nn.functional.linear(self._previous(), weights["weight_hh"][:n_nodes], bias)
        return (self._read[..., :n_nodes] + recurrent).sigmoid()

    def _previous(self) -> Tensor:
        """The state before every step, laid out like the states."""
        if isinstance(self._output, PackedSequence):
            return self._previous_packed(self._output)
        steps = 1 if self.rnn.batch_first and self._output.ndim == 3 else 0
        first = self._output.select(steps, 0)
        start = torch.zeros_like(first) if self._start is None else self._start.reshape(first.shape)
        rest = self._output.narrow(steps, 0, self._output.shape[steps] - 1)
        return torch.cat([start.unsqueeze(steps), rest], steps)

    def _previous_packed(self, states: PackedSequence) -> Tensor:
        sizes = states.batch_sizes
        first = states.data[: sizes[0]]
        start = torch.zeros_like(first)
        if self._start is not None:
            order = states.sorted_indices
            start = self._start[0] if order is None else self._start[0][order]
        rows = torch.arange(int(sizes[0]), len(states.data))
        before = rows - sizes[:-1].repeat_interleave(sizes[1:])
        return torch.cat([start, states.data[before.to(states.data.device)]])
