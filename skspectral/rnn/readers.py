"""Find the linear maps that read a hidden state, by following it through the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

from .layers import RecurrentLayer, in_float64
from .states import StateCollector

# Functions that only move entries about, so that they can be run on node numbers too.
MOVES = frozenset(
    "__getitem__ T alpha_dropout chunk clone contiguous detach data dropout expand flatten "
    "flip float double narrow mT movedim permute repeat reshape select squeeze split swapaxes "
    "take_along_dim to transpose unbind unflatten unsqueeze view index_select type_as".split()
)
JOINS = frozenset("cat concat concatenate stack".split())
# Functions that learn nothing about the entries.
QUERIES = frozenset(
    "__len__ device dim dtype get_device is_contiguous is_cpu is_cuda is_floating_point is_sparse "
    "is_nested layout ndim ndimension nelement numel requires_grad shape size stride".split()
)
NOT_A_NODE = -1


@dataclass(frozen=True)
class Readers:
    """Who reads the hidden state of a layer.

    Parameters
    ----------
    paths : tuple of str
        The ``nn.Linear`` modules that read all nodes in their order.
    obstacle : str or None
        What else happens to the state, in words; None when the readers are all there is.
    """

    paths: tuple[str, ...] = ()
    obstacle: str | None = None

    def weights(self, module: nn.Module) -> Iterator[Tensor]:
        """Weights of the readers, float64 on the CPU, each (n_outputs, n_nodes)."""
        for path in self.paths:
            yield in_float64(cast(nn.Linear, module.get_submodule(path)).weight)


def find_readers(collector: StateCollector, batch: Any) -> Readers:
    """Follow the hidden state through one forward pass.

    Raises
    ------
    ValueError
        If the module reads the cell state of an LSTM, which no linear map rebuilds.
    """
    module, layer = collector.module, collector.layer
    if layer.of(module) is module:
        return Readers()
    args, kwargs = collector.arguments(batch)
    tracker = StateTracker(module, layer)
    hook = layer.of(module).register_forward_hook(tracker.start)
    with torch.no_grad(), hook, tracker:
        tracker.inspect_output(module(*args, **kwargs))
    return tracker.readers()


class StateTracker(TorchFunctionMode):
    """Carries node numbers along with the hidden state through every torch function."""

    def __init__(self, module: nn.Module, layer: RecurrentLayer) -> None:
        super().__init__()
        self._linears = {
            id(part.weight): path
            for path, part in module.named_modules()
            if isinstance(part, nn.Linear) and isinstance(part.weight, nn.Parameter)
        }
        self._layer = layer
        self._rnn = layer.of(module)
        # By id: the tensor (kept alive, so that the id stays its own) and its node numbers.
        self._nodes: dict[int, tuple[Tensor, Tensor]] = {}
        self._cells: dict[int, Tensor] = {}
        self._reading: dict[int, None] = {}
        self._used_elsewhere: set[int] = set()
        self._obstacle: str | None = None

    def start(self, _rnn: nn.Module, _inputs: Any, output: Any) -> None:
        """Take up the states as they leave the layer; a forward hook."""
        states, final = output
        hidden = final[0] if isinstance(final, tuple) else final
        if not isinstance(states, Tensor):
            self._block("goes on as a packed sequence")
            return
        numbers = torch.arange(self._rnn.hidden_size, device=states.device)
        for tensor in (states, hidden):
            same_strides = torch.empty_like(tensor, dtype=torch.long)
            self._nodes[id(tensor)] = tensor, same_strides.copy_(numbers)
        if isinstance(final, tuple):
            self._cells[id(final[1])] = final[1]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        if name in QUERIES:
            return result
        if any(id(tensor) in self._cells for tensor in given):
            raise ValueError(
                f"the cell state of layer {self._layer.name!r} is read by {name}, and only hidden "
                "states can be rebuilt from fewer nodes; give a module that reads h, not c."
            )
        followed = [tensor for tensor in given if id(tensor) in self._nodes]
        if func is F.linear and len(followed) == 1 and followed[0] is given[0]:
            self._read(*given[:2])
            return result
        self._used_elsewhere.update(id(tensor) for tensor in given if id(tensor) in self._linears)
        if followed and name in MOVES | JOINS:
            self._follow(func, args, kwargs, result)
        elif followed:
            self._block(f"is used by {name}")
        return result

    def _follow(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Move the node numbers as the states were moved."""
        if func is F.dropout or func.__name__ == "alpha_dropout":
            numbers = self._nodes[id(args[0])][1]
        else:
            numbers = func(*tree_map(self._numbers_of, args), **tree_map(self._numbers_of, kwargs))
        for tensor, moved in zip(_tensors(result), _tensors(numbers), strict=True):
            self._nodes[id(tensor)] = tensor, moved.long()

    def _numbers_of(self, value: Any) -> Any:
        if id(value) in self._nodes:
            return self._nodes[id(value)][1]
        if isinstance(value, Tensor) and value.is_floating_point():
            return torch.full_like(value, NOT_A_NODE, dtype=torch.long)
        return value

    def _read(self, states: Tensor, weight: Tensor) -> None:
        numbers = self._nodes[id(states)][1]
        every = torch.arange(self._rnn.hidden_size, device=numbers.device)
        if id(weight) not in self._linears:
            self._block("is read by a linear map that is no nn.Linear")
        elif numbers.shape[-1] != len(every) or not (numbers == every).all():
            self._block(f"reaches {self._linears[id(weight)]!r} in another order or in part")
        else:
            self._reading[id(weight)] = None

    def inspect_output(self, output: Any) -> None:
        """Look for states among what the module returns."""
        if any(id(tensor) in self._nodes | self._cells for tensor in _tensors(output)):
            self._block("is returned by forward")

    def _block(self, obstacle: str) -> None:
        self._obstacle = self._obstacle or obstacle

    def readers(self) -> Readers:
        """What was found."""
        for weight in self._reading:
            if weight in self._used_elsewhere:
                self._block(f"shares {self._linears[weight]!r} with another use")
        return Readers(tuple(self._linears[weight] for weight in self._reading), self._obstacle)


def _tensors(tree: Any) -> Iterable[Tensor]:
    return [value for value in tree_iter(tree) if isinstance(value, Tensor)]
