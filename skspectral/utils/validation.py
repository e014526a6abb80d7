"""Checks of single parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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


def check_training(settings: Any, counts: Iterable[str]) -> None:
    """Raise if a setting of a training is not valid."""
    for name in counts:
        check_count(name, getattr(settings, name))
    for name in ("lr", "validation_fraction"):
        value = getattr(settings, name)
        if not (is_number(value) and 0.0 < value < 1.0):
            raise ValueError(
                f"{name} of {type(settings).__name__} must be a number between 0 and 1; got "
                f"{value!r}."
            )
