"""Attributes of modules that hold sizes, and the sizes of hidden states among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn


def sizes_in(part: nn.Module) -> dict[str, int]:
    """Return the int attributes of a module, its class, and configurations that it holds, by name.

    That of an attribute of a configuration is, for example, ``config.hidden_size``.
    """
    found = ints_of(part)
    for name, value in vars(part).items():
        if hasattr(value, "__dict__") and not isinstance(value, (nn.Module, Tensor, type)):
            found |= {f"{name}.{inner}": size for inner, size in ints_of(value).items()}
    return found


def ints_of(holder: Any) -> dict[str, int]:
    """Return the int attributes of an object and its class, but private ones."""
    every = {**vars(type(holder)), **vars(holder)}
    return {
        name: value
        for name, value in every.items()
        if type(value) is int and not name.startswith("_")
    }


def set_sizes(part: nn.Module, names: Iterable[str], sizes: Mapping[int, int]) -> None:
    """Change attributes of a module with the given names, where their size has changed."""
    for name in names:
        size = sizes_in(part).get(name)
        if size is not None and size in sizes:
            set_size(part, name, sizes[size])


def set_size(part: nn.Module, name: str, size: int) -> None:
    """Set an attribute that ``sizes_in`` has found."""
    outer, _, inner = name.rpartition(".")
    setattr(getattr(part, outer) if outer else part, inner, size)
