"""Functions of a copied module that hold on to what was copied."""

from __future__ import annotations

from collections.abc import Mapping
from types import CellType, FunctionType, MethodType
from typing import Any


def rebind_closures(attributes: dict[str, Any], memo: Mapping[int, Any]) -> None:
    """Let functions among attributes, such as hooks, hold the copies of what they held.

    Copying leaves functions as they are: a hook of the copy would go on writing into the original.

    Parameters
    ----------
    attributes : dict
        Attributes of a copied module, and the functions in their lists and dicts; changed in place.
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
    """Return a function whose closure holds copies; what holds nothing that was copied, as is."""
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
    """Return whether a cell holds anything yet."""
    try:
        cell.cell_contents  # noqa: B018  raises where it does not
    except ValueError:
        return False
    return True
