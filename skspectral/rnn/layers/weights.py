"""Read and replace the weights of recurrent layers and linear maps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pickle import PicklingError
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
)
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..outputs import tensors
from ..runtime.kinds import mode_of, type_of
from .closures import rebind_closures

REMOVERS: dict[type, Callable[[Any, str], Any]] = {
    WeightNorm: remove_weight_norm,
    SpectralNorm: remove_spectral_norm,
    prune.BasePruningMethod: prune.remove,
}
GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


def weights_of(rnn: nn.Module) -> dict[str, Tensor]:
    """Return ``weight_ih``, ``weight_hh`` and any biases by name, without the suffix ``_l0``."""
    names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bool(rnn.bias)
    end = "" if isinstance(rnn, nn.RNNCellBase) else "_l0"
    return {name: getattr(rnn, name + end).detach() for name in names}


def reading_of(part: Any) -> tuple[Tensor, Tensor | None]:
    """Return the weight and the bias that a linear map or a layer applies to its input."""
    if isinstance(part, nn.Linear):
        return part.weight, part.bias
    end = "" if isinstance(part, nn.RNNCellBase) else "_l0"
    return getattr(part, f"weight_ih{end}"), getattr(part, f"bias_ih{end}", None)


def n_parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def incoming_norms(rnn: Any) -> Tensor:
    """Return the norm of all weights into each node, over all gates, shape (n_nodes,)."""
    weights = weights_of(rnn)
    incoming = in_float64(torch.cat([weights["weight_ih"], weights["weight_hh"]], dim=1))
    return incoming.reshape(GATES[mode_of(rnn)], rnn.hidden_size, -1).norm(dim=(0, 2))


def in_float64(weight: Tensor) -> Tensor:
    """Return a weight as float64 on the CPU, where all linear algebra is done."""
    return weight.detach().to("cpu", torch.float64)


def empty_like(rnn: Any, input_size: int, hidden_size: int, bias: bool, like: Any = None) -> Any:
    """Return a layer of the same kind and another size, on the meta device.

    It has the levels and directions of ``like``, or one of each if that is None.
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


def filled(empty: Any, weights: Mapping[str, Tensor], like: nn.Module) -> Any:
    """Return a layer from the meta device, filled with weights.

    Device, dtype, mode and gradient flags are those of ``like``, the module that it replaces.
    Creation on the meta device draws no random numbers.
    """
    old = dict(like.named_parameters())
    place = next(iter(old.values()))
    layer = empty.to(place.dtype).to_empty(device=place.device)
    layer.load_state_dict(weights)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(old.get(name, place).requires_grad)
    return layer.train(like.training)


def copy_of(module: nn.Module, swaps: Mapping[Any, Any] | None = None) -> Any:
    """Return a copy of a module in which some submodules, parameters or buffers are replaced.

    Each is replaced wherever the module refers to it, including lists, dicts and partials.
    The weights of layers are flattened again for cuDNN, since copying undoes that.
    """
    memo = {id(old): new for old, new in (swaps or {}).items()}
    return in_one_piece(copied(module, memo))


def independent_copy(module: nn.Module) -> nn.Module:
    """Return a copy that shares the parameters, but has buffers and attributes of its own."""
    return copied(module, {id(each): each for each in module.parameters()})


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a deep copy, including computed tensors, which torch refuses to copy."""
    for part in module.modules():
        for tensor in tensors(list(vars(part).values())):
            if not tensor.is_leaf and id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
    whole: nn.Module = deep_copy(module, memo)
    for part in whole.modules():
        rebind_closures(vars(part), memo)
    return whole


def copied_estimator(estimator: Any, module: nn.Module | None = None) -> Any:
    """Return a deep copy of an estimator whose module is copied, or replaced by ``module``."""
    memo: dict[int, Any] = {}
    if module is None:
        copied(estimator.module_, memo)  # so that the copied optimizer holds the copied parameters
    else:
        memo[id(estimator.module_)] = module
    return deep_copy(estimator, memo)


def deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy of a module or estimator.

    Raises
    ------
    TypeError
        If an attribute, which the error names, cannot be copied.
    """
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, PicklingError) as error:
        raise TypeError(
            f"{type(value).__name__} cannot be copied{uncopyable(value)} ({error}); keep such an "
            "object outside of it, or leave it out of copies by a __getstate__ or __deepcopy__."
        ) from error


def uncopyable(value: Any) -> str:
    """Return words that name the attribute that cannot be copied; none if it is not found."""
    parts = value.named_modules() if isinstance(value, nn.Module) else [("", value)]
    for path, part in parts:
        for name, attribute in getattr(part, "__dict__", {}).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                copy.deepcopy(attribute)
            except (TypeError, PicklingError):
                where = f"{path}.{name}" if path else name
                return f" because of its attribute {where!r}"
            except RuntimeError:  # a computed tensor, which ``copied`` can copy
                continue
    return ""


def without_computed_weights(module: nn.Module) -> nn.Module:
    """Return a copy whose recurrent layers and linear maps hold their weights as parameters.

    A weight that a parametrization, ``weight_norm``, ``spectral_norm`` or a torch pruning mask
    computes replaces the parameters that it is computed from.
    """
    module = copied(module, {})
    for part in module.modules():
        training = part.training
        part.training = False  # no random draws, and no power iteration
        if isinstance(part, (nn.RNNBase, nn.RNNCellBase, nn.Linear)):
            if parametrize.is_parametrized(part):
                drop_parametrizations(part)
            drop_computing_hooks(part)
        part.training = training
    return module


def drop_computing_hooks(part: Any) -> None:
    """Replace torch hooks that compute weights before each call by the weights they compute."""
    hooks: list[Any] = list(part._forward_pre_hooks.values())
    for hook in hooks:
        for kind, remove in REMOVERS.items():
            if issubclass(type(hook), kind):
                hook(part, ())  # the present weight may date from an earlier pass
                remove(part, getattr(hook, "name", None) or hook._tensor_name)


def drop_parametrizations(part: Any) -> None:
    """Replace the parametrizations of a module by the weights that they compute.

    ``remove_parametrizations`` of torch would change the class, which copies of a module share.
    """
    values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}
    flags = {
        name: any(each.requires_grad for each in computed.parameters())
        for name, computed in part.parametrizations.items()
    }
    del part._modules["parametrizations"]
    loading = part._load_state_dict_pre_hooks  # the parametrized weight_norm adds one
    for key, hook in [*loading.items()]:
        if hook.hook.__module__ == parametrizations.__name__:
            del loading[key]
    part.__class__ = type(part).__bases__[0]
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value, requires_grad=flags[name]))
    if isinstance(part, nn.RNNBase):
        part._init_flat_weights()


def in_one_piece(module: nn.Module) -> nn.Module:
    """Return the module with the weights of each layer in one piece of memory."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
    return module


def resized(part: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a copy of a linear map with other weights, but the same class and hooks."""
    empty = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return like_linear(part, filled(empty, weights, part))


def like_linear(part: nn.Linear, plain: nn.Linear) -> nn.Linear:
    """Return a linear map with the weights of ``plain`` and the class and hooks of ``part``."""
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
    """Return whether a module has no hooks, submodules, buffers or attributes of its own.

    ``fresh`` is a newly created module of the torch class.
    """
    own, usual = vars(part), vars(fresh)
    hooks = [name for name in usual if name.endswith("hooks") or "hooks_" in name]
    return own.keys() <= usual.keys() and not any(
        own[name] for name in (*hooks, "_modules", "_buffers")
    )
