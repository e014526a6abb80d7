"""Loss of a smaller network that imitates the dense one, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..hooks import captured
from ..layers.find import states_of
from ..layers.weights import independent_copy
from ..states.collector import StateCollector
from .likelihood import Likelihood, primary_output

MAX_CACHED_NUMBERS = 2**26  # limit on cached outputs and states

# The divergence of outputs from those of the dense network, and its states by layer.
Target = tuple[Callable[[Tensor], Tensor], dict[str, Tensor]]


class DistillationLoss:
    """Distillation loss of a network that should have the same outputs as the dense one.

    Outputs and states of the dense network are cached, up to ``MAX_CACHED_NUMBERS``.

    Parameters
    ----------
    collector : StateCollector
        Collector of the dense module and its layers.
    supports : dict of Tensor of int, shape (m,)
        Nodes that each smaller layer keeps, by the name of the layer.
    likelihood : Likelihood
        Distribution of the labels given the outputs.
    batches : sequence
        Batches to run.
    states : float
        Weight of the relative squared error of the kept nodes' states. A bare layer's states are
        its outputs, so their weight is one.
    """

    def __init__(
        self,
        collector: StateCollector,
        supports: Mapping[str, Tensor],
        likelihood: Likelihood,
        batches: Sequence[Any],
        states: float,
    ) -> None:
        self._collector, self._likelihood = collector, likelihood
        self._supports = supports
        self._batches = batches
        self._states = 1.0 if collector.is_bare else states
        self._unit: float | None = None
        self._known: dict[int, Target] = {}
        self._n_kept = 0

    def __len__(self) -> int:
        return len(self._batches)

    def loss(self, module: nn.Module, numbers: Tensor) -> Tensor:
        """Return the differentiable loss of a smaller module on the batch with the given number."""
        number = int(numbers[0])
        args, kwargs = self._collector.arguments(self._batches[number], whole=False)
        divergence, wide = self._known.get(number) or self._dense(number, args, kwargs)
        small, narrow = self._output_and_states(module, args, kwargs)
        loss = next(module.parameters()).new_zeros(())
        if not self._collector.is_bare:
            loss = loss + divergence(small).mean() / (self._unit or 1.0)
        for name, kept in wide.items():
            error = torch.cat(narrow[name]) - kept
            loss = loss + self._states * error.square().sum() / kept.square().sum()
        return loss

    @torch.no_grad()
    def _dense(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Target:
        """Return the target of a batch, computed by the dense network."""
        output, seen = self._output_and_states(self._collector.module, args, kwargs)
        if self._unit is None:
            numbers = self._likelihood.family == "gaussian"
            self._unit = 0.5 * float(output.double().var()) or 1.0 if numbers else 1.0
        wide = {
            name: torch.cat(seen[name])[..., support.to(output.device)]
            for name, support in self._supports.items()
            if self._states
        }
        found = self._likelihood.divergence_from(output), wide
        size = output.numel() + sum(kept.numel() for kept in wide.values())
        if self._n_kept + size <= MAX_CACHED_NUMBERS:
            self._known[number], self._n_kept = found, self._n_kept + size
        return found

    def _output_and_states(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Return the output of a module and the states of its layers."""
        module = independent_copy(module)  # so that no step depends on what another left behind
        layers = {layer.name: layer.of(module) for layer in self._collector.layers}
        with captured(layers, lambda _, __, output: states_of(output).flatten(0, -2)) as seen:
            return primary_output(module(*args, **kwargs)), seen
