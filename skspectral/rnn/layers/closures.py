"""Closures of a copied module that still refer to the original."""

from __future__ import annotations

from collections.abc import Mapping
from types import CellType, FunctionType, MethodType
from typing import Any


def rebind_closures(attributes: dict[str, Any], memo: Mapping[int, Any]) -> None:
    """Make functions among attributes, such as hooks, refer to copies instead of originals.

    ``copy.deepcopy`` does not copy functions, so a hook of the copy would write into the original.

    Parameters
    ----------
    attributes : dict
        Attributes of a copied module, changed in place, as are functions in its lists and dicts.
    memo : mapping
        Copies, by the ids of the originals.
    """
    for name, value in attributes.items():
        if isinstance(value, dict):
            value.update({key: rebound(each, memo) for key, each in value.items()})
        elif isinstance(value, list):
            value[:] = [rebound(each, memo) for each in value]
        else:
            attributes[name] = rebound(value, memo)


def rebound(value: Any, memo: Mapping[int, Any]) -> Any:
    """Return a function whose closure refers to copies, or the value itself if none is needed."""
    if isinstance(value, MethodType) and id(value.__self__) in memo:
        owner = memo[id(value.__self__)]
        return MethodType(getattr(type(owner), value.__name__, value.__func__), owner)
    if not isinstance(value, FunctionType) or not value.__closure__:
        return value
    if not all(map(is_filled, value.__closure__)):
        return value
    held = [cell.cell_contents for cell in value.__closure__]
    # A function that calls itself holds itself.
    copies = [each if each is value else memo.get(id(each), rebound(each, memo)) for each in held]
    if all(one is other for one, other in zip(held, copies, strict=True)):
        return value
    cells = tuple(CellType(each) for each in copies)
    function = FunctionType(
        value.__code__, value.__globals__, value.__name__, value.__defaults__, cells
    )
    function.__kwdefaults__ = value.__kwdefaults__
    function.__dict__.update(value.__dict__)
    return function


def is_filled(cell: CellType) -> bool:
    """Return whether a closure cell has contents yet."""
    try:
        cell.cell_contents  # noqa: B018  raises where it does not
    except ValueError:
        return False
    return True
