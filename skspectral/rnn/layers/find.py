"""Recurrent layers of a module."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..runtime.stack import StackedRNN
from ..runtime.wrappers import RNNWrapper
from .checks import check_weights
from .delegating import CORE, Delegating
from .stack import is_layer

Recurrent = nn.RNNBase | nn.RNNCellBase

# Errors that a forward pass raises when its input does not fit.
FORWARD_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError)


@dataclass(frozen=True)
class RecurrentLayer:
    """One recurrent layer of a module: one level and direction, or a cell.

    Parameters
    ----------
    name : str
        Its name, such as ``"rnn.l0"`` or ``"rnn.l1_reverse"``, or ``"cell"`` for a cell.
    path : str
        Path of the layer in the module with split layers; empty if the module is the layer.
    host : str
        Path of the module that the rest of the network calls: an ``nn.RNN``, ``nn.GRU`` or
        ``nn.LSTM``, a ``StackedRNN`` or a cell.
    delegated : bool
        Whether the host is the core of a layer with a ``forward`` of its own.
    """

    name: str
    path: str
    host: str
    delegated: bool = False

    def of(self, module: nn.Module) -> Any:
        """Return the layer's torch module inside ``module``, even if a wrapper holds it."""
        host = module.get_submodule(self.host)
        while isinstance(host, RNNWrapper):
            host = host.rnn
        return host.get_submodule(self._inside)

    def recurrent_weight(self, module: nn.Module) -> Tensor:
        """Return the layer's ``weight_hh``, from a module before or after splitting and pruning."""
        part: Any = module.get_submodule(self.owner)
        while isinstance(part, RNNWrapper | Delegating):
            part = getattr(part, "rnn" if isinstance(part, RNNWrapper) else CORE)
        if isinstance(part, StackedRNN):
            part = part.get_submodule(self._inside)
            return part.get_parameter("weight_hh_l0")
        if isinstance(part, nn.RNNCellBase):
            return part.get_parameter("weight_hh")
        return part.get_parameter(f"weight_hh_{self._inside or 'l0'}")

    @property
    def owner(self) -> str:
        """Path of the torch layer, or a subclass of one, in the module as users wrote it."""
        return self.host.removesuffix(CORE).removesuffix(".") if self.delegated else self.host

    @property
    def _inside(self) -> str:
        """Path relative to the host."""
        return self.path[len(self.host) :].removeprefix(".")


def find_layers(module: nn.Module) -> tuple[RecurrentLayer, ...]:
    """Return the recurrent layers of a module with split layers.

    Raises
    ------
    ValueError
        If there is none, or a parameter is not finite.
    """
    stacks = {path for path, part in module.named_modules() if isinstance(part, StackedRNN)}
    cores = {
        joined(path, CORE) for path, part in module.named_modules() if isinstance(part, Delegating)
    }
    found = []
    for path, part in module.named_modules():
        if is_layer(part):
            outer, _, inside = path.rpartition(".")
            within = outer in stacks and bool(path)
            host = outer if within else path
            owner = host.removesuffix(CORE).removesuffix(".") if host in cores else host
            if not within:
                inside = "" if isinstance(part, nn.RNNCellBase) else "l0"
            found.append(RecurrentLayer(joined(owner, inside), path, host, host in cores))
    compiled = [part for part in module.modules() if is_compiled(part)]
    if not found and compiled:
        raise ValueError(
            f"estimator is or holds a {type(compiled[0]).__name__}, which is scripted or quantized"
            "; give the eager module that it was made from."
        )
    if not found:
        raise ValueError(
            f"estimator holds no recurrent layer: {type(module).__name__} has no nn.RNN, nn.GRU, "
            "nn.LSTM or cell such as nn.GRUCell inside; give a module that has one."
        )
    check_weights(module)
    return tuple(found)


def is_compiled(part: nn.Module) -> bool:
    """Return whether a module is scripted or quantized, so that its weights cannot be replaced."""
    return isinstance(part, torch.jit.ScriptModule) or ".quantized" in type(part).__module__


def joined(*parts: str) -> str:
    """Return a path joined from its parts, some of which may be empty."""
    return ".".join(filter(None, parts))


def output_layers(
    layers: Iterable[RecurrentLayer], module: nn.Module, host: str
) -> list[RecurrentLayer]:
    """Return the layers whose states a host outputs: all directions of its last level."""
    both = getattr(module.get_submodule(host), "bidirectional", False)
    return [layer for layer in layers if layer.host == host][-1 - both :]


def states_of(output: Any) -> Tensor:
    """Return the states in the output of a layer or cell; only valid steps if it is packed."""
    states = output if isinstance(output, Tensor) else output[0]
    return states.data if isinstance(states, PackedSequence) else states
