"""Likelihood of a network's outputs, and their sensitivity to its hidden states."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..rnn.layers.weights import independent_copy
from ..rnn.losses.likelihood import Likelihood, likelihood_of, primary_output
from ..rnn.losses.sensitivity import sensitivity
from ..rnn.states.collector import StateCollector
from ..rnn.tracing.origins import Origins
from ..utils.warn_user import warn_user


@torch.no_grad()
def outputs_likelihood(
    collector: StateCollector, batch: Any, family: str, n_classes: int | None
) -> Likelihood:
    """Return the likelihood of the outputs; a bare layer's outputs are numbers, its states."""
    if collector.is_bare:
        return Likelihood("gaussian")
    args, kwargs = collector.arguments(batch, whole=False)
    module = independent_copy(collector.module)
    with Origins() as origins:
        output = primary_output(module(*args, **kwargs))
    return likelihood_of(output, family, n_classes, origins.of(output))


def reading_sensitivity(
    collector: StateCollector,
    batches: list[Any],
    likelihood: Likelihood,
    whitening: dict[str, NDArray[np.float64]],
    seed: int,
    verbose: int,
) -> dict[str, NDArray[np.float64]] | None:
    """Return G of the outputs and G of the states, by layer; None if gradients cannot be computed.

    Warns
    -----
    UserWarning
        If the backward pass fails.
    """
    bar = tqdm(batches, "sensitivity", unit=" batches", disable=not verbose)
    try:
        found = sensitivity(collector, bar, likelihood, whitening, seed)
        return {name: weight.numpy() for name, weight in found.items()}
    except RuntimeError as error:
        warn_user(
            "The sensitivity is left out of the objective, since "
            f"{type(collector.module).__name__} cannot be differentiated ({error}). "
            "Give objective='one-step' to go without it.",
        )
        return None
