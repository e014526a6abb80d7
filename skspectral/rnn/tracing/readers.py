"""Linear maps that read hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..layers.weights import in_float64, reading_of


@dataclass(frozen=True)
class Reader:
    """Linear map that reads hidden states.

    Parameters
    ----------
    path : str
        Path of an ``nn.Linear``, or of a layer that reads states with its ``weight_ih``.
    runs : tuple of (str or None, int)
        Consecutive blocks of its columns: the name of the layer whose nodes a block reads, or None
        for other inputs, and the number of columns.
    """

    path: str
    runs: tuple[tuple[str | None, int], ...]

    def columns(self, name: str) -> Iterator[slice]:
        """Yield the columns that read a layer."""
        start = 0
        for read, width in self.runs:
            if read == name:
                yield slice(start, start + width)
            start += width


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

    def weights(self, module: nn.Module, name: str) -> Iterator[Tensor]:
        """Yield the weights that read a layer, float64 on the CPU, each (n_outputs, n_nodes)."""
        for reader in self.readers:
            weight = in_float64(reading_of(module.get_submodule(reader.path))[0])
            for columns in reader.columns(name):
                yield weight[:, columns]
