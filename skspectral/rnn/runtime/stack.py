"""Levels and directions of a recurrent module that may have different sizes."""

from typing import Any, ClassVar, cast, overload

import torch
from torch import Tensor, nn
from torch._jit_internal import _overload_method as script_overload
from torch._jit_internal import is_scripting
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .kinds import type_of
from .posing import Posing
from .wrappers import States, one_of, pair_of, with_data


class StackedRNN(Posing, nn.ModuleDict):
    """Equivalent of an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` with several levels or directions.

    The layers are its attributes ``l0``, ``l0_reverse``, ``l1`` and so on, and may have different
    sizes. With different sizes, the last states are a tuple of tensors (n_sequences, n_nodes), or
    a pair of tuples for an LSTM. Initial states may be given in the same form, or as one tensor in
    which the states of smaller layers are padded to the size of the largest.

    Parameters
    ----------
    layers : dict of nn.RNNBase
        One layer for each level and direction, by name, in torch's order.
    like : nn.Module
        The module that it replaces.
    """

    __constants__: ClassVar = ["is_lstm"]
    __jit_unused_properties__: ClassVar = ["layers", "input_size", "hidden_size"]

    def __init__(self, layers: dict[str, nn.RNNBase], like: Any) -> None:
        super().__init__(layers)
        self.mode, self.bias, self.batch_first = like.mode, like.bias, like.batch_first
        self.dense_size, self.proj_size = like.hidden_size, 0
        self.num_layers: int = like.num_layers
        self.bidirectional: bool = like.bidirectional
        self.dropout = float(like.dropout)
        self.is_lstm = like.mode == "LSTM"

    def poses_as(self) -> type:
        """Return the class of the module that it replaces."""
        kind: type = type_of(self["l0"])
        return kind

    @property
    def layers(self) -> dict[str, nn.RNNBase]:
        """Layers by name."""
        return {name: cast(nn.RNNBase, layer) for name, layer in self.items()}

    @property
    def input_size(self) -> int:
        """Number of inputs of the first level."""
        return self.layers["l0"].input_size

    @property
    def hidden_size(self) -> int:
        """Size of the layers; if they differ in size, that of the module that it replaces."""
        sizes = {layer.hidden_size for layer in self.layers.values()}
        return sizes.pop() if len(sizes) == 1 else self.dense_size

    def flatten_parameters(self) -> None:
        """Store the weights of every layer in one piece of memory, as cuDNN prefers."""
        for layer in self.layers.values():
            layer.flatten_parameters()

    @overload
    @script_overload
    def forward(self, input: Tensor, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    @overload
    @script_overload
    def forward(self, input: PackedSequence, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Run one level after another."""
        states = input
        outputs: list[Tensor] = []
        hidden = cells = ()
        for i, (name, layer) in enumerate(self.items()):
            is_reverse = name.endswith("_reverse")
            given = self._turned(states) if is_reverse else states
            if self.is_lstm:
                output, (h, c) = layer(given, self._pair(hx, i))
                cells = (*cells, c[0])  # type: ignore[assignment]
            else:
                output, h = layer(given, self._start(hx, i))
            hidden = (*hidden, h[0])  # type: ignore[assignment]
            output = self._turned(output) if is_reverse else output
            outputs.append(output.data if isinstance(output, PackedSequence) else output)
            if is_reverse or not self.bidirectional:
                is_last = i // (1 + int(self.bidirectional)) == self.num_layers - 1
                states = self._joined(output, outputs, self.training and not is_last)
                outputs = []
        if not is_scripting():  # layers of one size are merged again before scripting
            hidden, cells = together(hidden), together(cells)
        final = (hidden, cells) if self.is_lstm else hidden
        return states, final

    def _start(self, hx: States, i: int) -> Tensor | None:
        """Return the initial state of layer ``i`` of an RNN or GRU."""
        states = one_of(hx)
        return None if states is None else self._own(states, i)

    def _pair(self, hx: States, i: int) -> tuple[Tensor, Tensor] | None:
        """Return the initial hidden and cell state of layer ``i`` of an LSTM."""
        pair = pair_of(hx)
        return None if pair is None else (self._own(pair[0], i), self._own(pair[1], i))

    def _own(self, states: Tensor, i: int) -> Tensor:
        """Return the states of layer ``i`` without padding to the size of the largest layer."""
        own = states[i]
        sizes: list[int] = [layer.hidden_size for layer in self.values()]  # type: ignore[misc]
        if own.shape[-1] == max(sizes):
            own = own[..., : sizes[i]]
        return own.unsqueeze(0)

    @overload
    @script_overload
    def _turned(self, states: Tensor):  # type: ignore[no-untyped-def]
        pass

    @overload
    @script_overload
    def _turned(self, states: PackedSequence):  # type: ignore[no-untyped-def]
        pass

    def _turned(self, states: Any) -> Any:
        """Return sequences in reverse order of their steps."""
        if isinstance(states, PackedSequence):
            padded, lengths = pad_packed_sequence(states, batch_first=True)
            return pack_again(turn(padded, lengths), lengths, states)
        return states.flip([1 if self.batch_first and states.dim() == 3 else 0])

    @overload
    @script_overload
    def _joined(self, like: Tensor, outputs: list[Tensor], dropped: bool):  # type: ignore[no-untyped-def]
        pass

    @overload
    @script_overload
    def _joined(self, like: PackedSequence, outputs: list[Tensor], dropped: bool):  # type: ignore[no-untyped-def]
        pass

    def _joined(self, like: Any, outputs: list[Tensor], dropped: bool) -> Any:
        """Return the states of all directions side by side, after dropout if ``dropped``."""
        states = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        if dropped:
            states = nn.functional.dropout(states, self.dropout)
        return with_data(like, states) if isinstance(like, PackedSequence) else states


def together(states: tuple[Tensor, ...]) -> Any:
    """Return states of several layers as one tensor if their sizes are equal."""
    if len({part.shape[-1] for part in states}) == 1:
        return torch.stack(states)
    return states


def turn(padded: Tensor, lengths: Tensor) -> Tensor:
    """Return sequences in reverse order of their steps, with the padding still at the end."""
    steps = torch.arange(padded.shape[1])
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return padded[torch.arange(len(padded))[:, None], index]


def pack_again(padded: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """Pack sequences in the order of other packed sequences."""
    order = like.sorted_indices
    if order is not None:
        padded, lengths = padded[order], lengths[order.cpu()]
    data = pack_padded_sequence(padded, lengths, batch_first=True).data
    return with_data(like, data)
