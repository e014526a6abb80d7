"""Layers that read only some of their inputs."""

from typing import Any, overload

from torch import Tensor, nn
from torch._jit_internal import _overload_method as script_overload
from torch.nn.utils.rnn import PackedSequence

from .wrappers import RNNWrapper, States, one_of, pair_of, with_data


class Selecting(RNNWrapper):
    """Base of the wrappers that pass only some of their inputs on to the layer inside.

    Parameters
    ----------
    rnn : nn.Module
        The layer inside.
    support : Tensor of int
        Indices of the inputs that the layer reads.
    input_size : int
        Number of inputs that the wrapper is given.
    """

    def __init__(self, rnn: nn.Module, support: Tensor, input_size: int) -> None:
        super().__init__(rnn)
        self.input_size = input_size
        self.register_buffer("support", support)


class SelectedInputs(Selecting):
    """Layer that reads some of the inputs that it is given."""

    @overload
    @script_overload
    def forward(self, input: Tensor, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    @overload
    @script_overload
    def forward(self, input: PackedSequence, hx: States = None):  # type: ignore[no-untyped-def]
        pass

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the layer on the selected inputs."""
        if isinstance(input, PackedSequence):
            selected = with_data(input, input.data.index_select(-1, self.support))
        else:
            selected = input.index_select(-1, self.support)
        if self.is_lstm:
            return self.rnn(selected, pair_of(hx))
        return self.rnn(selected, one_of(hx))


class SelectedCellInputs(Selecting):
    """Cell that reads some of the inputs that it is given."""

    def forward(  # type: ignore[no-untyped-def]
        self,
        input: Tensor,  # noqa: A002  as in torch
        hx: States = None,
    ):
        """Run the cell for one step on the selected inputs."""
        selected = input.index_select(-1, self.support)
        if self.is_lstm:
            return self.rnn(selected, pair_of(hx))
        return self.rnn(selected, one_of(hx))
