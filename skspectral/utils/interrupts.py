"""Ctrl-C during training with skorch, whose ``fit`` catches it and returns as if finished."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class FitLoop:
    """Replacement of the ``fit_loop`` of a net that remembers a KeyboardInterrupt.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    """

    def __init__(self, net: Any) -> None:
        self.net = net
        self.interrupt: KeyboardInterrupt | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the ``fit_loop`` of the net."""
        try:
            return type(self.net).fit_loop(self.net, *args, **kwargs)
        except KeyboardInterrupt as error:
            if not ends_training(error.__traceback__, self.net):
                self.interrupt = error
            raise


@contextmanager
def interruptible(estimator: Any) -> Iterator[None]:
    """Let a KeyboardInterrupt reach the caller of a skorch net's ``fit``.

    Estimators that are not skorch nets raise it anyway.
    """
    if not hasattr(type(estimator), "fit_loop"):
        yield
        return
    loop = FitLoop(estimator)
    vars(estimator)["fit_loop"] = loop  # skorch's __setattr__ would register an attribute
    try:
        yield
    finally:
        vars(estimator).pop("fit_loop", None)
        if loop.interrupt is not None:
            raise loop.interrupt


def ends_training(traceback: TracebackType | None, net: Any) -> bool:
    """Return whether a callback raised the KeyboardInterrupt, as callbacks do to stop training."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    frame = traceback.tb_frame
    raised = frame.f_code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    owner = frame.f_locals.get("self")
    callbacks = [callback for _, callback in getattr(net, "callbacks_", [])]
    return raised and any(owner is callback for callback in callbacks)
