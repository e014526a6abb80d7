"""How much an error in reading the hidden state changes what the network says."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .expanded import StandIn
from .layers import empty_like, filled, mode_of, replace, weights_of
from .likelihood import Likelihood, answer_of
from .states import StateCollector


def sensitivity(
    collector: StateCollector,
    batches: Iterable[Any],
    likelihood: Likelihood,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Gauss–Newton weight of a reading error, ``G = mean_t g_t g_tᵀ``.

    With ``e_t`` added to the hidden state as ``weight_hh`` reads it at step t, and ℓ a random
    projection of what the network answers (of its logits, where it answers with labels),
    ``g_t = ∂ℓ/∂e_t`` at zero, through all later steps.

    Parameters
    ----------
    collector : StateCollector
        The module and its layers; both are left as they are.
    batches : iterable
        Batches to run.
    likelihood : Likelihood
        What the answer says of the labels.
    generator : torch.Generator
        Draws the projections.

    Returns
    -------
    dict of Tensor, each (n_nodes, n_nodes)
        G of every layer, float64; zero where the answer does not depend on the states.
    """
    module, exposed = with_exposed_layers(collector)
    sizes = {name: layer.rnn.hidden_size for name, layer in exposed.items()}
    products = {name: torch.zeros(n, n, dtype=torch.float64) for name, n in sizes.items()}
    n_steps = dict.fromkeys(sizes, 0)
    for batch in batches:
        args, kwargs = collector.arguments(batch, whole=False)
        # The backward pass of cuDNN needs training mode, in which dropout would be on.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            score = likelihood.projected(answer_of(module(*args, **kwargs)), generator)
        for name, gradient in reading_gradients(exposed, score).items():
            products[name] += gradient.T @ gradient
            n_steps[name] += len(gradient)
    return {name: product / max(n_steps[name], 1) for name, product in products.items()}


def with_exposed_layers(collector: StateCollector) -> tuple[nn.Module, dict[str, Exposed]]:
    """A copy of the module that does not train, and in it the layers laid open."""
    module = copy.deepcopy(collector.module).requires_grad_(False)
    exposed: dict[str, Exposed] = {}
    for layer in collector.layers:
        part: Any = module.get_submodule(layer.path)
        kind = ExposedCell if isinstance(part, nn.RNNCellBase) else ExposedRNN
        exposed[layer.name] = kind(part)
        module = replace(module, part, exposed[layer.name])
    return module, exposed


def reading_gradients(exposed: dict[str, Exposed], score: Tensor) -> dict[str, Tensor]:
    """``g_t`` of every layer in the last forward pass, each (n_readings, n_nodes), float64."""
    reads = {name: layer.take() for name, layer in exposed.items()}
    every = [read for calls in reads.values() for read, *_ in calls]
    gradients: Iterator[Tensor | None] = repeat(None)
    if score.requires_grad and every:
        gradients = iter(torch.autograd.grad(score, every, allow_unused=True))
    found = {}
    for name, layer in exposed.items():
        rows = []
        for read, *call in reads[name]:
            gradient = next(gradients)
            gradient = torch.zeros_like(read) if gradient is None else gradient
            rows.append(layer.of_states(gradient, read, *call).flatten(0, -2))
        if rows:
            found[name] = torch.cat(rows).to("cpu", torch.float64)
    return found


class Exposed(StandIn):
    """A layer that keeps what its gates read, to differentiate by it."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.rnn: Any
        self._calls: list[tuple[Any, ...]] = []

    def take(self) -> list[tuple[Any, ...]]:
        """What was read in every call since the last time."""
        calls, self._calls = self._calls, []
        return calls

    def of_states(self, gradient: Tensor, *call: Any) -> Tensor:
        """The gradient by an error in reading the states, from the one by what was read."""
        raise NotImplementedError


class ExposedCell(Exposed):
    """A cell that reads its state and an error, which is zero."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the cell for a step."""
        n_nodes, mode, weights = self.rnn.hidden_size, mode_of(self.rnn), weights_of(self.rnn)
        zero = input.new_zeros(*input.shape[:-1], n_nodes)
        hx = ((zero, zero) if mode == "LSTM" else zero) if hx is None else hx
        h, c = hx if mode == "LSTM" else (hx, zero)
        error = torch.zeros_like(h, requires_grad=True)
        self._calls.append((error,))
        linear = nn.functional.linear
        x = linear(input, weights["weight_ih"], weights.get("bias_ih"))
        read = linear(h + error, weights["weight_hh"], weights.get("bias_hh"))
        if mode == "GRU":
            reset_x, update_x, new_x = x.chunk(3, -1)
            reset_h, update_h, new_h = read.chunk(3, -1)
            update = (update_x + update_h).sigmoid()
            new = (new_x + (reset_x + reset_h).sigmoid() * new_h).tanh()
            return (1.0 - update) * new + update * h
        if mode == "LSTM":
            gate_in, forget, new, gate_out = (x + read).chunk(4, -1)
            c = forget.sigmoid() * c + gate_in.sigmoid() * new.tanh()
            return gate_out.sigmoid() * c.tanh(), c
        return (x + read).tanh() if mode == "RNN_TANH" else (x + read).relu()

    def of_states(self, gradient: Tensor, *_call: Any) -> Tensor:
        """The gradient as it is."""
        return gradient


class ExposedRNN(Exposed):
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
        self._calls.append((read, output, hx))
        return output, final

    def of_states(self, gradient: Tensor, *call: Any) -> Tensor:
        """The gradient by an error in reading the states, from the one by what was read."""
        if self.rnn.mode == "GRU":
            # The reset gate stands between what is read of the state and the candidate.
            reset, update, new = gradient.chunk(3, -1)
            gradient = torch.cat([reset, update, self._reset(*call) * new], -1)
        return gradient @ self.inner.get_parameter("weight_hh_l0")

    @torch.no_grad()
    def _reset(self, read: Tensor, output: Any, start: Any) -> Tensor:
        n_nodes = self.rnn.hidden_size
        weights = weights_of(self.rnn)
        bias = weights["bias_hh"][:n_nodes] if self.rnn.bias else None
        before = self._previous(output, start)
        recurrent = nn.functional.linear(before, weights["weight_hh"][:n_nodes], bias)
        return (read[..., :n_nodes] + recurrent).sigmoid()

    def _previous(self, output: Any, start: Any) -> Tensor:
        """The state before every step, laid out like the states."""
        if isinstance(output, PackedSequence):
            return self._previous_packed(output, start)
        steps = 1 if self.rnn.batch_first and output.ndim == 3 else 0
        first = output.select(steps, 0)
        start = torch.zeros_like(first) if start is None else start.reshape(first.shape)
        rest = output.narrow(steps, 0, output.shape[steps] - 1)
        return torch.cat([start.unsqueeze(steps), rest], steps)

    def _previous_packed(self, states: PackedSequence, given: Any) -> Tensor:
        sizes = states.batch_sizes
        first = states.data[: sizes[0]]
        start = torch.zeros_like(first)
        if given is not None:
            order = states.sorted_indices
            start = given[0] if order is None else given[0][order]
        rows = torch.arange(int(sizes[0]), len(states.data))
        before = rows - sizes[:-1].repeat_interleave(sizes[1:])
        return torch.cat([start, states.data[before.to(states.data.device)]])
