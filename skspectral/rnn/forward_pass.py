"""Forward passes that can be repeated on other modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .hooks import captured
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

    def call(self, module: nn.Module) -> Any:
        """Return the output of a module, which may write into its inputs."""
        args, kwargs = tree_map(own_copy, (self.args, self.kwargs))
        return module(*args, **kwargs)

    def run(
        self,
        module: nn.Module,
        mode: KernelMode,
        paths: Sequence[str],
        seed: int = 0,
        again: Again | None = None,
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Return the outputs of a module, and those of its parts at some paths.

        A copy is run, so that ``forward`` cannot change attributes of the module. If ``again`` is
        given, it runs a second time, on the arguments that ``again`` returns for the first output.
        """
        module = independent_copy(module).train(self.training)
        parts = {path: module.get_submodule(path) for path in paths}
        kept = captured(parts, lambda _path, _input, output: list(leaves(output)))
        with kept as found, seeded(seed), mode:
            output = self.call(module)
            outputs = list(leaves(output))
            if again is not None:
                args, kwargs = tree_map(own_copy, again(self, output))
                outputs += leaves(module(*args, **kwargs))
        return outputs, {path: list(chain.from_iterable(calls)) for path, calls in found.items()}


# Returns the arguments of a second call, given a pass and the output of the first.
Again: TypeAlias = Callable[[ForwardPass, Any], tuple[Any, Any]]


def own_copy(value: Any) -> Any:
    """Return a copy of a tensor, and any other value itself."""
    return value.clone() if isinstance(value, Tensor) else value
