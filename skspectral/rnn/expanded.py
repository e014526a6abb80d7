"""Small layers that show states of the old size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .weights import mode_of


class StandIn(nn.Module):
    """Takes the place of a layer, and shows the attributes of the one inside.

    Parameters
    ----------
    rnn : nn.Module
        The layer inside.
    """

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def __getattr__(self, name: str) -> Any:
        """What else a module asks of its layer, such as ``flatten_parameters``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("rnn"), name)


class StartedRNN(StandIn):
    """A small layer that may be given states of the old size to start from.

    Parameters
    ----------
    rnn : nn.Module
        The small layer, or several in a ``StackedRNN``.
    supports : sequence of Tensor
        The nodes that each keeps.
    sizes : sequence of int
        How many each had.
    hidden_size : int
        What the module in whose place it stands gives as its size.
    """

    def __init__(
        self,
        rnn: nn.Module,
        supports: Sequence[Tensor],
        sizes: Sequence[int],
        hidden_size: int,
    ) -> None:
        super().__init__(rnn)
        self.hidden_size = hidden_size
        self.sizes = tuple(sizes)
        device = next(rnn.parameters()).device
        for i, support in enumerate(supports):
            self.register_buffer(f"support_{i}", support.to(device))

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the small layer."""
        return self.rnn(input, self._start(hx))

    def _start(self, hx: Any) -> Any:
        """Kept nodes of the states to start from."""
        if isinstance(hx, tuple) and mode_of(self.rnn) == "LSTM":
            return tuple(self._kept(states) for states in hx)
        return hx if hx is None else self._kept(hx)

    def _kept(self, states: Any) -> Any:
        if len(self.sizes) == 1:
            return self._kept_of(0, states)
        return together([self._kept_of(i, states[i]) for i in range(len(self.sizes))])

    def _kept_of(self, i: int, states: Tensor) -> Tensor:
        if states.shape[-1] != self.sizes[i]:
            return states
        return states[..., getattr(self, f"support_{i}")]


class Expanded(StartedRNN):
    """Shows states of the old size.

    Stands where the way from the states to their readers cannot be followed: hidden states are
    rebuilt by a linear map, so the module around it needs no change.

    Parameters
    ----------
    rnn, supports, hidden_size
        As of ``StartedRNN``.
    expand : sequence of nn.Linear
        The reconstruction of each layer.
    cells : sequence of nn.Linear
        That of their cell states, if another layer starts from these.
    """

    def __init__(
        self,
        rnn: nn.Module,
        supports: Sequence[Tensor],
        expand: Sequence[nn.Linear],
        cells: Sequence[nn.Linear],
        hidden_size: int,
    ) -> None:
        super().__init__(rnn, supports, [linear.out_features for linear in expand], hidden_size)
        self.expand, self.expand_cells = nn.ModuleList(expand), nn.ModuleList(cells)

    def _cell(self, i: int, cell: Tensor) -> Tensor:
        """Cell states of a layer in the old size.

        Unless another layer starts from them, it is enough to have the kept ones in their places:
        only this layer goes on from them.
        """
        if len(self.expand_cells):
            return self.expand_cells[i](cell)
        wide = cell.new_zeros(*cell.shape[:-1], self.sizes[i])
        wide[..., getattr(self, f"support_{i}")] = cell
        return wide


class ExpandedRNN(Expanded):
    """A small layer, or a stack of them, that shows states of the old size."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        inner: Any = self.rnn
        self._n_directions = 1 + inner.bidirectional
        self.expand_output = nn.ModuleList(self.expand[-self._n_directions :])

    @property
    def is_apart(self) -> bool:
        """Whether the states that are put out are rebuilt otherwise than those to go on from."""
        return self.expand_output[0] is not self.expand[-self._n_directions]

    def set_apart(self) -> None:
        """Rebuild the states that are put out by maps of their own.

        The others have to keep the kept nodes as they are, since the layer goes on from them.
        """
        if not self.is_apart:
            self.expand_output = copy.deepcopy(self.expand_output)

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the small layer; states go in and come out in the old size."""
        output, final = super().forward(input, hx)
        if isinstance(output, PackedSequence):
            output = PackedSequence(self._rebuilt(output.data), *output[1:])
        else:
            output = self._rebuilt(output)
        if isinstance(final, tuple) and mode_of(self.rnn) == "LSTM":
            return output, (self._finals(final[0]), self._all_cells(final[1]))
        return output, self._finals(final)

    def _rebuilt(self, states: Tensor) -> Tensor:
        """States of the last level, of all directions."""
        parts = states.split([linear.in_features for linear in self.expand_output], dim=-1)
        rebuilt = [linear(part) for linear, part in zip(self.expand_output, parts, strict=True)]
        return rebuilt[0] if len(rebuilt) == 1 else torch.cat(rebuilt, dim=-1)

    def _finals(self, states: Any) -> Any:
        if len(self.sizes) == 1:
            return self.expand[0](states)
        return together([self.expand[i](states[i]) for i in range(len(self.sizes))])

    def _all_cells(self, cells: Any) -> Any:
        if len(self.sizes) == 1:
            return self._cell(0, cells)
        return together([self._cell(i, cells[i]) for i in range(len(self.sizes))])


class ExpandedCell(Expanded):
    """A small cell that shows states of the old size."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the small cell for a step; states go in and come out in the old size."""
        output = super().forward(input, hx)
        if not isinstance(output, tuple):
            return self.expand[0](output)
        return self.expand[0](output[0]), self._cell(0, output[1])


def together(states: list[Tensor]) -> Any:
    """States of several layers, in one tensor where they have one size."""
    if len({part.shape[-1] for part in states}) == 1:
        return torch.stack(states)
    return tuple(states)
