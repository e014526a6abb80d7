"""Pruned modules on disk: weights as safetensors, and a description that rebuilds the module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import le
from os import PathLike
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from ..utils.atomic_fit import same_random_numbers
from ..utils.doc_hints import refer_to_docs
from ..utils.safetensors_io import header, read_header, replacing
from ..utils.validation import name_of_kind
from .file_checks import check_description, check_structure, check_supports, check_tensors
from .layers.delegating import CORE, TORCH, delegate, is_customized, restore
from .layers.sizes import set_size, sizes_in
from .layers.stack import is_layer
from .layers.weights import copy_of, like_linear, without_computed_weights
from .runtime.inputs import SelectedCellInputs, SelectedInputs
from .runtime.kinds import type_of
from .runtime.stack import StackedRNN
from .runtime.wrappers import (
    Expanded,
    ExpandedCell,
    ExpandedRNN,
    InitialStateCell,
    InitialStateRNN,
    InitialStateWrapper,
)
from .surgery.reduction import like_weight

FORMAT = "skspectral pruned module"
VERSION = 2
STARTED, SELECTED = (InitialStateRNN, InitialStateCell), (SelectedInputs, SelectedCellInputs)
OURS = (StackedRNN, *STARTED, ExpandedRNN, ExpandedCell, *SELECTED)
# Errors that rebuilding from a manipulated header can raise.
FORWARD_ERRORS = (
    *(AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError),
    *(SafetensorError, StopIteration),
)
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (nn.Linear, *TORCH, *OURS)}


def network_of(module: Any) -> nn.Module:
    """Return a module, or the pruned module of a fitted pruner."""
    network = getattr(module, "pruned_module_", module)
    if not isinstance(network, nn.Module):
        unfitted = ", which is not fitted" * hasattr(module, "get_params")
        raise TypeError(
            "module must be a torch module or a fitted pruner; got "
            f"{type(module).__name__}{unfitted}."
        )
    return network


def save_pruned(module: Any, path: str | PathLike[str]) -> None:
    """Save a pruned module as safetensors.

    The file holds the weights and, in its header as JSON, the sizes of all recurrent layers and
    linear maps. Nothing is pickled.

    Parameters
    ----------
    module : nn.Module or estimator
        A pruned module, or the fitted pruner that has made it.
    path : str or path-like
        The file to write.

    Raises
    ------
    TypeError
        If ``module`` is neither.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skspectral import load_pruned, prune, save_pruned
    >>> lstm = torch.nn.LSTM(input_size=3, hidden_size=32, batch_first=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pruned(prune(lstm, torch.randn(50, 20, 3), m=8), f"{folder}/small.safetensors")
    ...     load_pruned(f"{folder}/small.safetensors", into=lstm)
    LSTM(3, 8, batch_first=True)
    """
    module = network_of(module)
    parts = {name: described(part) for name, part in module.named_modules() if name in kept(module)}
    inside = tuple(f"{name}." for name in parts)
    described_parts = {
        "parts": parts,
        "sizes": {
            name: own
            for name, part in module.named_modules()
            if name not in parts and not name.startswith(inside) and (own := sizes_in(part))
        },
        "buffers": {name: list(each.shape) for name, each in other_buffers(module)},
    }
    with replacing(path) as beside:
        # On a GPU the weights of a layer share memory, which safetensors refuses to save.
        here = copy_of(module).cpu()
        save_model(here, beside, metadata=header(FORMAT, VERSION, **described_parts))


def load_pruned(path: str | PathLike[str], into: nn.Module) -> nn.Module:
    """Load a pruned module.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save_pruned` wrote.
    into : nn.Module
        A module of the class that was pruned, with the old sizes; its weights do not matter. It is
        not changed.

    Returns
    -------
    nn.Module
        The pruned module, in evaluation mode.

    Raises
    ------
    TypeError
        If ``into`` is no module.
    ValueError
        If the file holds no pruned module, or does not fit the module.

    Examples
    --------
    See :func:`save_pruned`; the module to load into may be fresh:

    >>> import tempfile, torch
    >>> from skspectral import load_pruned, prune, save_pruned
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pruned(prune(gru, torch.randn(50, 20, 3), m=8), f"{folder}/small.safetensors")
    ...     load_pruned(f"{folder}/small.safetensors", into=torch.nn.GRU(3, 32))
    GRU(3, 8)
    """
    if not isinstance(into, nn.Module):
        raise TypeError(
            f"into must be a torch module, an instance of the class that was pruned; got "
            f"{name_of_kind(into)}."
        )
    with refer_to_docs("Deployment"), same_random_numbers():
        head = read_header(path, FORMAT, VERSION, "save_pruned")
        device = next(into.parameters(), torch.empty(0)).device
        module = without_computed_weights(into).cpu()
        try:
            module = loaded(path, head.get("parts"), with_buffers(module, head["buffers"]))
            restore_sizes(module, head["sizes"])
            return module.to(device).eval()
        except FORWARD_ERRORS as error:
            raise ValueError(
                f"path={str(path)!r} does not fit into {type(into).__name__}: {error}. Give a "
                "module of the class that was pruned."
            ) from error


def loaded(path: str | PathLike[str], parts: Any, module: nn.Module) -> nn.Module:
    """Return a module with the parts and the weights of a file.

    Parts that differ from their description are rebuilt on the meta device. Memory of the described
    sizes is allocated only after the tensors in the file are found to have these sizes.
    """
    with safe_open(str(path), framework="pt") as file:
        for description in parts.values():
            check_description(description, n_tensors=len(file.keys()))
    for name, description in parts.items():
        module = with_core(module, name)
        part = module.get_submodule(name)
        if kind_of(part) is None or described(part) != description:
            with torch.device("meta"):
                made = built(description)
            check_structure(made, part)
            if described(made) != description:
                raise ValueError(f"its header describes a part by {description!r}")
            module = copy_of(module, {part: in_place_of(part, made, name)})
    module = with_shapes(path, module)
    check_tensors(path, module)
    module._apply(lambda each: torch.empty_like(each, device="cpu") if each.is_meta else each)
    load_model(module, str(path))
    check_supports(module)
    return module


def with_shapes(path: str | PathLike[str], module: nn.Module) -> nn.Module:
    """Return a module whose other parameters and buffers are as small as those in a file."""
    described_parts = tuple(f"{name}." if name else "" for name in kept(module))
    swaps: dict[Any, Any] = {}
    with safe_open(str(path), framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  no dict
            shape = tuple(file.get_slice(name).get_shape())
            before = module.state_dict(keep_vars=True).get(name)
            if before is None or name.startswith(described_parts) or len(shape) != before.ndim:
                continue  # any difference is an error later on
            if shape != tuple(before.shape) and all(map(le, shape, before.shape)):
                swaps[before] = like_weight(before, before.new_empty(shape))
    return copy_of(module, swaps) if swaps else module


def with_buffers(module: nn.Module, shapes: Mapping[str, list[int]]) -> nn.Module:
    """Return a module whose buffers that are in no file have smaller shapes."""
    swaps: dict[Any, Any] = {}
    for name, buffer in other_buffers(module):
        shape = shapes.get(name, [])
        if len(shape) == buffer.ndim and all(map(le, shape, buffer.shape)):
            swaps[buffer] = buffer[tuple(map(slice, shape))].clone()
    return cast(nn.Module, copy_of(module, swaps))


def other_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that are not part of the state dict."""
    saved = module.state_dict().keys()
    return ((name, each) for name, each in module.named_buffers() if name not in saved)


def restore_sizes(module: nn.Module, sizes: Mapping[str, Mapping[str, int]]) -> None:
    """Set attributes that are smaller in a file; no other attribute is changed."""
    for path, own in sizes.items():
        part = module.get_submodule(path)
        for name, size in own.items():
            if type(size) is int and 0 < size < sizes_in(part).get(name, 0):
                set_size(part, name, size)


def with_core(module: nn.Module, path: str) -> nn.Module:
    """Return a module in which the layer that owns a core is delegating, if ``path`` is a core."""
    owner, _, name = path.rpartition(".")
    part = module.get_submodule(owner)
    if name != CORE or not is_layer(part):
        return module
    with torch.device("meta"):
        core = type_of(part)(part.input_size, part.hidden_size)
    return copy_of(module, {part: delegate(part, core, owner)})


def in_place_of(part: Any, made: Any, path: str) -> nn.Module:
    """Return a rebuilt part ``made`` with the class, hooks and attributes of ``part``."""
    if isinstance(part, nn.Linear):
        return like_linear(part, made)
    if is_layer(part) and is_customized(part) and type(made) in TORCH:
        return restore(delegate(part, made, path), made)
    return cast(nn.Module, made)


def kept(module: nn.Module) -> set[str]:
    """Return the paths of the parts to describe: the outermost of the known kinds."""
    found: list[str] = []
    for path, part in module.named_modules():
        inside = any(path.startswith(f"{outer}.") or not outer for outer in found)
        if kind_of(part) and not inside:
            found.append(path)
    return set(found)


def kind_of(part: nn.Module) -> str | None:
    """Return the name of the class that rebuilds a part; None if the part is not rebuilt."""
    if type(part) in KINDS.values():
        return type(part).__name__
    if isinstance(part, nn.Linear):
        return "Linear"
    return str(type_of(part).__name__) if is_layer(part) and isinstance(part, TORCH) else None


def described(part: Any) -> dict[str, Any]:
    """Return the description that rebuilds a part."""
    dtype = str(next(part.parameters()).dtype).removeprefix("torch.")
    kind = kind_of(part)
    options: dict[str, Any]
    if isinstance(part, nn.Linear):
        sizes = [part.in_features, part.out_features]
        options = {"bias": part.bias is not None}
        return {"kind": kind, "sizes": sizes, "options": options, "dtype": dtype}
    if isinstance(part, SELECTED):
        given = {"size": part.input_size, "kept": len(part.support)}
        return {"kind": kind, "rnn": described(part.rnn), "dtype": dtype} | given
    if isinstance(part, InitialStateWrapper):
        return {
            "kind": kind,
            "rnn": described(part.rnn),
            "size": part.hidden_size,
            "nodes": list(part.sizes),
            "kept": part.n_kept,
            "cells": isinstance(part, Expanded) and len(part.expand_cells) > 0,
            "apart": isinstance(part, ExpandedRNN) and part.is_apart,
            "small_states": isinstance(part, Expanded) and part.small_states,
            "dtype": dtype,
        }
    options = {"bias": bool(part.bias)}
    if isinstance(part, nn.RNNCellBase):
        options |= {"nonlinearity": part.nonlinearity} if isinstance(part, nn.RNNCell) else {}
    else:
        names = ("num_layers", "batch_first", "dropout", "bidirectional")
        options |= {name: getattr(part, name) for name in names}
        is_elman = issubclass(type(part), nn.RNN)
        options |= {"nonlinearity": part.nonlinearity} if is_elman else {}
    found: dict[str, Any] = {
        "kind": kind,
        "sizes": [part.input_size, part.hidden_size],
        "dtype": dtype,
    }
    if isinstance(part, StackedRNN):
        found["layers"] = {name: described(layer) for name, layer in part.layers.items()}
        found["mode"] = part.mode
    return found | {"options": options}


def built(description: Mapping[str, Any]) -> nn.Module:
    """Return the part of a description, with arbitrary weights."""
    kind, dtype = description["kind"], getattr(torch, description["dtype"])
    if kind == "StackedRNN":
        layers = {name: built(layer) for name, layer in description["layers"].items()}
        return StackedRNN(cast(dict[str, nn.RNNBase], layers), like_of(description))
    if kind not in KINDS:
        raise RuntimeError(f"it holds a part of the unknown kind {kind!r}")
    if KINDS[kind] in OURS:
        return stand_in(description, dtype)
    return cast(
        nn.Module, KINDS[kind](*description["sizes"], **description["options"], dtype=dtype)
    )


def like_of(description: Mapping[str, Any]) -> Any:
    """Return a torch layer with the attributes of the described stack."""
    kind = {"GRU": nn.GRU, "LSTM": nn.LSTM}.get(description["mode"], nn.RNN)
    options = dict(description["options"])
    if kind is nn.RNN:
        options["nonlinearity"] = description["mode"].removeprefix("RNN_").lower()
    return kind(*description["sizes"], **options)


def stand_in(description: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """Return the wrapper of a description, with a layer inside."""
    kind = KINDS[description["kind"]]
    if kind in SELECTED:
        support = torch.zeros(description["kept"], dtype=torch.long)
        return kind(built(description["rnn"]), support, description["size"])
    rnn, nodes, sizes = built(description["rnn"]), description["nodes"], description["kept"]
    hidden_size = description["size"]
    supports = [torch.zeros(size, dtype=torch.long) for size in sizes]
    if kind in STARTED:
        return kind(rnn, supports, nodes, hidden_size)
    shapes = list(zip(sizes, nodes, strict=True))
    expand = [nn.Linear(m, n, dtype=dtype) for m, n in shapes]
    cells = [nn.Linear(m, n, dtype=dtype) for m, n in shapes if description["cells"]]
    part = kind(rnn, supports, expand, cells, hidden_size, description["small_states"])
    if description["apart"]:
        part.set_apart()
    return cast(nn.Module, part)
