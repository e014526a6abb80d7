"""Find the tensors in the outputs of a module, and compare the outputs of two modules."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from numbers import Real
from types import FunctionType, GeneratorType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

CLOSED = (str, bytes, type, nn.Module, FunctionType, GeneratorType, ModuleType, torch.Generator)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in a value.

    They may be nested in tuples, lists, mappings, dataclasses, distributions and other objects.
    """
    return (leaf for leaf in inside(value, ()) if isinstance(leaf, Tensor))


def leaves(value: Any) -> Iterator[Tensor]:
    """Yield all tensors and numbers in a value, as tensors."""
    for leaf in inside(value, ()):
        if isinstance(leaf, (Tensor, Real)) or leaf.dtype.kind in "biufc":
            yield torch.as_tensor(leaf)


def inside(value: Any, outer: tuple[int, ...]) -> Iterator[Any]:
    """Yield the tensors, numbers and arrays in a value, without following cycles.

    ``outer`` holds the ids of the objects that contain the value.
    """
    if isinstance(value, (Tensor, Real)) or hasattr(value, "__array_interface__"):
        yield value
    elif value is not None and not isinstance(value, CLOSED) and id(value) not in outer:
        for part in parts_of(value):
            yield from inside(part, (*outer, id(value)))


def parts_of(value: Any) -> Iterator[Any]:
    """Yield the elements of a container, or the attributes of an object."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from value
    else:
        yield from getattr(value, "__dict__", {}).values()
        for kind in type(value).__mro__:
            names = kind.__dict__.get("__slots__", ())
            for name in (names,) if isinstance(names, str) else names:
                yield getattr(value, name, None)


def columns_apart(
    found: list[Tensor], expected: list[Tensor], rounding: list[Tensor] | None, eps: float
) -> str | None:
    """Return in words how outputs differ by more than rounding; None if they do not.

    The tolerance of every column, along the last axis, is relative to its own largest number. Only
    the shapes of tensors that are not floating-point are compared, since rounding can move a number
    across a threshold.

    Parameters
    ----------
    found, expected : list of Tensor
        Outputs of two modules.
    rounding : list of Tensor or None
        Further outputs, which differ from the expected ones by as much as rounding may.
    eps : float
        Machine epsilon of the coarsest dtype of the computation.
    """
    if len(found) != len(expected):
        return f"leads to {len(found)} outputs instead of {len(expected)}"
    compared = set()
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        pair = id(one), id(other)  # what a reader returns may be an output of the module too
        if pair in compared:
            continue
        compared.add(pair)
        if one.shape != other.shape:
            return f"leads to an output of shape {tuple(one.shape)} instead of {tuple(other.shape)}"
        if not other.is_floating_point() or are_equal(one, other):
            continue
        a, b = as_columns(one), as_columns(other)
        finite = b.isfinite()
        if not torch.equal(a.isfinite(), finite):
            return "leads to outputs that are not finite in other places"
        if not bool(finite.all()):
            a, b = a.where(finite, 0.0), b.where(finite, 0.0)
        if not b.numel():
            continue
        gap = (a - b).abs_()
        # Entries that are the same, such as those of a mask, are no measure of the others.
        tolerance = eps**0.5 * b.abs().masked_fill_(gap == 0.0, 0.0).amax(0)
        if rounding is not None:
            noise = as_columns(rounding[place]).where(finite, 0.0) - b
            tolerance = tolerance + noise.abs().amax(0)
        if not bool((gap <= tolerance).all()):
            return "leads to other outputs where its reconstruction is folded"
    return None


def are_equal(one: Tensor, other: Tensor) -> bool:
    """Return whether tensors of one shape have the same numbers, dtype and device."""
    alike = (one.dtype, one.device) == (other.dtype, other.device)
    return alike and torch.equal(one, other)


def as_columns(output: Tensor) -> Tensor:
    """Return an output on the CPU, in float32 or a wider type, shape (n_rows, n_columns)."""
    output = output.detach().to("cpu", torch.promote_types(output.dtype, torch.float32))
    return output.reshape(-1, output.shape[-1]) if output.ndim else output.reshape(1, 1)
