"""Ctrl-C during a training by skorch, whose ``fit`` returns as if it had ended."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class FitLoop:
    """The ``fit_loop`` of a net, with a note of what interrupted it.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    """

    def __init__(self, net: Any) -> None:
        self.net = net
        self.interrupt: KeyboardInterrupt | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train."""
        try:
            return type(self.net).fit_loop(self.net, *args, **kwargs)
        except KeyboardInterrupt as error:
            if not ends_training(error.__traceback__, self.net):
                self.interrupt = error
            raise


@contextmanager
def interruptible(estimator: Any) -> Iterator[None]:
    """Let a KeyboardInterrupt reach the caller; of what is no net of skorch, it does anyway."""
    if not hasattr(type(estimator), "fit_loop"):
        yield
        return
    loop = FitLoop(estimator)
    vars(estimator)["fit_loop"] = loop  # no setattr, by which skorch registers attributes
    try:
        yield
    finally:
        vars(estimator).pop("fit_loop", None)
        if loop.interrupt is not None:
            raise loop.interrupt


def ends_training(traceback: TracebackType | None, net: Any) -> bool:
    """Whether a callback raised the KeyboardInterrupt itself, which is how it ends a training."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    frame = traceback.tb_frame
    raised = frame.f_code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    owner = frame.f_locals.get("self")
    callbacks = [callback for _, callback in getattr(net, "callbacks_", [])]
    return raised and any(owner is callback for callback in callbacks)
