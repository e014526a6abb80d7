"""Numbers of the nodes in tensors of hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor

from .readers import Runs

OTHER = -1  # number of an entry that is no node
PAD = -2  # number of a zero that pads the states


class Block(NamedTuple):
    """Consecutive numbers: the nodes of a layer, its cell state, or sums of several layers' nodes.

    Parameters
    ----------
    name : str
        Name of the layer or of the tie.
    layers : tuple of int
        Indices of the layers.
    first, size : int
        First number, and how many there are.
    is_cell : bool
        Whether the numbers are those of a cell state.
    """

    name: str
    layers: tuple[int, ...]
    first: int
    size: int
    is_cell: bool = False


@dataclass(frozen=True)
class Followed:
    """Tensor of hidden or cell states that is being traced.

    Parameters
    ----------
    tensor : Tensor
        The tensor; a reference keeps its id from being reused.
    numbers : Tensor of int
        Node number of every entry.
    linear_only : str
        Reason, in words, why the constant part of a reconstruction cannot be folded into its
        reader; empty if it can.
    scale, shift : Tensor or None
        Factor and summand, by node number, by which the tensor differs from the states.
    is_last : bool
        Whether it is the last state of a layer, perhaps rearranged.
    """

    tensor: Tensor
    numbers: Tensor
    linear_only: str = ""
    scale: Tensor | None = None
    shift: Tensor | None = None
    is_last: bool = False


class Nodes:
    """Registry of the blocks of node numbers."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._rows: dict[int, tuple[Tensor, int | None, list[int] | None]] = {}
        self._owners = torch.empty(0, dtype=torch.long)

    def add(self, name: str, layers: tuple[int, ...], size: int, is_cell: bool = False) -> Block:
        """Add a block, or return the one of the same name."""
        for block in self.blocks:
            if (block.name, block.is_cell) == (name, is_cell):
                return block
        block = Block(name, layers, len(self._owners), size, is_cell)
        self._owners = torch.cat([self._owners, torch.full((size,), len(self.blocks))])
        self.blocks.append(block)
        return block

    def __len__(self) -> int:
        return len(self._owners)

    def blocks_in(self, numbers: Tensor) -> list[Block]:
        """Return the blocks that have a number among the given ones."""
        counts = (numbers.flatten() - PAD).bincount(minlength=len(self) - PAD)[-PAD:]
        return [
            block for block in self.blocks if counts[block.first : block.first + block.size].any()
        ]

    @property
    def local(self) -> Tensor:
        """Place of every number in its block."""
        return torch.cat([torch.arange(block.size) for block in self.blocks])

    def forget(self) -> None:
        """Forget what is known of tensors of numbers."""
        self._rows.clear()

    def axis_and_row(self, numbers: Tensor) -> tuple[int | None, list[int] | None]:
        """Return the axis of the nodes and the numbers along it, if all rows but padding are alike.

        The result is kept, together with the tensor so that its id is not reused.
        """
        if id(numbers) not in self._rows:
            axis = node_axis(numbers)
            row = None if axis is None else row_along(numbers, axis)
            self._rows[id(numbers)] = numbers, axis, row
        return self._rows[id(numbers)][1:]

    def runs(self, numbers: list[int]) -> Runs | None:
        """Return the blocks of a row of numbers; None if one is not whole and in order."""
        runs: list[tuple[str | None, int]] = []
        place = 0
        while place < len(numbers):
            if numbers[place] < 0:
                width = len(list(takewhile(lambda number: number < 0, numbers[place:])))
                runs.append((None, width))
            else:
                block = self.blocks[int(self._owners[numbers[place]])]
                width = block.size
                whole = list(range(block.first, block.first + width))
                if numbers[place : place + width] != whole or block.is_cell:
                    return None
                runs.append((block.name, width))
            place += width
        return tuple(runs)


def row_along(numbers: Tensor, axis: int) -> list[int] | None:
    """Return the numbers along an axis, apart from padding, if they are alike everywhere."""
    rows = numbers.movedim(axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    rows = rows[~(rows == PAD).all(1)]
    return rows[0].tolist() if len(rows) and bool((rows == rows[0]).all()) else None


def without_padding(numbers: Tensor) -> Tensor:
    """Return numbers in which padding has the numbers of the entries beside it."""
    for axis in range(numbers.ndim):
        least = numbers.masked_fill(numbers == PAD, torch.iinfo(numbers.dtype).max)
        least, most = least.amin(axis, keepdim=True), numbers.amax(axis, keepdim=True)
        if bool((least >= most).all()):
            numbers = most.expand_as(numbers)
    return numbers


def node_axis(numbers: Tensor) -> int | None:
    """Return the only axis along which the numbers vary, apart from padding; None if several do.

    It is counted from the last, which is the axis of a layer of one node.
    """
    most, least = numbers, numbers.masked_fill(numbers == PAD, torch.iinfo(numbers.dtype).max)
    axes = (
        [
            axis
            for axis in range(-numbers.ndim, 0)
            if bool((least.amin(axis) < most.amax(axis)).any())
        ]
        if numbers.numel()
        else []
    )
    return -1 if not axes else axes[0] if len(axes) == 1 else None


def grown(vector: Tensor | None, n_nodes: int, filling: float) -> Tensor:
    """Return a vector with an entry for each node number, also of those added since."""
    own = torch.empty(0, dtype=torch.float64) if vector is None else vector
    return torch.cat([own, torch.full((n_nodes - len(own),), filling, dtype=torch.float64)])


def columns(vector: Tensor | None, row: list[int], filling: float) -> tuple[float, ...] | None:
    """Return the entries of a row of numbers; those of no node are not used."""
    if vector is None:
        return None
    places = torch.tensor(row).clamp(min=0)
    return tuple(grown(vector, max(len(vector), int(places.max()) + 1), filling)[places].tolist())
