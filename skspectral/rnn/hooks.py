"""Collect what passes through parts of a module while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from torch import nn

Key = TypeVar("Key")
Value = TypeVar("Value")


@contextmanager
def captured(
    parts: Mapping[Key, nn.Module], kept: Callable[[Key, Any, Any], Value]
) -> Iterator[dict[Key, list[Value]]]:
    """Collect a value of every call of some parts of a module.

    Parameters
    ----------
    parts : dict of nn.Module
        The parts.
    kept : callable
        Returns the value to keep, given the key of the part, its first input and its output.

    Yields
    ------
    dict of list
        The values of all calls so far, by the keys of ``parts``.
    """
    found: dict[Key, list[Value]] = {key: [] for key in parts}

    def keep(key: Key, _part: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        found[key].append(kept(key, args[0] if args else kwargs.get("input"), output))

    with ExitStack() as stack:
        for key, part in parts.items():
            hook = part.register_forward_hook(partial(keep, key), with_kwargs=True)
            stack.enter_context(hook)
        yield found
