"""Wrappers of small layers that accept or return states of the old size.

TorchScript must be able to compile them: arguments and attributes are typed, and branches that it
should resolve depend on constants. ``from __future__ import annotations`` would hide the types.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch._jit_internal import _overload_method as script_overload
from torch._jit_internal import is_scripting
from torch.nn.utils.rnn import PackedSequence

from .kinds import mode_of, type_of
from .posing import Posing

# Initial states of a layer: the hidden state, or the hidden and cell states of an LSTM.
States = Tensor | tuple[Tensor, Tensor] | None

# Attributes of torch layers that the surrounding module may read.
SHOWN = (
    *("mode", "nonlinearity", "input_size", "hidden_size", "proj_size", "num_layers"),
    *("bias", "batch_first", "dropout", "bidirectional"),
)


class RNNWrapper(Posing):
    """Base of wrappers that replace a layer and have the attributes of the one inside.

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
        """Return an attribute of the layer inside, such as ``flatten_parameters``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
            return getattr(super().__getattr__("rnn"), name)


class KeptNodes(nn.Module):
    """Selection of the nodes that a layer keeps.

    Parameters
    ----------
    support : Tensor of int
        Indices of the kept nodes.
    n_nodes : int
        Number of nodes before.
    width : int
        Size to which their states are padded with zeros, so that they stack with wider layers.
    """

    support: Tensor
    places: Tensor

    def __init__(self, support: Tensor, n_nodes: int, width: int) -> None:
        super().__init__()
        self.n_nodes, self.width = n_nodes, width
        # Index of each node in the concatenation of rebuilt and kept states.
        places = torch.arange(n_nodes, device=support.device)
        places[support] = n_nodes + torch.arange(len(support), device=support.device)
        self.register_buffer("support", support)
        self.register_buffer("places", places)

    def forward(self, states: Tensor) -> Tensor:
        """Return the kept nodes' states, padded; states of kept nodes only are accepted too."""
        size = states.shape[-1]
        if size == self.n_nodes:
            states = states.index_select(-1, self.support)
        elif size != len(self.support) and size != self.width:
            raise ValueError(
                f"initial states must have {self.n_nodes} nodes, or the {len(self.support)} that "
                f"are kept; got {size}."
            )
        if states.shape[-1] < self.width:
            states = nn.functional.pad(states, (0, self.width - states.shape[-1]))
        return states

    def among(self, rebuilt: Tensor, kept: Tensor) -> Tensor:
        """Return rebuilt states of all nodes in which the kept nodes are exact."""
        return torch.cat([rebuilt, kept], -1).index_select(-1, self.places)

    def among_zeros(self, kept: Tensor) -> Tensor:
        """Return states of all nodes in which the lost nodes are zero."""
        return nn.functional.pad(kept, (self.n_nodes, 0)).index_select(-1, self.places)


class FixedLinear(nn.Module):
    """Linear map that is not trained.

    Parameters
    ----------
    linear : nn.Linear
        The map to copy.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, states: Tensor) -> Tensor:
        """Return the map of states."""
        return nn.functional.linear(states, self.weight, self.bias)


class InitialStateWrapper(RNNWrapper):
    """Base of wrappers that accept initial states of the old size.

    Parameters
    ----------
    rnn : nn.Module
        The small layer, or several in a ``StackedRNN``.
    supports : sequence of Tensor
        Indices of the nodes that each layer keeps.
    sizes : sequence of int
        Number of nodes that each layer had.
    hidden_size : int
        ``hidden_size`` of the replaced module.
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
        """Return the kept nodes of the initial hidden and cell states of an LSTM."""
        pair = pair_of(hx)
        if pair is None:
            return None
        return self._kept(pair[0]), self._kept(pair[1])

    def _start(self, hx: States) -> Tensor | None:
        """Return the kept nodes of the initial states of an RNN or GRU."""
        states = one_of(hx)
        return None if states is None else self._kept(states)

    def _kept(self, states: Tensor) -> Tensor:
        if len(self.kept) == 1:
            return self.kept[0](states)
        return torch.stack([keep(states[i]) for i, keep in enumerate(self.kept)])


class InitialStateRNN(InitialStateWrapper):
    """Small layer, or a stack of them, that accepts initial states of the old size."""

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
    """Small cell that accepts initial states of the old size."""

    def forward(  # type: ignore[no-untyped-def]
        self,
        input: Tensor,  # noqa: A002  as in torch
        hx: States = None,
    ):
        """Run the small cell for one step."""
        if self.is_lstm:
            return self.rnn(input, self._pair(hx))
        return self.rnn(input, self._start(hx))


class Expanded(InitialStateWrapper):
    """Base of wrappers that return states of the old size.

    They are used where the states cannot be traced to their readers: a linear map rebuilds the
    hidden states, so the surrounding module needs no change.

    Parameters
    ----------
    rnn, supports, hidden_size
        As in ``InitialStateWrapper``.
    expand : sequence of nn.Linear
        Reconstruction of the hidden state of each layer.
    cells : sequence of nn.Linear
        Reconstruction of the cell state of each layer; empty unless another layer starts from it.
    small_states : bool
        Whether the last states that it returns are those of the kept nodes only.
    """

    def __init__(
        self,
        rnn: nn.Module,
        supports: Sequence[Tensor],
        expand: Sequence[nn.Linear],
        cells: Sequence[nn.Linear],
        hidden_size: int,
        small_states: bool = False,
    ) -> None:
        super().__init__(rnn, supports, [linear.out_features for linear in expand], hidden_size)
        self.small_states = small_states
        # A module that never reads the last states of lower levels could not train their maps.
        # The maps of the last level rebuild the outputs as well as the last states.
        self.n_lower = len(expand) - 1 - getattr(rnn, "bidirectional", False)
        self.expand, self.expand_cells = (
            nn.ModuleList([*map(FixedLinear, maps[: self.n_lower]), *maps[self.n_lower :]])
            for maps in (expand, cells)
        )

    def _cells(self, cells: list[Tensor]) -> list[Tensor]:
        """Return the cell states of every layer in the old size.

        Unless another layer starts from them, the lost nodes are zero, since only this layer
        continues from the cell states and it reads the kept nodes.
        """
        if len(self.expand_cells) == 0:
            kept = enumerate(self.kept)
            return [keep.among_zeros(cells[i]) for i, keep in kept]  # type: ignore[operator]
        return [linear(cells[i]) for i, linear in enumerate(self.expand_cells)]


class ExpandedRNN(Expanded):
    """Small layer, or a stack of them, that returns states of the old size."""

    __constants__: ClassVar = ["is_lstm", "is_even", "small_states"]
    __jit_unused_properties__: ClassVar = ["expand_output"]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_apart = False
        self.is_even = len(set(self.sizes)) == 1
        self.widths = [linear.in_features for linear in self.expand_output]

    @property
    def expand_output(self) -> nn.ModuleList:
        """Reconstructions of the last level, one for each direction."""
        return self.expand[self.n_lower :]

    def set_apart(self) -> None:
        """Prepare the wrapper for reconstructions that are refitted.

        A refitted map no longer returns the kept nodes exactly, but the layer continues from the
        last states, so these get the kept nodes from the layer itself.
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
        """Run the small layer on initial states of the old size; return states of the old size."""
        if self.is_lstm:
            output, final = self.rnn(input, self._pair(hx))
            if not self.small_states:
                h, c = final
                final = self._together(self._finals(list(h))), self._together(self._cells(list(c)))
        else:
            output, final = self.rnn(input, self._start(hx))
            if not self.small_states:
                final = self._together(self._finals(list(final)))
        if isinstance(output, PackedSequence):
            output = with_data(output, self._rebuilt(output.data))
        else:
            output = self._rebuilt(output)
        return output, final

    def _rebuilt(self, states: Tensor) -> Tensor:
        """Return the rebuilt states of the last level, all directions side by side."""
        # LiteRT cannot convert a split into one part.
        parts = states.split(self.widths, -1) if len(self.widths) > 1 else [states]
        rebuilt: list[Tensor] = []
        for i, linear in enumerate(self.expand):
            if i >= self.n_lower:
                rebuilt.append(linear(parts[i - self.n_lower]))
        return rebuilt[0] if len(rebuilt) == 1 else torch.cat(rebuilt, -1)

    def _finals(self, states: list[Tensor]) -> list[Tensor]:
        """Return the rebuilt last hidden states of every layer."""
        rebuilt = [linear(states[i]) for i, linear in enumerate(self.expand)]
        if self.is_apart:
            kept = enumerate(self.kept)
            rebuilt = [
                keep.among(rebuilt[i], states[i])  # type: ignore[operator]
                for i, keep in kept
            ]
        return rebuilt

    def _together(self, states: list[Tensor]):  # type: ignore[no-untyped-def]
        """Return states of several layers as one tensor if their sizes are equal."""
        if self.is_even:
            together = torch.stack(states)
        elif is_scripting():
            together = states  # type: ignore[assignment]
        else:
            together = tuple(states)  # type: ignore[assignment]
        return together


class ExpandedCell(Expanded):
    """Small cell that returns states of the old size."""

    def forward(  # type: ignore[no-untyped-def]
        self,
        input: Tensor,  # noqa: A002  as in torch
        hx: States = None,
    ):
        """Run the small cell for one step; accept and return states of the old size."""
        if self.is_lstm:
            h, c = self.rnn(input, self._pair(hx))
            return self.expand[0](h), self._cells([c])[0]
        return self.expand[0](self.rnn(input, self._start(hx)))


def pair_of(hx: States) -> tuple[Tensor, Tensor] | None:
    """Return the initial states of an LSTM, with the type that TorchScript needs."""
    if not is_scripting():
        return hx  # type: ignore[return-value]
    return hx if isinstance(hx, tuple) else None


def one_of(hx: States) -> Tensor | None:
    """Return the initial state of an RNN or GRU, with the type that TorchScript needs."""
    if not is_scripting():
        return hx  # type: ignore[return-value]
    return hx if isinstance(hx, Tensor) else None


def with_data(like: PackedSequence, data: Tensor) -> PackedSequence:
    """Return packed sequences with other data."""
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)
