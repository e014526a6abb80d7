"""Modules that pass for the layers of torch in whose place they stand."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn


class Posing(nn.Module):
    """Answers ``isinstance`` as a layer of torch would, as ``forward`` of a user may ask it."""

    def poses_as(self) -> type:
        """Return the class to pass for."""
        raise NotImplementedError

    @property  # type: ignore[misc]  # the class is what type() says
    def __class__(self) -> type:
        asking = sys._getframe(1).f_globals.get("__name__", "")
        # By its class TorchScript finds how a module can be called.
        return type(self) if asking.startswith("torch.jit") else self.poses_as()

    def _get_name(self) -> str:
        return type(self).__name__

    def __reduce_ex__(self, _protocol: Any) -> Any:
        # The way of object.__reduce_ex__ takes the class at its word.
        return blank, (type(self),), vars(self)


def blank(kind: Any) -> Any:
    """Return an object of a class, with nothing in it yet."""
    return kind.__new__(kind)
