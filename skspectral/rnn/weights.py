"""Weights of recurrent layers and linear maps, and modules filled with others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


def weights_of(rnn: nn.Module) -> dict[str, Tensor]:
    """``weight_ih``, ``weight_hh`` and the biases, if any, without the name of the level."""
    names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bool(rnn.bias)
    end = "" if isinstance(rnn, nn.RNNCellBase) else "_l0"
    return {name: getattr(rnn, name + end).detach() for name in names}


def reading_of(part: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias by which a linear map or a layer reads its input."""
    if isinstance(part, nn.Linear):
        return part.weight, part.bias
    end = "" if isinstance(part, nn.RNNCellBase) else "_l0"
    return getattr(part, f"weight_ih{end}"), getattr(part, f"bias_ih{end}", None)


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


def empty_like(rnn: Any, input_size: int, hidden_size: int, bias: bool, like: Any = None) -> Any:
    """A layer of the same kind and another size, on the meta device.

    With as many levels and directions as another module has, if one is given.
    """
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


def copy_of(module: nn.Module) -> nn.Module:
    """A copy of a module, on a GPU with its weights as cuDNN wants them, which copying undoes."""
    return in_one_piece(copy.deepcopy(module))


def in_one_piece(module: nn.Module) -> nn.Module:
    """A module whose layers hold their weights in one piece."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
    return module


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in the place of another, wherever it stands; returns the root."""
    if root is old:
        return new
    for path, part in list(root.named_modules(remove_duplicate=False)):
        if part is old:
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, new)
    return root
