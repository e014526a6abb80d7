"""Weights of recurrent layers and linear maps, and modules filled with others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..outputs import tensors
from .closures import rebind_closures

REMOVERS: dict[type, Callable[[Any, str], Any]] = {
    WeightNorm: remove_weight_norm,
    SpectralNorm: remove_spectral_norm,
    prune.BasePruningMethod: prune.remove,
}
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
        options |= shape | {"dropout": like.dropout if like.num_layers > 1 else 0.0}
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


def copy_of(module: nn.Module, swaps: Mapping[nn.Module, nn.Module] | None = None) -> Any:
    """Return a copy of a module, in which some parts are others.

    A part is swapped wherever the module holds it: among its parts, in lists, dicts and partials.
    On a GPU the copy has its weights as cuDNN wants them, which copying undoes.
    """
    memo = {id(old): new for old, new in (swaps or {}).items()}
    return in_one_piece(copied(module, memo))


def independent_copy(module: nn.Module) -> nn.Module:
    """Return a copy with the same parameters, whose buffers and attributes are its own."""
    return copied(module, {id(each): each for each in module.parameters()})


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a deep copy, also of tensors that were computed, which torch does not copy."""
    for part in module.modules():
        for tensor in tensors(list(vars(part).values())):
            if not tensor.is_leaf and id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
    whole: nn.Module = copy.deepcopy(module, memo)
    for part in whole.modules():
        rebind_closures(vars(part), memo)
    return whole


def copied_estimator(estimator: Any, module: nn.Module | None = None) -> Any:
    """Return a deep copy of an estimator that holds a copy of its module, or another one."""
    memo: dict[int, Any] = {}
    if module is None:
        copied(estimator.module_, memo)  # whose copied parameters an optimizer then trains
    else:
        memo[id(estimator.module_)] = module
    return copy.deepcopy(estimator, memo)


def without_computed_weights(module: nn.Module) -> nn.Module:
    """Return a copy whose recurrent layers and linear maps hold their weights as parameters.

    What a parametrization, ``weight_norm``, ``spectral_norm`` or a pruning mask of torch computes
    takes the place of what it is computed from.
    """
    module = copied(module, {})
    for part in module.modules():
        training = part.training
        part.training = False  # in which nothing is drawn, and no iteration goes on
        if isinstance(part, (nn.RNNBase, nn.RNNCellBase, nn.Linear)):
            if parametrize.is_parametrized(part):
                drop_parametrizations(part)
            drop_computing_hooks(part)
        part.training = training
    return module


def drop_computing_hooks(part: Any) -> None:
    """Let a module hold the weights that hooks of torch compute before each call."""
    hooks: list[Any] = list(part._forward_pre_hooks.values())
    for hook in hooks:
        for kind, remove in REMOVERS.items():
            if issubclass(type(hook), kind):
                hook(part, ())  # computes the weight, which may be that of an earlier pass
                remove(part, getattr(hook, "name", None) or hook._tensor_name)


def drop_parametrizations(part: Any) -> None:
    """Let a module hold what its parametrizations compute.

    The function of torch would change the class, which a module shares with its copies.
    """
    values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}
    flags = {
        name: any(each.requires_grad for each in computed.parameters())
        for name, computed in part.parametrizations.items()
    }
    del part._modules["parametrizations"]
    part.__class__ = type(part).__bases__[0]
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value, requires_grad=flags[name]))
    if isinstance(part, nn.RNNBase):
        part._init_flat_weights()


def in_one_piece(module: nn.Module) -> nn.Module:
    """A module whose layers hold their weights in one piece."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
    return module


def resized(part: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a copy of a linear map, of its class and with its hooks, that has other weights."""
    empty = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return like_linear(part, filled(empty, weights, part))


def like_linear(part: nn.Linear, plain: nn.Linear) -> nn.Linear:
    """Return a linear map with the weights of a plain one, that is all else that another is."""
    if type(part) is nn.Linear and is_plain(part, plain):
        return plain
    memo = {id(part.weight): plain.weight}
    if part.bias is not None:
        memo[id(part.bias)] = plain.bias
    other = cast(nn.Linear, copied(part, memo))
    other.register_parameter("bias", plain.bias)
    other.in_features, other.out_features = plain.in_features, plain.out_features
    return other


def is_plain(part: nn.Module, fresh: nn.Module) -> bool:
    """Return whether a module has no more than a fresh one: no hooks, parts or attributes."""
    own, usual = vars(part), vars(fresh)
    hooks = [name for name in usual if name.endswith("hooks") or "hooks_" in name]
    return own.keys() <= usual.keys() and not any(
        own[name] for name in (*hooks, "_modules", "_buffers")
    )
