"""Kinds of recurrent layers."""

from typing import Any, cast

from torch import nn


def mode_of(rnn: nn.Module) -> str:
    """Return the ``mode`` of a layer; that of a cell is what a layer of its kind has."""
    if isinstance(rnn, nn.RNNCell):
        return f"RNN_{rnn.nonlinearity.upper()}"
    if isinstance(rnn, nn.RNNCellBase):
        return "GRU" if isinstance(rnn, nn.GRUCell) else "LSTM"
    return cast(str, rnn.mode)


def type_of(rnn: nn.Module) -> Any:
    """Return the torch class of a layer of a subclass, or the own class of a quantized layer."""
    kinds = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
    return next((kind for kind in kinds if isinstance(rnn, kind)), type(rnn))
