"""Small layers that show states of the old size.

TorchScript compiles their forward passes as well: what they are given and hold is typed, and
choices that it should settle are by constants. ``from __future__ import annotations`` would hide
the types from it.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch._jit_internal import _overload_method as script_overload
from torch._jit_internal import is_scripting
from torch.nn.utils.rnn import PackedSequence

from .posing import Posing
from .weights import mode_of, type_of

# What a layer may be given to start from; of an LSTM, hidden and cell states.
States = Tensor | tuple[Tensor, Tensor] | None

# What else modules read of the layers of torch.
SHOWN = (
    *("mode", "nonlinearity", "input_size", "hidden_size", "proj_size", "num_layers"),
    *("bias", "batch_first", "dropout", "bidirectional"),
)


class RNNWrapper(Posing):
    """Takes the place of a layer, and shows the attributes of the one inside.

    Parameters
    ----------
    rnn : nn.Module
        The layer inside.
    """

    __constants__: ClassVar = ["is_lstm"]
    is_lstm: bool

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn
        self.is_lstm = rnn.is_lstm if isinstance(rnn, RNNWrapper) else mode_of(rnn) == "LSTM"
        for name in SHOWN:
            if hasattr(rnn, name):
                setattr(self, name, getattr(rnn, name))

    def poses_as(self) -> type:
        """Return the class of the layer inside."""
        kind: type = type_of(self.rnn)
        return kind

    def __getattr__(self, name: str) -> Any:
        """What else a module asks of its layer, such as ``flatten_parameters``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
            return getattr(super().__getattr__("rnn"), name)


class KeptNodes(nn.Module):
    """The nodes that a layer keeps.

    Parameters
    ----------
    support : Tensor of int
        The nodes.
    n_nodes : int
        How many there were.
    width : int
        What their states are filled up to with zeros, to stand beside those of wider layers.
    """

    support: Tensor
    places: Tensor

    def __init__(self, support: Tensor, n_nodes: int, width: int) -> None:
        super().__init__()
        self.n_nodes, self.width = n_nodes, width
        # Where each node is found in rebuilt states followed by the kept ones.
        places = torch.arange(n_nodes, device=support.device)
        places[support] = n_nodes + torch.arange(len(support), device=support.device)
        self.register_buffer("support", support)
        self.register_buffer("places", places)

    def forward(self, states: Tensor) -> Tensor:
        """Return the kept ones among states of all nodes; of kept nodes alone, all of them."""
        if states.shape[-1] == self.n_nodes:
            states = states.index_select(-1, self.support)
        if states.shape[-1] < self.width:
            states = nn.functional.pad(states, (0, self.width - states.shape[-1]))
        return states

    def among(self, rebuilt: Tensor, kept: Tensor) -> Tensor:
        """States of all nodes with the kept ones in their places."""
        return torch.cat([rebuilt, kept], -1).index_select(-1, self.places)

    def among_zeros(self, kept: Tensor) -> Tensor:
        """The kept ones in their places, and nothing known of the others."""
        return nn.functional.pad(kept, (self.n_nodes, 0)).index_select(-1, self.places)


class FixedLinear(nn.Module):
    """A linear map that is not trained.

    Parameters
    ----------
    linear : nn.Linear
        The map.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, states: Tensor) -> Tensor:
        """Map states."""
        return nn.functional.linear(states, self.weight, self.bias)


class InitialStateWrapper(RNNWrapper):
    """May be given states of the old size to start from.

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
        self.n_kept = [len(support) for support in supports]
        self.kept = nn.ModuleList(
            KeptNodes(support.to(device), size, max(self.n_kept))
            for support, size in zip(supports, sizes, strict=True)
        )

    def _pair(self, hx: States) -> tuple[Tensor, Tensor] | None:
        """Kept nodes of the hidden and cell states that an LSTM starts from."""
        pair = pair_of(hx)
        if pair is None:
            return None
        return self._kept(pair[0]), self._kept(pair[1])

    def _start(self, hx: States) -> Tensor | None:
        """Kept nodes of the states that another layer starts from."""
        states = one_of(hx)
        return None if states is None else self._kept(states)

    def _kept(self, states: Tensor) -> Tensor:
        if len(self.kept) == 1:
            return self.kept[0](states)
        return torch.stack([keep(states[i]) for i, keep in enumerate(self.kept)])


class InitialStateRNN(InitialStateWrapper):
    """A small layer, or a stack of them, that may start from states of the old size."""

    @overload
    @script_overload
    def forward(self, input: Tensor, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    @overload
    @script_overload
    def forward(self, input: PackedSequence, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the small layer."""
        if self.is_lstm:
            return self.rnn(input, self._pair(hx))
        return self.rnn(input, self._start(hx))


class InitialStateCell(InitialStateWrapper):
    """A small cell that may start from states of the old size."""

    def forward(  # type: ignore[no-untyped-def]
        self,
        input: Tensor,  # noqa: A002  as in torch
        hx: States = None,
    ):
        """Run the small cell for a step."""
        if self.is_lstm:
            return self.rnn(input, self._pair(hx))
        return self.rnn(input, self._start(hx))


class Expanded(InitialStateWrapper):
    """Shows states of the old size.

    Stands where the way from the states to their readers cannot be followed: hidden states are
    rebuilt by a linear map, so the module around it needs no change.

    Parameters
    ----------
    rnn, supports, hidden_size
        As of ``InitialStateWrapper``.
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
        # A module may never read the last states of lower levels, and then could not train their
        # maps. Those of the last level serve outputs and last states alike.
        self.n_lower = len(expand) - 1 - getattr(rnn, "bidirectional", False)
        self.expand, self.expand_cells = (
            nn.ModuleList([*map(FixedLinear, maps[: self.n_lower]), *maps[self.n_lower :]])
            for maps in (expand, cells)
        )

    def _cells(self, cells: list[Tensor]) -> list[Tensor]:
        """Cell states of every layer in the old size.

        Unless another layer starts from them, it is enough to have the kept ones in their places:
        only this layer goes on from them.
        """
        if len(self.expand_cells) == 0:
            kept = enumerate(self.kept)
            return [keep.among_zeros(cells[i]) for i, keep in kept]  # type: ignore[operator]
        return [linear(cells[i]) for i, linear in enumerate(self.expand_cells)]


class ExpandedRNN(Expanded):
    """A small layer, or a stack of them, that shows states of the old size."""

    __constants__: ClassVar = ["is_lstm", "is_even"]
    __jit_unused_properties__: ClassVar = ["expand_output"]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_apart = False
        self.is_even = len(set(self.sizes)) == 1
        self.widths = [linear.in_features for linear in self.expand_output]

    @property
    def expand_output(self) -> nn.ModuleList:
        """The maps of the last level, of each direction."""
        return self.expand[self.n_lower :]

    def set_apart(self) -> None:
        """Let maps change.

        Last states that come out then have the kept nodes as they are, since the layer goes on
        from them.
        """
        self.is_apart = True

    @overload
    @script_overload
    def forward(self, input: Tensor, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    @overload
    @script_overload
    def forward(self, input: PackedSequence, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Run the small layer; states go in and come out in the old size."""
        if self.is_lstm:
            output, (h, c) = self.rnn(input, self._pair(hx))
            final = self._together(self._finals(list(h))), self._together(self._cells(list(c)))
        else:
            output, h = self.rnn(input, self._start(hx))
            final = self._together(self._finals(list(h)))
        if isinstance(output, PackedSequence):
            output = with_data(output, self._rebuilt(output.data))
        else:
            output = self._rebuilt(output)
        return output, final

    def _rebuilt(self, states: Tensor) -> Tensor:
        """States of the last level, of all directions."""
        parts = states.split(self.widths, -1)
        rebuilt: list[Tensor] = []
        for i, linear in enumerate(self.expand):
            if i >= self.n_lower:
                rebuilt.append(linear(parts[i - self.n_lower]))
        return rebuilt[0] if len(rebuilt) == 1 else torch.cat(rebuilt, -1)

    def _finals(self, states: list[Tensor]) -> list[Tensor]:
        """Last hidden states of every layer."""
        rebuilt = [linear(states[i]) for i, linear in enumerate(self.expand)]
        if self.is_apart:
            kept = enumerate(self.kept)
            rebuilt = [
                keep.among(rebuilt[i], states[i])  # type: ignore[operator]
                for i, keep in kept
            ]
        return rebuilt

    def _together(self, states: list[Tensor]):  # type: ignore[no-untyped-def]
        """States of several layers, in one tensor where they have one size."""
        if self.is_even:
            together = torch.stack(states)
        elif is_scripting():
            together = states  # type: ignore[assignment]
        else:
            together = tuple(states)  # type: ignore[assignment]
        return together


class ExpandedCell(Expanded):
    """A small cell that shows states of the old size."""

    def forward(  # type: ignore[no-untyped-def]
        self,
        input: Tensor,  # noqa: A002  as in torch
        hx: States = None,
    ):
        """Run the small cell for a step; states go in and come out in the old size."""
        if self.is_lstm:
            h, c = self.rnn(input, self._pair(hx))
            return self.expand[0](h), self._cells([c])[0]
        return self.expand[0](self.rnn(input, self._start(hx)))


def pair_of(hx: States) -> tuple[Tensor, Tensor] | None:
    """Return what an LSTM starts from: as given, or typed in TorchScript."""
    if not is_scripting():
        return hx  # type: ignore[return-value]
    return hx if isinstance(hx, tuple) else None


def one_of(hx: States) -> Tensor | None:
    """The same of another layer."""
    if not is_scripting():
        return hx  # type: ignore[return-value]
    return hx if isinstance(hx, Tensor) else None


def with_data(like: PackedSequence, data: Tensor) -> PackedSequence:
    """Packed sequences with other numbers."""
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)
