"""Recurrent layers: find them in a module and describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}
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
        host = getattr(host, "rnn", host) if hasattr(host, "_n_layers") else host
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
    stacks = {path for path, part in module.named_modules() if hasattr(part, "layers")}
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


def weights_of(rnn: nn.Module) -> dict[str, Tensor]:
    """``weight_ih``, ``weight_hh`` and the biases, if any, without the name of the level."""
    names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bool(rnn.bias)
    end = "" if isinstance(rnn, nn.RNNCellBase) else "_l0"
    return {name: getattr(rnn, name + end).detach() for name in names}


def mode_of(rnn: nn.Module) -> str:
    """A key of ``GATES``."""
    if isinstance(rnn, nn.RNNCell):
        return f"RNN_{rnn.nonlinearity.upper()}"
    if isinstance(rnn, nn.RNNCellBase):
        return "GRU" if isinstance(rnn, nn.GRUCell) else "LSTM"
    return cast(str, rnn.mode)


def incoming_norms(rnn: Any) -> Tensor:
    """Norm of all weights into each node, of inputs and states and all gates, shape (n_nodes,)."""
    weights = weights_of(rnn)
    incoming = in_float64(torch.cat([weights["weight_ih"], weights["weight_hh"]], dim=1))
    return incoming.reshape(GATES[mode_of(rnn)], rnn.hidden_size, -1).norm(dim=(0, 2))


def in_float64(weight: Tensor) -> Tensor:
    """A weight as float64 on the CPU, where all of the linear algebra is done."""
    return weight.detach().to("cpu", torch.float64)


def empty_like(
    rnn: Any, hidden_size: int, bias: bool, input_size: int | None = None, like: Any = None
) -> Any:
    """A layer of the same kind and another size, on the meta device.

    With as many levels and directions as another module has, if one is given.
    """
    input_size = input_size or rnn.input_size
    options: dict[str, Any] = {"bias": bias, "device": "meta"}
    if isinstance(rnn, nn.RNNCell):
        options["nonlinearity"] = rnn.nonlinearity
    if isinstance(rnn, nn.RNNCellBase):
        return type_of(rnn)(input_size, hidden_size, **options)
    options |= {"batch_first": rnn.batch_first}
    if like is not None:
        shape = {"num_layers": like.num_layers, "bidirectional": like.bidirectional}
        options |= shape | {"dropout": like.dropout}
    if isinstance(rnn, nn.RNN):
        options["nonlinearity"] = rnn.mode.removeprefix("RNN_").lower()
    return type_of(rnn)(input_size, hidden_size, **options)


def type_of(rnn: nn.Module) -> Any:
    """The class of torch that a layer is of."""
    kinds = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
    return next(kind for kind in kinds if isinstance(rnn, kind))


def filled(empty: Any, weights: Mapping[str, Tensor], like: nn.Module) -> Any:
    """A layer made on the meta device, which draws no random numbers, filled with weights.

    Device, dtype, mode and gradient flags are those of the layer it takes the place of.
    """
    old = dict(like.named_parameters())
    place = next(iter(old.values()))
    layer = empty.to(place.dtype).to_empty(device=place.device)
    layer.load_state_dict(weights)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(old.get(name, place).requires_grad)
    return layer.train(like.training)


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in the place of another, wherever it stands; returns the root."""
    if root is old:
        return new
    for path, part in list(root.named_modules(remove_duplicate=False)):
        if part is old:
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, new)
    return root
