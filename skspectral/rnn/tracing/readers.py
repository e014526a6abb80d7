"""Linear maps that read hidden states, and other uses of these states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.weights import in_float64, reading_of

# Consecutive blocks of an axis: the name of the layer whose nodes a block holds, or None for other
# entries, and the number of entries.
Runs = tuple[tuple[str | None, int], ...]


@dataclass(frozen=True)
class Reader:
    """Linear map that reads hidden states.

    Parameters
    ----------
    path : str
        Path of an ``nn.Linear``, of a layer that reads states with its ``weight_ih``, or of the
        module that holds another weight.
    runs : tuple of (str or None, int)
        Consecutive blocks of its columns: the name of the layer or of the tie whose nodes a block
        reads, or None for other inputs, and the number of columns.
    weight : str or None
        Name of a weight that is applied in any other way than by an ``nn.Linear`` or a layer, such
        as that of a convolution, or a parameter in a matrix product.
    axis : int
        Axis of this weight along which it reads the nodes.
    scale, shift : tuple of float or None
        Factor and summand that every column's node gets before it is read, as by batch
        normalization; None if it gets none.
    """

    path: str
    runs: Runs
    weight: str | None = None
    axis: int = 1
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None

    def columns(self, name: str) -> Iterator[slice]:
        """Yield the columns that read a layer."""
        return columns_of(self.runs, name)

    def matrix(self, module: nn.Module) -> Tensor:
        """Return the weight that reads unscaled nodes, float64 on the CPU, (n_rows, n_columns)."""
        part = module.get_submodule(self.path)
        weight = reading_of(part)[0] if self.weight is None else getattr(part, self.weight)
        matrix = in_float64(weight).movedim(self.axis, -1)
        matrix = matrix.reshape(-1, matrix.shape[-1])
        if self.scale is None:
            return matrix
        return matrix * torch.tensor(self.scale, dtype=torch.float64)


@dataclass(frozen=True)
class NodeParameter:
    """Parameter or buffer with one entry for each node, such as a weight of batch normalization.

    Parameters
    ----------
    path : str
        Path of the parameter or buffer.
    runs : tuple of (str or None, int)
        Blocks of its entries, as in ``Reader``.
    axis : int
        Axis of the entries.
    """

    path: str
    runs: Runs
    axis: int = 0


@dataclass(frozen=True)
class ReturnedState:
    """Hidden or cell state among the outputs of a forward pass, or in a buffer.

    Parameters
    ----------
    layers : Tensor of int
        Index of the layer of every entry; -1 for entries of none.
    nodes : Tensor of int
        Node of every entry.
    """

    layers: Tensor
    nodes: Tensor

    def kept(self, supports: Mapping[int, Tensor]) -> Tensor:
        """Return which entries remain, given the kept nodes by the index of the layer."""
        kept = ~torch.isin(self.layers, torch.tensor([*supports]))
        for i, support in supports.items():
            kept |= (self.layers == i) & torch.isin(self.nodes, support)
        return kept

    @property
    def levels(self) -> list[ReturnedState]:
        """States of each level and direction."""
        return [*map(ReturnedState, self.layers, self.nodes)]


@dataclass(frozen=True)
class Readers:
    """Readers of the hidden states of a module's layers, and other uses of these states.

    Parameters
    ----------
    readers : tuple of Reader
        Linear maps that read all nodes of one or more layers, in the order in which they first run.
    not_foldable : dict of str
        Reason, in words, why the reconstruction cannot be folded, by host.
    started : frozenset of str
        Hosts that are called with an initial state.
    cells : frozenset of str
        Hosts whose cell state is the initial state of another layer or leaves the module.
    linear_only : dict of str
        Reason, in words, why the constant part of the reconstruction cannot be folded, by host.
    startable : frozenset of str
        Hosts that are called with an initial state that is always None.
    kept : dict of str
        Host of the states that an attribute holds after ``forward``, by the attribute's path.
    callers : dict of set
        Methods other than ``forward`` that call a host, by host.
    idle : dict of tuple
        Sizes of the inputs of parts that did not run, by path.
    node_parameters : tuple of NodeParameter
        Parameters and buffers with one entry for each node.
    ties : dict of tuple
        Names of the layers whose states are added up node by node, by the name of the tie.
    returned : tuple of dict
        For each forward pass, the last states among its outputs, by the position of the output.
    last_unread : frozenset of str
        Hosts whose last states are returned, kept or passed on, but read by nothing else.
    buffers : dict of ReturnedState
        States in buffers, by the path of the buffer.
    """

    readers: tuple[Reader, ...] = ()
    not_foldable: dict[str, str] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    linear_only: dict[str, str] = field(default_factory=dict)
    startable: frozenset[str] = frozenset()
    kept: dict[str, str] = field(default_factory=dict)
    callers: dict[str, set[str]] = field(default_factory=dict)
    idle: dict[str, tuple[int, ...]] = field(default_factory=dict)
    node_parameters: tuple[NodeParameter, ...] = ()
    ties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    returned: tuple[dict[int, ReturnedState], ...] = field(default=(), compare=False)
    last_unread: frozenset[str] = frozenset()
    buffers: dict[str, ReturnedState] = field(default_factory=dict, compare=False)

    def weights(self, module: nn.Module, name: str) -> Iterator[Tensor]:
        """Yield the weights that read a layer, float64 on the CPU, each (n_outputs, n_nodes)."""
        names = [name, *(tie for tie, members in self.ties.items() if name in members)]
        for reader in self.readers:
            if any(read in names for read, _ in reader.runs):
                matrix = reader.matrix(module)
                for each in names:
                    for columns in reader.columns(each):
                        yield matrix[:, columns]

    @property
    def called(self) -> tuple[Reader, ...]:
        """Readers that are linear maps or layers, which are called as modules."""
        return tuple(reader for reader in self.readers if reader.weight is None)

    def by_name(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return values of layers by the names of layers and of ties, which take the first's."""
        return {**values, **{tie: values[members[0]] for tie, members in self.ties.items()}}


def columns_of(runs: Runs, name: str) -> Iterator[slice]:
    """Yield the blocks of a layer."""
    start = 0
    for read, width in runs:
        if read == name:
            yield slice(start, start + width)
        start += width
