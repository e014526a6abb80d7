"""What a smaller network has to imitate of the dense one, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map

from .likelihood import Likelihood, answer_of
from .states import StateCollector
from .surgery import ExpandedRNN


class Imitation:
    """The loss of a network that should answer as the dense one does.

    The dense network answers anew each time, so that nothing large is kept.

    Parameters
    ----------
    collector : StateCollector
        The dense module and its layer.
    support : Tensor of int, shape (m,)
        The nodes that the smaller layer keeps.
    likelihood : Likelihood
        What the answers say of the labels.
    batches : sequence
        Batches to run.
    states : float
        Weight of the relative squared error of the kept nodes' states. Of a bare layer these are
        the answer, and the weight is one.
    noise : float
        Standard deviation of what is added to the numbers of a batch while gradients are wanted,
        relative to theirs.
    """

    def __init__(
        self,
        collector: StateCollector,
        support: Tensor,
        likelihood: Likelihood,
        batches: Sequence[Any],
        states: float,
        noise: float,
    ) -> None:
        self._collector, self._likelihood = collector, likelihood
        self._support = support
        self._batches = batches
        self._bare = collector.layer.of(collector.module) is collector.module
        self._noise = noise
        self._states = 1.0 if self._bare else states

    def __len__(self) -> int:
        return len(self._batches)

    def loss(self, module: nn.Module, number: int) -> Tensor:
        """Loss of a smaller module on a batch, differentiable."""
        args, kwargs = self._collector.arguments(self._batches[number], whole=False)
        if self._noise and torch.is_grad_enabled():
            args, kwargs = tree_map(self._noisy, (args, kwargs))
        with torch.no_grad():
            dense, wide = answers_and_states(self._collector.module, self._layer, args, kwargs)
        small, narrow = answers_and_states(module, self._layer, args, kwargs)
        loss = narrow.new_zeros(())
        if not self._bare:
            loss = loss + self._likelihood.divergence(dense, small).mean()
        if self._states:
            wide = wide[..., self._support.to(wide.device)]
            loss = loss + self._states * (narrow - wide).square().sum() / wide.square().sum()
        return loss

    def _noisy(self, value: Any) -> Any:
        """Numbers with noise, as strong as they vary in each feature of the last axis."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        axes = tuple(range(max(value.ndim - 1, 1)))
        return value + self._noise * value.std(axes, correction=0, keepdim=True) * torch.randn_like(
            value
        )

    def _layer(self, module: nn.Module) -> nn.Module:
        layer = module.get_submodule(self._collector.layer.path)
        return layer.rnn if isinstance(layer, ExpandedRNN) else layer


def answers_and_states(
    module: nn.Module, layer_of: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """What a module answers, and the states of its layer on the way."""
    seen: list[Tensor] = []

    def read(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        states = output[0]
        seen.append(states.data if isinstance(states, PackedSequence) else states)

    with ExitStack() as stack:
        stack.enter_context(layer_of(module).register_forward_hook(read))
        answer = answer_of(module(*args, **kwargs))
    return answer, seen[0]
