"""Levels and directions of a recurrent module, each a layer of its own."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .checks import check_layer, check_ties, signature
from .delegating import TORCH, Delegating, delegate, is_customized, plain_core, restore, runs_as_torch
from .expanded import together
from .weights import copy_of, empty_like, filled, without_computed_weights

BIASES = ("bias_ih", "bias_hh")


class StackedRNN(nn.Module):
    """What an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` of several levels or directions computes.

    The layers are its attributes ``l0``, ``l0_reverse``, ``l1`` and so on, and may have different
    sizes. Then there is no tensor that holds the last states of all: they are a tuple of tensors
    (n_sequences, n_nodes), and for an LSTM a pair of tuples.

    Parameters
    ----------
    layers : dict of nn.RNNBase
        One level and direction each, by name, in the order of torch.
    like : nn.Module
        The module whose place it takes.
    """

    def __init__(self, layers: dict[str, nn.RNNBase], like: Any) -> None:
        super().__init__()
        self.mode, self.bias, self.batch_first = like.mode, like.bias, like.batch_first
        self.hidden_size, self.proj_size = like.hidden_size, 0
        self.num_layers: int = like.num_layers
        self.bidirectional: bool = like.bidirectional
        self.dropout: float = like.dropout
        for name, layer in layers.items():
            self.add_module(name, layer)

    @property
    def layers(self) -> dict[str, nn.RNNBase]:
        """The layers by name."""
        return {name: cast(nn.RNNBase, layer) for name, layer in self.named_children()}

    @property
    def input_size(self) -> int:
        """What the first level reads."""
        return self.layers["l0"].input_size

    def flatten_parameters(self) -> None:
        """Bring the weights of every layer together, as cuDNN likes them."""
        for layer in self.layers.values():
            layer.flatten_parameters()

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run level after level."""
        states = input
        finals: list[Any] = []
        for level in range(self.num_layers):
            outputs = []
            for suffix in directions(self.bidirectional):
                layer = self.get_submodule(f"l{level}{suffix}")
                start = self._start(hx, len(finals))
                output, final = (
                    run_backward(layer, states, start) if suffix else layer(states, start)
                )
                outputs.append(output)
                finals.append(final)
            states = join(outputs)
            if self.training and level < self.num_layers - 1:
                states = self._dropped(states)
        if self.mode == "LSTM":
            return states, tuple(
                together([each[0] for each in part]) for part in zip(*finals, strict=True)
            )
        return states, together([final[0] for final in finals])

    def _start(self, hx: Any, i: int) -> Any:
        """Where one layer starts from, of where all do."""
        if hx is None:
            return None
        if self.mode == "LSTM":
            return tuple(states[i].unsqueeze(0) for states in hx)
        return hx[i].unsqueeze(0)

    def _dropped(self, states: Any) -> Any:
        if isinstance(states, PackedSequence):
            return PackedSequence(self._dropped(states.data), *states[1:])
        return nn.functional.dropout(states, self.dropout)


def directions(bidirectional: bool) -> tuple[str, ...]:
    """What the names of the layers of a level end in."""
    return ("", "_reverse") if bidirectional else ("",)


def run_backward(layer: nn.Module, input: Any, hx: Any) -> Any:  # noqa: A002  as in torch
    """Run a layer from the last step of every sequence to the first."""
    if isinstance(input, PackedSequence):
        padded, lengths = pad_packed_sequence(input, batch_first=True)
        output, final = layer(pack_again(turn(padded, lengths), lengths, input), hx)
        states = turn(pad_packed_sequence(output, batch_first=True)[0], lengths)
        return pack_again(states, lengths, input), final
    steps = 1 if layer.batch_first and input.ndim == 3 else 0
    output, final = layer(input.flip(steps), hx)
    return output.flip(steps), final


def turn(padded: Tensor, lengths: Tensor) -> Tensor:
    """Sequences backwards, with the padding where it was."""
    steps = torch.arange(padded.shape[1])
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return padded[torch.arange(len(padded))[:, None], index]


def pack_again(padded: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """Pack sequences in the order in which others are packed."""
    order = like.sorted_indices
    if order is not None:
        padded, lengths = padded[order], lengths[order.cpu()]
    data = pack_padded_sequence(padded, lengths, batch_first=True).data
    return PackedSequence(data, *like[1:])


def join(outputs: list[Any]) -> Any:
    """The states of all directions side by side."""
    if len(outputs) == 1:
        return outputs[0]
    if isinstance(outputs[0], PackedSequence):
        return PackedSequence(torch.cat([states.data for states in outputs], -1), *outputs[0][1:])
    return torch.cat(outputs, -1)


def has_layers(part: nn.Module) -> bool:
    """Whether a module holds several levels or directions."""
    return isinstance(part, nn.RNNBase) and (part.num_layers > 1 or part.bidirectional)


def laid_out(module: nn.Module) -> Any:
    """Return a copy of a module in which every level and direction is a module of its own.

    Layers that share all of their weights become one, which is used several times.

    Raises
    ------
    ValueError
        If a layer cannot be pruned.
    """
    module = without_computed_weights(module)
    swaps: dict[nn.Module, nn.Module] = {}
    known: dict[Any, tuple[str, nn.Module]] = {}
    for path, part in module.named_modules():
        if isinstance(part, (nn.RNNBase, nn.RNNCellBase)) and not isinstance(part, Delegating):
            check_layer(part, path)
            swaps[part] = known.setdefault(signature(part), (path, part))[1]
    check_ties(dict(known.values()))
    split = {part: plain_or_delegating(part, not path) for path, part in known.values()}
    for old, one in swaps.items():
        if old is not one and split[one] is one:
            split[one] = copy_of(one)
    swaps = {old: split[one] for old, one in swaps.items()}
    return copy_of(module, {old: new for old, new in swaps.items() if old is not new})


def plain_or_delegating(part: Any, is_whole: bool) -> nn.Module:
    """Return a layer with a module for every level and direction, which does all it did.

    One that is the whole module and runs as torch's does becomes a layer of torch.
    """
    core = stacked(part) if has_layers(part) else None
    if is_customized(part) and not (is_whole and runs_as_torch(part)):
        return delegate(part, core or plain_core(part))
    return core or part


def stacked(rnn: nn.RNNBase) -> StackedRNN:
    """The same as layers of their own."""
    layers = {}
    for level in range(rnn.num_layers):
        for suffix in directions(rnn.bidirectional):
            layers[f"l{level}{suffix}"] = layer_of(rnn, f"_l{level}{suffix}")
    return StackedRNN(layers, rnn).train(rnn.training)


def layer_of(rnn: nn.RNNBase, suffix: str) -> nn.RNNBase:
    """One level and direction; ``suffix`` is what its parameters end in."""
    kinds = ("weight_ih", "weight_hh") + BIASES * rnn.bias
    old = {f"{kind}_l0": rnn.get_parameter(kind + suffix) for kind in kinds}
    n_inputs = old["weight_ih_l0"].shape[1]
    layer = filled(empty_like(rnn, n_inputs, rnn.hidden_size, rnn.bias), old, rnn)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(old[name].requires_grad)
    return cast(nn.RNNBase, layer)


def as_torch(rnn: StackedRNN) -> nn.Module:
    """The module of torch that computes the same, where there is one: all layers of one size."""
    layers = rnn.layers
    if len({layer.hidden_size for layer in layers.values()}) > 1:
        return rnn
    first = layers["l0"]
    bias = any(layer.bias for layer in layers.values())
    empty = empty_like(first, rnn.input_size, first.hidden_size, bias, like=rnn)
    weights: dict[str, Tensor] = {}
    flags: dict[str, bool] = {}
    for name, layer in layers.items():
        for kind in ("weight_ih", "weight_hh") + BIASES * bias:
            old: Tensor | None = getattr(layer, f"{kind}_l0", None)
            known = layer.get_parameter("weight_hh_l0") if old is None else old
            weights[f"{kind}_{name}"] = torch.zeros_like(known[:, 0]) if old is None else old
            flags[f"{kind}_{name}"] = known.requires_grad
    whole = filled(empty, weights, first)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(flags[name])
    return cast(nn.Module, whole.train(rnn.training))


def put_together(module: nn.Module) -> Any:
    """Return a copy that has the layers of torch again, wherever they compute the same."""
    swaps: dict[nn.Module, nn.Module] = {}
    for part in module.modules():
        if isinstance(part, StackedRNN):
            swaps[part] = as_torch(part)
        elif isinstance(part, Delegating):
            core = as_torch(part.core) if isinstance(part.core, StackedRNN) else part.core
            if type(core) in TORCH:
                swaps[part] = restore(part, core)
    return copy_of(module, {old: new for old, new in swaps.items() if old is not new})
