"""Find who reads hidden states, by following these through the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

from .layers import RecurrentLayer
from .readers import Reader, Readers

# Functions that only move entries about, so that they can be run on node numbers too.
MOVES = frozenset(
    "__getitem__ T alpha_dropout chunk clone contiguous detach data dropout expand flatten "
    "flip float double narrow mT movedim permute repeat reshape select squeeze split swapaxes "
    "take_along_dim to transpose unbind unflatten unsqueeze view index_select type_as".split()
)
JOINS = frozenset("cat concat concatenate stack".split())
# Functions that move the rows of packed sequences.
PACKING = frozenset(("_pack_padded_sequence", "_pad_packed_sequence"))
# Functions that learn nothing about the entries.
QUERIES = frozenset(
    "__len__ device dim dtype get_device is_contiguous is_cpu is_cuda is_floating_point is_sparse "
    "is_nested layout ndim ndimension nelement numel requires_grad shape size stride".split()
)
OTHER = -1  # an entry that is no node


def find_readers(
    module: nn.Module, layers: Iterable[RecurrentLayer], args: Any, kwargs: Any
) -> Readers:
    """Follow the hidden states through one forward pass.

    Raises
    ------
    ValueError
        If the module reads the cell state of an LSTM, which no linear map rebuilds.
    """
    tracker = StateTracker(module, tuple(layers))
    try:
        with torch.no_grad(), tracker:
            tracker.inspect_output(module(*args, **kwargs))
    finally:
        tracker.remove_hooks()
    return tracker.readers()


class StateTracker(TorchFunctionMode):
    """Carries node numbers along with the hidden states through every torch function."""

    def __init__(self, module: nn.Module, layers: tuple[RecurrentLayer, ...]) -> None:
        super().__init__()
        self._linears = {
            id(part.weight): path
            for path, part in module.named_modules()
            if isinstance(part, nn.Linear) and isinstance(part.weight, nn.Parameter)
        }
        self._layers = layers
        sizes = [layer.of(module).hidden_size for layer in layers]
        self._owners = [i for i, size in enumerate(sizes) for _ in range(size)]
        self._first = dict(zip((layer.name for layer in layers), running(sizes), strict=True))
        # By id: the tensor (kept alive, so that the id stays its own) and its node numbers.
        self._nodes: dict[int, tuple[Tensor, Tensor]] = {}
        self._cells: dict[int, tuple[Tensor, set[str]]] = {}
        self._reading: dict[str, set[tuple[tuple[str | None, int], ...]]] = {}
        self._used_elsewhere: set[int] = set()
        self._obstacles: dict[str, str] = {}
        self._started: set[str] = set()
        self._cell_starts: set[str] = set()
        self._paused = 0
        self._hooks = [hook for layer in layers for hook in self._watch(layer, layer.of(module))]

    def _watch(self, layer: RecurrentLayer, part: nn.Module) -> Iterator[Any]:
        def before(_part: nn.Module, args: Any, kwargs: Any) -> None:
            self._paused += 1
            self._enter(layer, *args, **kwargs)

        def after(_part: nn.Module, _args: Any, output: Any) -> None:
            self._leave(layer, part, output)
            self._paused -= 1

        yield part.register_forward_pre_hook(before, with_kwargs=True)
        yield part.register_forward_hook(after)

    def remove_hooks(self) -> None:
        """Leave the module as it was."""
        for hook in self._hooks:
            hook.remove()

    def _enter(self, layer: RecurrentLayer, input: Any, hx: Any = None) -> None:  # noqa: A002
        """Look at what a layer is given."""
        states = _tensors(input)[0]
        if id(states) in self._nodes:
            self._read(layer.path, self._nodes[id(states)][1])
        else:
            self._reading.setdefault(layer.path, set()).add(((None, states.shape[-1]),))
        if hx is not None:
            self._started.add(layer.host)
        for start in _tensors(hx):
            if id(start) in self._nodes:
                others = self._hosts(self._nodes[id(start)][1]) - {layer.host}
                self._block(others, "starts another layer")
            elif id(start) in self._cells:
                others = self._cells[id(start)][1] - {layer.host}
                self._block(others, "starts another layer")
                self._cell_starts |= others

    def _leave(self, layer: RecurrentLayer, part: nn.Module, output: Any) -> None:
        """Take up the states as they leave a layer."""
        if isinstance(part, nn.RNNCellBase):
            hidden, cell = output if isinstance(output, tuple) else (output, None)
            states = hidden
        else:
            states, final = output
            hidden, cell = final if isinstance(final, tuple) else (final, None)
        first = self._first[layer.name]
        for tensor in {id(each): each for each in (*_tensors(states)[:1], hidden)}.values():
            numbers = torch.arange(first, first + tensor.shape[-1], device=tensor.device)
            same_strides = torch.empty_like(tensor, dtype=torch.long)
            self._nodes[id(tensor)] = tensor, same_strides.copy_(numbers)
        if cell is not None:
            self._cells[id(cell)] = cell, {layer.host}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._paused:
            return result
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        if name in QUERIES:
            return result
        self._follow_cells(name, given, result)
        followed = [tensor for tensor in given if id(tensor) in self._nodes]
        if func is F.linear and len(followed) == 1 and followed[0] is given[0]:
            self._read_by_linear(*given[:2])
            return result
        self._used_elsewhere.update(id(tensor) for tensor in given if id(tensor) in self._linears)
        if followed and name in PACKING:
            self._follow_rows(followed[0], result)
        elif followed and name in MOVES | JOINS:
            self._follow(func, args, kwargs, result)
        elif followed and name == "mean" and self._follow_mean(result, *args, **kwargs):
            return result
        elif followed:
            for tensor in followed:
                self._block(self._hosts(self._nodes[id(tensor)][1]), f"is used by {name}")
        return result

    def _follow_cells(self, name: str, given: list[Tensor], result: Any) -> None:
        """Keep cell states apart, which may be moved and handed on, but not read."""
        hosts = {host for tensor in given for host in self._cells.get(id(tensor), ((), ()))[1]}
        if hosts and name not in MOVES | JOINS:
            names = [layer.name for layer in self._layers if layer.host in hosts]
            raise ValueError(
                f"the cell state of layer {names[0]!r} is read by {name}, and only hidden states "
                "can be rebuilt from fewer nodes; give a module that reads h, not c."
            )
        if hosts:
            self._cells.update((id(tensor), (tensor, hosts)) for tensor in _tensors(result))

    def _follow(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Move the node numbers as the states were moved."""
        if func is F.dropout or func.__name__ == "alpha_dropout":
            numbers = self._nodes[id(args[0])][1]
        else:
            numbers = func(*tree_map(self._numbers_of, args), **tree_map(self._numbers_of, kwargs))
        for tensor, moved in zip(_tensors(result), _tensors(numbers), strict=True):
            self._nodes[id(tensor)] = tensor, moved.long()

    def _follow_mean(
        self,
        result: Tensor,
        input: Tensor,  # noqa: A002  as in torch
        dim: Any = None,
        keepdim: bool = False,
        **_options: Any,
    ) -> bool:
        """Follow a mean over states of the same nodes, such as over steps; tell whether it is one.

        It is rebuilt as the states are, also where the reconstruction has a constant part.
        """
        numbers = self._nodes[id(input)][1]
        least, most = (func(numbers, dim, keepdim) for func in (torch.amin, torch.amax))
        if dim is None or not least.equal(most):
            return False
        self._nodes[id(result)] = result, least
        return True

    def _follow_rows(self, states: Tensor, result: Any) -> None:
        """Give the rows of packed or padded states the numbers that all rows had."""
        numbers = self._nodes[id(states)][1]
        row = numbers.reshape(-1, numbers.shape[-1])[0]
        moved = _tensors(result)[0]
        if (numbers == row).all():
            self._nodes[id(moved)] = moved, row.expand(moved.shape)
        else:
            self._block(self._hosts(numbers), "is packed in another order")

    def _numbers_of(self, value: Any) -> Any:
        if id(value) in self._nodes:
            return self._nodes[id(value)][1]
        if isinstance(value, Tensor) and value.is_floating_point():
            return torch.full_like(value, OTHER, dtype=torch.long)
        return value

    def _read_by_linear(self, states: Tensor, weight: Tensor) -> None:
        numbers = self._nodes[id(states)][1]
        if id(weight) in self._linears:
            self._read(self._linears[id(weight)], numbers)
        else:
            self._block(self._hosts(numbers), "is read by a linear map that is no nn.Linear")

    def _read(self, path: str, numbers: Tensor) -> None:
        """Note who reads what, if every row reads all nodes of some layers in their order."""
        rows = numbers.reshape(-1, numbers.shape[-1])
        runs = self._runs(rows[0].tolist()) if len(rows) and (rows == rows[0]).all() else None
        if runs is None:
            self._block(self._hosts(numbers), f"reaches {path!r} in another order or in part")
        else:
            self._reading.setdefault(path, set()).add(runs)

    def _runs(self, numbers: list[int]) -> tuple[tuple[str | None, int], ...] | None:
        """Parts of a row: all nodes of a layer each, or other inputs."""
        runs: list[tuple[str | None, int]] = []
        place = 0
        while place < len(numbers):
            if numbers[place] == OTHER:
                width = len(list(next(groupby(numbers[place:]))[1]))
                runs.append((None, width))
            else:
                owner = self._owners[numbers[place]]
                width = self._owners.count(owner)
                first = self._first[self._layers[owner].name]
                if numbers[place : place + width] != list(range(first, first + width)):
                    return None
                runs.append((self._layers[owner].name, width))
            place += width
        return tuple(runs)

    def _hosts(self, numbers: Tensor) -> set[str]:
        """Hosts of the layers whose nodes are among the numbers."""
        found = (numbers.flatten() - OTHER).bincount().nonzero().flatten() + OTHER
        return {self._layers[self._owners[node]].host for node in found.tolist() if node != OTHER}

    def inspect_output(self, output: Any) -> None:
        """Look for states among what the module returns."""
        for tensor in _tensors(output):
            if id(tensor) in self._nodes:
                self._block(self._hosts(self._nodes[id(tensor)][1]), "is returned by forward")
            elif id(tensor) in self._cells:
                self._block(self._cells[id(tensor)][1], "is returned by forward")

    def _block(self, hosts: Iterable[str], obstacle: str) -> None:
        for host in hosts:
            self._obstacles.setdefault(host, obstacle)

    def readers(self) -> Readers:
        """What was found."""
        hosts = {layer.name: layer.host for layer in self._layers}
        paths = {path: weight for weight, path in self._linears.items()}
        for path, readings in self._reading.items():
            read = {hosts[name] for runs in readings for name, _ in runs if name is not None}
            if len(readings) > 1:
                self._block(read, f"reaches {path!r} beside other inputs at different times")
            elif paths.get(path) in self._used_elsewhere:
                self._block(read, f"shares {path!r} with another use")
        found = (
            Reader(path, *readings)
            for path, readings in self._reading.items()
            if len(readings) == 1 and any(name for runs in readings for name, _ in runs)
        )
        return Readers(
            tuple(found),
            self._obstacles,
            frozenset(self._started),
            frozenset(self._cell_starts),
        )


def running(sizes: list[int]) -> list[int]:
    """Where each of some consecutive ranges begins."""
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _tensors(tree: Any) -> list[Tensor]:
    return [value for value in tree_iter(tree) if isinstance(value, Tensor)]
