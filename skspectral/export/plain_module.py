"""Modules that take and return plain tensors, as an ONNX graph does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_unflatten

from ..rnn.layers.weights import copy_of
from ..rnn.outputs import tensors

Inputs = dict[str, Tensor]


class PlainModule(nn.Module):
    """Copy of a module, on the CPU and in evaluation mode, that takes and returns plain tensors.

    Parameters
    ----------
    module : nn.Module
        The module.
    example : Tensor, tuple or dict
        What its ``forward`` takes. Values that are not tensors become constants.
    """

    def __init__(self, module: nn.Module, example: Any) -> None:
        super().__init__()
        self.module = copy_of(module).cpu().eval()
        self.signature = inspect.signature(module.forward)
        found, self.spec = tree_flatten_with_path(given_by_name(self.signature, example))
        # The path ['hx'][0] gives the name hx_0.
        self.names = ["_".join(re.findall(r"\w+", keystr(path))) for path, _ in found]
        self.leaves = [
            leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf for _, leaf in found
        ]

    @property
    def example(self) -> Inputs:
        """Copies of the tensors in the example, by name."""
        named = zip(self.names, self.leaves, strict=True)
        return {name: leaf.clone() for name, leaf in named if isinstance(leaf, Tensor)}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the module on tensors in the place of those in the example."""
        rest = iter(inputs)
        leaves = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        given = inspect.BoundArguments(self.signature, tree_unflatten(leaves, self.spec))
        return tuple(tensors(self.module(*given.args, **given.kwargs)))

    @torch.no_grad()
    def run(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return the outputs for inputs by name."""
        outputs: tuple[Tensor, ...] = self(*(each.clone() for each in inputs.values()))
        return outputs


def given_by_name(signature: inspect.Signature, example: Any) -> Any:
    """Return the arguments that an example gives, by the names of the parameters."""
    if not isinstance(example, (Tensor, tuple, Mapping)):
        raise TypeError(
            "example must be a tensor, a tuple of positional inputs or a dict of inputs by name; "
            f"got {type(example).__name__}."
        )
    args = (example,) if isinstance(example, Tensor) else example
    try:
        bound = signature.bind(**args) if isinstance(args, Mapping) else signature.bind(*args)
    except TypeError as error:
        raise TypeError(
            f"example must be what forward{signature} takes; got inputs that do not fit: {error}."
        ) from error
    return bound.arguments
