"""Checks of single parameters."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np


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
