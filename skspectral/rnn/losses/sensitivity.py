"""Sensitivity of outputs and later states to errors in reading the hidden state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.find import states_of
from ..layers.weights import copy_of
from ..states.collector import StateCollector
from .instrumented import Call, InstrumentedCell, InstrumentedLayer, InstrumentedRNN
from .likelihood import Likelihood, primary_output

MOST_STEPS = 2**15  # after which no further batch is run


def sensitivity(
    collector: StateCollector,
    batches: Iterable[Any],
    likelihood: Likelihood,
    whitening: dict[str, Any],
    seed: int,
) -> dict[str, Tensor]:
    """Return the Gauss–Newton weight of reading errors, ``G = mean_t g_t g_tᵀ``, of every layer.

    The error ``e_t`` is added to the hidden state of step t wherever it is read: by ``weight_hh``
    in the next step and by readers outside the layer. ``g_t = ∂ℓ/∂e_t`` at ``e_t = 0``, through
    all later steps and all layers that follow, where ℓ is a random projection of the network's
    output (of its logits, if it is a classifier). A second G uses a random projection of the states
    of all layers as ℓ.

    Parameters
    ----------
    collector : StateCollector
        Collector of the module and its layers; neither is changed.
    batches : iterable
        Batches to run, until there are ``MOST_STEPS`` steps.
    likelihood : Likelihood
        Distribution of the labels given the outputs.
    whitening : dict of array, each (n_nodes, n_nodes)
        Matrix that turns states into the directions to project states on, by the name of the layer.
    seed : int
        Seed of the projections.

    Returns
    -------
    dict of Tensor, each (2, n_nodes, n_nodes)
        G of the outputs and G of the states, by the name of the layer, float64; zero if the outputs
        do not depend on the states.
    """
    products = {
        name: torch.zeros(2, n_nodes, n_nodes, dtype=torch.float64)
        for name, n_nodes in collector.sizes.items()
    }
    n_steps = dict.fromkeys(products, 0)
    draws = [torch.Generator().manual_seed(seed + i) for i in range(2)]
    for batch in batches:
        args, kwargs = collector.arguments(batch, whole=False)
        module, exposed = with_exposed_layers(collector)
        # The backward pass of cuDNN needs training mode, in which dropout would be on.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            output = likelihood.random_projection(primary_output(module(*args, **kwargs)), draws[0])
            calls = {name: layer.take() for name, layer in exposed.items()}
            scores = (output, projected_states(calls, whitening, draws[1]))
        for i, score in enumerate(scores):
            for name, gradient in reading_gradients(exposed, calls, score).items():
                rows = gradient.numpy()
                products[name][i] += torch.from_numpy(rows.T @ rows)  # by a symmetric product
        for name, each in calls.items():
            n_steps[name] += sum(states_of(call.output)[..., 0].numel() for call in each)
        if max(n_steps.values()) >= MOST_STEPS:
            break
    return {name: product / max(n_steps[name], 1) for name, product in products.items()}


def projected_states(
    calls: dict[str, list[Call]], whitening: dict[str, Any], generator: torch.Generator
) -> Tensor:
    """Return a random projection of the states of all layers.

    The directions are whitened states of other steps, times random numbers. Unlike directions
    drawn node by node, they do not depend on the order of the nodes.
    """
    total = torch.zeros(())
    for name, each in calls.items():
        for states in (states_of(call.output).flatten(0, -2) for call in each):
            order = torch.randperm(len(states), generator=generator)
            strength = torch.randn(len(states), 1, generator=generator).to(states)
            unit = torch.as_tensor(whitening[name], device=states.device)
            other = (states.detach()[order].double() @ unit).to(states)
            total = total + (strength * other * states).sum().to("cpu")
    return total


def with_exposed_layers(
    collector: StateCollector,
) -> tuple[nn.Module, dict[str, InstrumentedLayer]]:
    """Return a copy of the module, without trainable parameters, and its instrumented layers."""
    exposed: dict[str, InstrumentedLayer] = {}
    swaps: dict[nn.Module, nn.Module] = {}
    for layer in collector.layers:
        part: Any = collector.module.get_submodule(layer.path)
        kind = InstrumentedCell if isinstance(part, nn.RNNCellBase) else InstrumentedRNN
        exposed[layer.name] = swaps[part] = kind(copy_of(part))
    return copy_of(collector.module, swaps).requires_grad_(False), exposed


def reading_gradients(
    exposed: dict[str, InstrumentedLayer], calls: dict[str, list[Call]], score: Tensor
) -> dict[str, Tensor]:
    """Return ``g_t`` of every layer in a forward pass, each (n_states, n_nodes), float64."""
    every = [tensor for each in calls.values() for call in each for tensor in call.watched]
    gradients: Iterator[Tensor | None] = repeat(None)
    if score.requires_grad and every:
        gradients = iter(torch.autograd.grad(score, every, retain_graph=True, allow_unused=True))
    found = {}
    for name, layer in exposed.items():
        for call in calls[name]:
            pairs = zip(call.watched, gradients, strict=False)
            call.gradients = [torch.zeros_like(x) if g is None else g for x, g in pairs]
        if calls[name]:
            rows = [states.flatten(0, -2) for states in layer.of_states(calls[name])]
            found[name] = torch.cat(rows).to("cpu", torch.float64)
    return found
