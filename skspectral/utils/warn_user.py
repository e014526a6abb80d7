"""Warnings that point at the code that called the package."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

# Files of the package, and of the context managers that decorate its functions.
OURS = str(Path(__file__).parents[1] / "_")[:-1], contextlib.__file__


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, with the line outside the package from which it was called.

    Parameters
    ----------
    message : str
        Text of the warning.
    category : type, default=UserWarning
        Its class.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
