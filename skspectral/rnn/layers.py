"""Recurrent layers: find them in a module and describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class RecurrentLayer:
    """One recurrent layer of a module.

    Parameters
    ----------
    name : str
        Its name, such as ``"rnn.l0"``.
    path : str
        Path of its ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` in the module; empty when the
        module is one.
    """

    name: str
    path: str

    def of(self, module: nn.Module) -> nn.RNNBase:
        """The layer's torch module inside ``module``."""
        return cast(nn.RNNBase, module.get_submodule(self.path))


def find_layer(module: nn.Module) -> RecurrentLayer:
    """The one recurrent layer of a module.

    Raises
    ------
    ValueError
        If there is none, more than one, or one that cannot be pruned.
    """
    found = {path: part for path, part in module.named_modules() if isinstance(part, nn.RNNBase)}
    kind = type(module).__name__
    if not found:
        raise ValueError(
            f"estimator holds no recurrent layer: {kind} has no nn.RNN, nn.GRU or nn.LSTM inside; "
            "give a module that has one."
        )
    if len(found) > 1:
        raise ValueError(
            f"estimator must hold one recurrent layer; {kind} has {len(found)}: "
            f"{', '.join(found)}. Prune them one module at a time."
        )
    ((path, rnn),) = found.items()
    check_layer(rnn, path)
    check_weights(module)
    return RecurrentLayer(".".join(filter(None, (path, "l0"))), path)


def check_layer(rnn: nn.RNNBase, path: str) -> None:
    """Refuse the kinds of layer that cannot be pruned."""
    where = f"layer {path!r}" if path else "estimator"
    if rnn.proj_size:
        raise ValueError(
            f"{where} is an LSTM with proj_size={rnn.proj_size}, whose projected state cannot be "
            "pruned; give an LSTM with proj_size=0 and its projection as a linear layer behind it."
        )
    if rnn.num_layers > 1 or rnn.bidirectional:
        raise ValueError(
            f"{where} has num_layers={rnn.num_layers} and bidirectional={rnn.bidirectional}; "
            "give a layer with num_layers=1 and bidirectional=False."
        )


def check_weights(module: nn.Module) -> None:
    """Refuse parameters that are not finite."""
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"estimator has NaN or infinity in its parameter {name!r}; give a module whose "
                "training did not diverge."
            )


def weights_of(rnn: nn.RNNBase) -> dict[str, Tensor]:
    """``weight_ih``, ``weight_hh`` and the biases, if any, without the name of the level."""
    names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * rnn.bias
    return {name: getattr(rnn, f"{name}_l0").detach() for name in names}


def incoming_norms(rnn: nn.RNNBase) -> Tensor:
    """Norm of all weights into each node, of inputs and states and all gates, shape (n_nodes,)."""
    weights = weights_of(rnn)
    incoming = in_float64(torch.cat([weights["weight_ih"], weights["weight_hh"]], dim=1))
    return incoming.reshape(GATES[rnn.mode], rnn.hidden_size, -1).norm(dim=(0, 2))


def in_float64(weight: Tensor) -> Tensor:
    """A weight as float64 on the CPU, where all of the linear algebra is done."""
    return weight.detach().to("cpu", torch.float64)
