"""Checks of a file of a pruned module, before memory of its sizes is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .layers.stack import directions
from .runtime.inputs import SelectedCellInputs, SelectedInputs
from .runtime.kinds import mode_of
from .runtime.stack import StackedRNN
from .runtime.wrappers import InitialStateWrapper, KeptNodes, RNNWrapper

DEEPEST = 8  # valid files have at most four nested parts
LARGEST = 2**31  # nodes, or inputs
OPTIONS: dict[str, tuple[type, ...]] = {
    "bias": (bool,),
    "num_layers": (int,),
    "batch_first": (bool,),
    "dropout": (int, float),
    "bidirectional": (bool,),
    "nonlinearity": (str,),
}
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
FLOATING = ("F", "BF")


def check_description(value: Any, n_tensors: int, depth: int = 0) -> None:
    """Raise if a value cannot be, or be in, the description of a part.

    Raises
    ------
    ValueError
        If the value is not valid in a description, or there are more levels than tensors in the
        file.
    """
    if isinstance(value, dict) and depth < DEEPEST:
        for each in value.values():
            check_description(each, n_tensors, depth + 1)
        options = value.get("options", {})
        n_sizes, n_levels = len(value.get("sizes", "ab")), options.get("num_layers", 1)
        known = all(type(each) in OPTIONS.get(name, ()) for name, each in options.items())
        if not known or n_sizes != 2 or n_levels > n_tensors:
            raise ValueError(f"its header describes a part by options={options!r}")
    elif isinstance(value, list) and depth < DEEPEST:
        for each in value:
            check_description(each, n_tensors, DEEPEST)
    elif isinstance(value, (dict, list)):
        raise ValueError("its header describes parts too deep inside one another")
    elif not (isinstance(value, str) or (isinstance(value, (int, float)) and 0 <= value < LARGEST)):
        raise ValueError(f"its header describes a part by {value!r}")


def check_structure(part: nn.Module, place: nn.Module) -> None:
    """Raise if a part does not fit together, or is of another kind than the one it replaces.

    Raises
    ------
    ValueError
        If sizes inside the part do not match, or ``place`` is of another kind.
    """
    if nature(part) != nature(place):
        raise ValueError(
            f"its header describes a part like {unwrapped(part)} where the module has "
            f"{unwrapped(place)}"
        )
    fits = True
    inner: Any
    for inner in part.modules():
        if isinstance(inner, InitialStateWrapper):
            fits &= inner.n_kept == sizes_of(inner.rnn)
        elif isinstance(inner, (SelectedInputs, SelectedCellInputs)):
            read: Any = inner.rnn
            fits &= len(inner.support) == read.input_size <= inner.input_size
        elif isinstance(inner, StackedRNN):
            fits &= is_stack(inner)
    if not fits:
        raise ValueError(f"its header describes a {type(part).__name__} that does not fit together")


def nature(part: nn.Module) -> Any:
    """Return the kind of a part inside its wrappers: a linear map, or a layer or cell of a mode."""
    part = unwrapped(part)
    return "Linear" if isinstance(part, nn.Linear) else (mode_of(part), is_cell(part))


def unwrapped(part: nn.Module) -> nn.Module:
    """Return the part inside its wrappers."""
    while isinstance(part, RNNWrapper):
        part = part.rnn
    return part


def is_cell(part: nn.Module) -> bool:
    """Return whether a layer is a cell."""
    return isinstance(part, nn.RNNCellBase)


def sizes_of(rnn: nn.Module) -> list[int]:
    """Return the number of nodes of every level and direction."""
    if isinstance(rnn, StackedRNN):
        return [layer.hidden_size for layer in rnn.layers.values()]
    found: Any = rnn
    n_layers = 1 if is_cell(rnn) else found.num_layers * (1 + found.bidirectional)
    return [found.hidden_size] * n_layers


def is_stack(rnn: StackedRNN) -> bool:
    """Return whether a stack has all of its layers, each with as many inputs as the level below."""
    layers, ends = rnn.layers, directions(rnn.bidirectional)
    if [*layers] != [f"l{level}{end}" for level in range(rnn.num_layers) for end in ends]:
        return False
    width = rnn.input_size
    for level in range(rnn.num_layers):
        own = [layers[f"l{level}{end}"] for end in ends]
        if any(nature(each) != (rnn.mode, False) or each.input_size != width for each in own):
            return False
        if any(sizes_of(each) != [each.hidden_size] for each in own):
            return False
        width = sum(each.hidden_size for each in own)
    return True


def check_tensors(path: str | PathLike[str], module: nn.Module) -> None:
    """Raise if the tensors of a file do not match those of a module.

    Parameters
    ----------
    path : str or path-like
        The file.
    module : nn.Module
        The module, some parts of which may be on the meta device.

    Raises
    ------
    ValueError
        If tensors are missing or unexpected, or have other shapes or dtypes.
    """
    expected: Mapping[str, Tensor] = module.state_dict(keep_vars=True)
    with safe_open(str(path), framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  no dict
        found = {name: (tuple(p.get_shape()), p.get_dtype()) for name, p in parts.items()}
    held = {id(expected[name]) for name in found if name in expected}
    # A tensor with several names is saved once.
    missing = [name for name, tensor in expected.items() if id(tensor) not in held]
    if missing or found.keys() - expected.keys():
        raise ValueError(
            f"its tensors lack {missing} and have {sorted(found.keys() - expected.keys())} too many"
        )
    for name, (shape, dtype) in found.items():
        tensor = expected[name]
        if shape != tuple(tensor.shape) or not is_dtype(dtype, tensor):
            raise ValueError(
                f"its tensor {name!r} is of shape {shape} and dtype {dtype} where "
                f"{tuple(tensor.shape)} and {tensor.dtype} are needed"
            )


def is_dtype(name: str, tensor: Tensor) -> bool:
    """Return whether a dtype in a file fits a tensor.

    A tensor on the meta device needs its own dtype; any other converts between floating dtypes.
    """
    if tensor.is_meta:
        return DTYPES.get(tensor.dtype) == name
    return tensor.is_floating_point() == name.startswith(FLOATING)


def check_supports(module: nn.Module) -> None:
    """Raise if kept nodes or inputs in a loaded module are not valid.

    Raises
    ------
    ValueError
        If an index is out of range or repeated, or stored indices are inconsistent.
    """
    for path, part in module.named_modules():
        if isinstance(part, KeptNodes):
            check_support(part.support, part.n_nodes, path)
            fresh = KeptNodes(part.support, part.n_nodes, part.width)
            if not part.places.equal(fresh.places):
                raise ValueError(f"its places of {path!r} are not those of its support")
        elif isinstance(part, (SelectedInputs, SelectedCellInputs)):
            check_support(part.support, part.input_size, path)


def check_support(support: Tensor, size: int, path: str) -> None:
    """Raise if indices are not distinct or not in ``range(size)``."""
    distinct = len(support.unique()) == len(support)
    if not distinct or bool(((support < 0) | (support >= size)).any()):
        raise ValueError(f"its support of {path!r} must hold ints from 0 to {size - 1}, each once")
