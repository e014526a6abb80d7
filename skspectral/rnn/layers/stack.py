"""Split a recurrent module into layers, one for each level and direction, and merge them again."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..runtime.posing import Posing
from ..runtime.stack import StackedRNN
from .checks import check_layer, check_ties, signature
from .delegating import (
    TORCH,
    Delegating,
    delegate,
    is_customized,
    plain_core,
    restore,
    runs_as_torch,
)
from .weights import copy_of, empty_like, filled, without_computed_weights

BIASES = ("bias_ih", "bias_hh")


def directions(bidirectional: bool) -> tuple[str, ...]:
    """Return the suffixes of the names of the layers of one level."""
    return ("", "_reverse") if bidirectional else ("",)


def has_layers(part: nn.Module) -> bool:
    """Return whether a module has several levels or directions."""
    return isinstance(part, nn.RNNBase) and (part.num_layers > 1 or part.bidirectional)


def split_layers(module: nn.Module) -> Any:
    """Return a copy of a module in which every level and direction is a module of its own.

    Layers that share all of their weights become one layer that is used several times.

    Raises
    ------
    ValueError
        If a layer cannot be pruned.
    """
    module = without_computed_weights(module)
    swaps: dict[nn.Module, nn.Module] = {}
    known: dict[Any, tuple[str, nn.Module]] = {}
    for path, part in module.named_modules():
        if is_layer(part):
            check_layer(part, path)
            swaps[part] = known.setdefault(signature(part), (path, part))[1]
    check_ties(dict(known.values()))
    split = {part: plain_or_delegating(part, path) for path, part in known.values()}
    for old, one in swaps.items():
        if old is not one and split[one] is one:
            split[one] = copy_of(one)
    swaps = {old: split[one] for old, one in swaps.items()}
    return copy_of(module, {old: new for old, new in swaps.items() if old is not new})


def is_layer(part: nn.Module) -> bool:
    """Return whether a module is a recurrent layer and not a wrapper or delegating layer."""
    poses = isinstance(part, (Posing, Delegating))
    return isinstance(part, (nn.RNNBase, nn.RNNCellBase)) and not poses


def plain_or_delegating(part: Any, path: str) -> nn.Module:
    """Return a layer split into levels and directions, delegating if it is customized.

    A customized layer that is the whole module, at path ``""``, and runs only torch's ``forward``
    is not made delegating.
    """
    core = stacked(part) if has_layers(part) else None
    if is_customized(part) and (path or not runs_as_torch(part)):
        return delegate(part, core or plain_core(part), path)
    return core or part


def stacked(rnn: nn.RNNBase) -> StackedRNN:
    """Return a recurrent module split into its levels and directions."""
    layers = {}
    for level in range(rnn.num_layers):
        for suffix in directions(rnn.bidirectional):
            layers[f"l{level}{suffix}"] = layer_of(rnn, f"_l{level}{suffix}")
    return StackedRNN(layers, rnn).train(rnn.training)


def layer_of(rnn: nn.RNNBase, suffix: str) -> nn.RNNBase:
    """Return the layer of one level and direction, whose parameter names end in ``suffix``."""
    kinds = ("weight_ih", "weight_hh") + BIASES * rnn.bias
    old = {f"{kind}_l0": rnn.get_parameter(kind + suffix) for kind in kinds}
    n_inputs = old["weight_ih_l0"].shape[1]
    layer = filled(empty_like(rnn, n_inputs, rnn.hidden_size, rnn.bias), old, rnn)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(old[name].requires_grad)
    return cast(nn.RNNBase, layer)


def as_torch(rnn: StackedRNN) -> nn.Module:
    """Return the equivalent torch module, or ``rnn`` itself if its layers differ in size."""
    layers = rnn.layers
    if len({layer.hidden_size for layer in layers.values()}) > 1:
        return rnn
    first = layers["l0"]
    bias = any(layer.bias for layer in layers.values())
    empty = empty_like(first, rnn.input_size, first.hidden_size, bias, like=rnn)
    weights: dict[str, Tensor] = {}
    flags: dict[str, bool] = {}
    for name, layer in layers.items():
        for kind in ("weight_ih", "weight_hh") + BIASES * bias:
            old: Tensor | None = getattr(layer, f"{kind}_l0", None)
            known = layer.get_parameter("weight_hh_l0") if old is None else old
            weights[f"{kind}_{name}"] = torch.zeros_like(known[:, 0]) if old is None else old
            flags[f"{kind}_{name}"] = known.requires_grad
    whole = filled(empty, weights, first)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(flags[name])
    return cast(nn.Module, whole.train(rnn.training))


def merge_layers(module: nn.Module) -> Any:
    """Return a copy in which split layers are torch layers again, where their sizes allow it."""
    swaps: dict[nn.Module, nn.Module] = {}
    for part in module.modules():
        if isinstance(part, StackedRNN):
            swaps[part] = as_torch(part)
        elif isinstance(part, Delegating):
            core = as_torch(part.core) if isinstance(part.core, StackedRNN) else part.core
            if type(core) in TORCH:
                swaps[part] = restore(part, core)
    return copy_of(module, {old: new for old, new in swaps.items() if old is not new})
