"""Checks that recurrent layers can be pruned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .delegating import TORCH, is_customized, weight_names

ALIKE = ("mode", "nonlinearity", "num_layers", "bidirectional", "batch_first", "dropout")


def check_layer(part: Any, path: str) -> None:
    """Raise if a layer cannot be pruned.

    Raises
    ------
    ValueError
        If it is no torch layer, has a projected state, does not hold its weights as parameters, or
        is on the meta device.
    """
    where = f"layer {path!r}" if path else "estimator"
    if not isinstance(part, TORCH):
        raise ValueError(
            f"{where} is a {type(part).__name__}, which is none of torch's recurrent layers; give "
            "a module whose states come from an nn.RNN, nn.GRU, nn.LSTM or a cell."
        )
    if getattr(part, "proj_size", 0):
        raise ValueError(
            f"{where} is an LSTM with proj_size={part.proj_size}, whose projected state cannot "
            "be pruned; give an LSTM with proj_size=0 and its projection as a linear layer "
            "behind it."
        )
    for name in weight_names(part):
        weight = part._parameters.get(name)
        if weight is None:
            raise ValueError(
                f"{where} is given its {name} before each call, as by weight drop, and does not "
                "hold it as a parameter; give a module whose layer holds its weights."
            )
        if weight.is_meta:
            raise ValueError(
                f"{where} is on the meta device, where weights have no values; load its weights "
                "first."
            )


def signature(part: Any) -> Any:
    """Return a key that two layers share only if all of their weights and settings are the same."""
    if is_customized(part):
        return id(part)
    weights = tuple(id(part._parameters[name]) for name in weight_names(part))
    return type(part), weights, tuple(getattr(part, name, None) for name in ALIKE)


def check_ties(layers: Mapping[str, Any]) -> None:
    """Raise if layers, given by path, share only some of their weights.

    Raises
    ------
    ValueError
        If two layers share a weight, since they could not share it after pruning.
    """
    uses = Counter(
        id(part._parameters[name]) for part in layers.values() for name in weight_names(part)
    )
    for path, part in layers.items():
        for name in weight_names(part):
            if uses[id(part._parameters[name])] > 1:
                raise ValueError(
                    f"layer {path!r} shares its {name} with another layer or direction that is not "
                    "the same in all else, so they cannot be pruned apart; give each a copy of the "
                    "weight, or one layer that is used twice."
                )


def check_weights(module: nn.Module) -> None:
    """Raise if a parameter of a module is not finite."""
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"estimator has NaN or infinity in its parameter {name!r}; give a module whose "
                "training did not diverge."
            )
