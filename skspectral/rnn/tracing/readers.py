"""The linear maps that read hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..layers.weights import in_float64, reading_of


@dataclass(frozen=True)
class Reader:
    """A linear map that reads states.

    Parameters
    ----------
    path : str
        An ``nn.Linear``, or a layer that reads states by its ``weight_ih``.
    runs : tuple of (str or None, int)
        What its columns read, from the first to the last: all nodes of a layer, by its name, or
        so many other inputs.
    """

    path: str
    runs: tuple[tuple[str | None, int], ...]

    def columns(self, name: str) -> Iterator[slice]:
        """The columns that read a layer."""
        start = 0
        for read, width in self.runs:
            if read == name:
                yield slice(start, start + width)
            start += width


@dataclass(frozen=True)
class Readers:
    """Who reads the hidden states of the layers of a module.

    Parameters
    ----------
    readers : tuple of Reader
        Linear maps that read all nodes of one or more layers, in the order in which they do.
    obstacles : dict of str
        By host: what else happens to its states, in words.
    started : frozenset of str
        Hosts that are given a state to start from.
    cells : frozenset of str
        Hosts whose cell state starts another layer.
    linear_only : dict of str
        By host: what keeps a constant part of its reconstruction from being folded, in words.
    startable : frozenset of str
        Hosts that are called with a state to start from, which was always None.
    kept : dict of str
        Attributes that hold states after ``forward``, and of which host.
    callers : dict of set
        By host: methods of the module that holds it in which it was called.
    idle : dict of tuple
        Sizes of the inputs of parts that did not run, by their paths.
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
        """What reads a layer, float64 on the CPU, each (n_outputs, n_nodes)."""
        for reader in self.readers:
            weight = in_float64(reading_of(module.get_submodule(reader.path))[0])
            for columns in reader.columns(name):
                yield weight[:, columns]
