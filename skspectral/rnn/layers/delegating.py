"""Recurrent layers with a ``forward``, hooks or attributes of their own.

Such a layer keeps its class and behavior, but calls a plain torch layer, its ``core``, where it
called torch's ``forward``. The core is pruned like any other layer, and the code of the layer
before and after that call still runs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

from ..runtime.kinds import type_of
from ..runtime.posing import blank
from .weights import copied, empty_like, is_plain

TORCH = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
CORE = "core"
SIZES = ("input_size", "hidden_size", "bias")


def is_customized(part: Any) -> bool:
    """Return whether a recurrent layer is a subclass or has hooks or attributes of its own."""
    kind = type_of(part)
    like = part if isinstance(part, nn.RNNBase) else None
    fresh = empty_like(part, part.input_size, part.hidden_size, bool(part.bias), like)
    return type(part) is not kind or not is_plain(part, fresh)


def runs_as_torch(part: nn.Module) -> bool:
    """Return whether calling a layer runs torch's ``forward`` and nothing else."""
    hooked = any(value for name, value in vars(part).items() if name.endswith("_hooks"))
    return (
        type(part).forward is type_of(part).forward and not hooked and "forward" not in vars(part)
    )


class ForeignForward(ValueError):
    """Error of a layer that does not compute its states by torch's ``forward``."""


class Delegating:
    """Base that marks layers that delegate to their core."""

    given_class: type


@cache
def delegating(kind: type) -> type:
    """Return a subclass of a layer class that calls its core in place of torch's ``forward``."""
    base = next(each for each in TORCH if issubclass(kind, each))

    def forward(self: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        return self.core(input, hx)

    def flatten_parameters(_self: Any) -> None:
        pass  # the core has the weights

    def missing(self: Any, name: str) -> Any:
        if name.startswith(("weight_", "bias_")):
            raise ForeignForward(
                f"layer {vars(self)['_path']!r} is a {kind.__name__}, whose forward reads {name} "
                f"itself in place of calling torch's {base.__name__}; its states cannot be pruned. "
                f"Give a module in which an nn.{base.__name__} makes them."
            )
        return base.__getattr__(self, name)

    def check_forward_args(self: Any, *_args: Any) -> None:
        raise ForeignForward(
            f"layer {vars(self)['_path']!r} is a {kind.__name__}, whose forward runs "
            f"nn.{base.__name__}.forward by its name; call super().forward() in its place."
        )

    # A base right before the torch class, so that super().forward() in a subclass gets here.
    methods = {
        "forward": forward,
        "flatten_parameters": flatten_parameters,
        "__getattr__": missing,
        "check_forward_args": check_forward_args,  # torch's own forward calls it first
    }
    inner = type(f"Core{base.__name__}", (base,), methods)
    bases = (Delegating, inner) if kind is base else (Delegating, kind, inner)
    namespace = {"__reduce_ex__": reduced, "__module__": kind.__module__, "given_class": kind}
    return type(kind.__name__, bases, namespace)


def reduced(self: Any, _protocol: int) -> Any:
    """Return the reduce value of a delegating layer, whose class is created at run time."""
    return fresh, (self.given_class,), vars(self)


def fresh(kind: type) -> Any:
    """Return a delegating layer that has no attributes yet."""
    return blank(delegating(kind))


def delegate(part: Any, core: nn.Module, path: str) -> nn.Module:
    """Return a copy of a layer that calls ``core`` in place of torch's ``forward``.

    The copy stores its path for error messages.
    """
    layer = fresh(type(part))
    weights = [*weight_names(part)]
    dropped = {id(part._parameters[name]): None for name in weights}
    layer.__dict__ = {**copied_attributes(part, dropped), "_path": path}
    for name in weights:
        del layer._parameters[name]
    if isinstance(part, nn.RNNBase):
        layer._flat_weights_names, layer._flat_weights, layer._flat_weight_refs = [], [], []
    layer.add_module(CORE, core)
    return layer


def restore(layer: Any, core: Any) -> nn.Module:
    """Return a layer of the original class that holds the weights of ``core`` itself."""
    attributes = copied_attributes(layer, {id(layer.core): None})
    whole = blank(layer.given_class)
    whole.__dict__ = attributes
    del whole._modules[CORE], whole.__dict__["_path"]
    whole._parameters = {**core._parameters, **whole._parameters}
    for name in SIZES:
        vars(whole)[name] = getattr(core, name)
    if isinstance(core, nn.RNNBase):
        vars(whole)["_flat_weights_names"] = list(core._flat_weights_names)
        vars(whole)["_all_weights"] = [list(names) for names in core._all_weights]
        whole._init_flat_weights()
    return whole


def copied_attributes(part: nn.Module, memo: dict[int, Any]) -> dict[str, Any]:
    """Return copies of all attributes of a layer."""
    holder = nn.Module()
    holder.__dict__ = dict(vars(part))
    return vars(copied(holder, memo))


def weight_names(part: Any) -> list[str]:
    """Return the names of the weights and biases of a torch layer."""
    if isinstance(part, nn.RNNBase):
        return list(part._flat_weights_names)
    return ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bool(part.bias)


def plain_core(part: Any) -> nn.Module:
    """Return a plain torch layer that shares the weights of a given layer."""
    like = part if isinstance(part, nn.RNNBase) else None
    core = empty_like(part, part.input_size, part.hidden_size, bool(part.bias), like)
    for name in weight_names(part):
        core._parameters[name] = part._parameters[name]
    if isinstance(core, nn.RNNBase):
        core._init_flat_weights()
    return core.train(part.training)
