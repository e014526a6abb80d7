"""Find the methods and lines of a module that call a layer or function."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

PACKAGE, TORCH = (
    str(Path(each).parent) for each in (Path(__file__).parents[1], str(torch.__file__))
)


def methods_calling(module: nn.Module, path: str) -> set[str]:
    """Return the methods, other than ``forward``, that call the layer at a path of a module."""
    outer, _, name = path.rpartition(".")
    owner = module.get_submodule(outer)
    return {
        method
        for method in methods_of(owner)
        if method != "forward" and name in attributes_called(getattr(type(owner), method))
    }


def methods_running(module: nn.Module) -> set[str]:
    """Return the methods of a module, other than ``forward``, that are on the call stack."""
    found, frame = set(), inspect.currentframe()
    while frame is not None:
        if frame.f_locals.get("self") is module:
            found.add(frame.f_code.co_name)
        frame = frame.f_back
    return (found & set(methods_of(module))) - {"forward"}


def methods_of(module: nn.Module) -> Iterator[str]:
    """Yield the methods of a module that are not defined by torch."""
    for kind in type(module).__mro__:
        if kind.__module__.split(".")[0] in ("torch", "builtins"):
            continue
        yield from (name for name, value in vars(kind).items() if inspect.isfunction(value))


def attributes_called(method: Any) -> Iterator[str]:
    """Yield the attributes of ``self`` that a method calls; none if it has no source code."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        function = node.func if isinstance(node, ast.Call) else None
        holder = getattr(function, "value", None)
        if isinstance(function, ast.Attribute) and getattr(holder, "id", "") == "self":
            yield function.attr


def users_line() -> str:
    """Return the place in the user's code from which a torch function is called, in words."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    name = "" if frame is None else frame.f_code.co_filename
    if frame is None or name.startswith(PACKAGE):
        return ""  # a module of torch, such as nn.Sequential, calls it
    text = linecache.getline(name, frame.f_lineno).strip()
    return f" ({Path(name).name}, line {frame.f_lineno}{f': {text}' if text else ''})"
