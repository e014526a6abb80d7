"""Checks of single parameters."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch


def is_number(value: Any, kind: type = Real) -> bool:
    """Return whether a value is a number but not a bool, which Python counts among the ints."""
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise if a value is not among the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}; got {value!r}.")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise if a value is not an int of at least ``least``."""
    if not is_number(value, Integral):
        raise TypeError(f"{name} must be an int of at least {least}; got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be an int of at least {least}; got {value!r}.")


def check_device(device: Any) -> None:
    """Raise if torch cannot use a device; None is allowed."""
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    # Builds of torch without a backend raise AssertionError or NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"device must be one that torch can use on this machine, such as 'cpu'; got "
            f"{device!r} ({reason})."
        ) from error


def name_of_kind(value: Any) -> str:
    """Return in words what kind of object a value is, for error messages."""
    if isinstance(value, type):
        return f"the class {value.__name__} in place of an instance"
    return type(value).__name__
