"""Recurrent layers: find them in a module and describe them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .expanded import StandIn
from .stacked import StackedRNN

Recurrent = nn.RNNBase | nn.RNNCellBase

# What a forward pass raises when its input does not fit.
MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError)


@dataclass(frozen=True)
class RecurrentLayer:
    """One recurrent layer of a module: a level and direction, or a cell.

    Parameters
    ----------
    name : str
        Its name, such as ``"rnn.l0"``, ``"rnn.l1_reverse"`` or, of a cell, ``"cell"``.
    path : str
        Path of the layer itself in the laid out module; empty when the module is one.
    host : str
        Path of what the rest of the module calls: an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``, a
        ``StackedRNN`` or a cell.
    """

    name: str
    path: str
    host: str

    def of(self, module: nn.Module) -> Any:
        """The layer's torch module inside ``module``, even behind a stand-in for its host."""
        host = module.get_submodule(self.host)
        while isinstance(host, StandIn):
            host = host.rnn
        inside = self.path[len(self.host) :].removeprefix(".")
        return host.get_submodule(inside)


def find_layers(module: nn.Module) -> tuple[RecurrentLayer, ...]:
    """The recurrent layers of a module that is laid out.

    Raises
    ------
    ValueError
        If there is none, or one that cannot be pruned.
    """
    check_kinds(module)
    stacks = {path for path, part in module.named_modules() if isinstance(part, StackedRNN)}
    found = []
    for path, part in module.named_modules():
        if isinstance(part, Recurrent):
            host, _, _ = path.rpartition(".")
            within = host in stacks and bool(path)
            name = path if within or isinstance(part, nn.RNNCellBase) else joined(path, "l0")
            found.append(RecurrentLayer(name, path, host if within else path))
    if not found:
        raise ValueError(
            f"estimator holds no recurrent layer: {type(module).__name__} has no nn.RNN, nn.GRU, "
            "nn.LSTM or cell of theirs inside; give a module that has one."
        )
    check_weights(module)
    return tuple(found)


def joined(*parts: str) -> str:
    """A path from its parts, some of which may be empty."""
    return ".".join(filter(None, parts))


def check_kinds(module: nn.Module) -> None:
    """Refuse the kinds of layer that cannot be pruned."""
    for path, part in module.named_modules():
        if getattr(part, "proj_size", 0) and isinstance(part, nn.LSTM):
            where = f"layer {path!r}" if path else "estimator"
            raise ValueError(
                f"{where} is an LSTM with proj_size={part.proj_size}, whose projected state cannot "
                "be pruned; give an LSTM with proj_size=0 and its projection as a linear layer "
                "behind it."
            )


def check_weights(module: nn.Module) -> None:
    """Refuse parameters that are not finite."""
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"estimator has NaN or infinity in its parameter {name!r}; give a module whose "
                "training did not diverge."
            )


def last_level(
    layers: Iterable[RecurrentLayer], module: nn.Module, host: str
) -> list[RecurrentLayer]:
    """The layers whose states a host puts out: those of its last level, of both directions."""
    both = getattr(module.get_submodule(host), "bidirectional", False)
    return [layer for layer in layers if layer.host == host][-1 - both :]


def states_of(output: Any) -> Tensor:
    """The states among what a layer or a cell gives; of packed sequences, the valid steps."""
    states = output if isinstance(output, Tensor) else output[0]
    return states.data if isinstance(states, PackedSequence) else states
