"""Forward passes that can be repeated on other modules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .kernels import KernelMode, seeded
from .layers.weights import independent_copy
from .outputs import leaves


@dataclass(frozen=True)
class ForwardPass:
    """Arguments and mode of a forward pass.

    Parameters
    ----------
    args, kwargs : tuple and dict
        Arguments of ``forward``.
    training : bool
        Whether the module is in training mode.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    training: bool = False

    def run(
        self, module: nn.Module, mode: KernelMode, paths: Sequence[str], seed: int = 0
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Return the outputs of a module, and those of its parts at some paths.

        A copy is run, so that ``forward`` cannot change attributes of the module.
        """
        module = independent_copy(module).train(self.training)
        parts: dict[str, list[Tensor]] = {path: [] for path in paths}
        with ExitStack() as stack:
            for path, into in parts.items():
                part = module.get_submodule(path)
                hook = part.register_forward_hook(
                    lambda _, __, out, into=into: into.extend(leaves(out))
                )
                stack.enter_context(hook)
            stack.enter_context(seeded(seed))
            stack.enter_context(mode)
            output = list(leaves(module(*self.args, **self.kwargs)))
        return output, parts
