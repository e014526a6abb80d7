"""Build the smaller module: fewer rows, reconstruction folded into every reader."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_iter

from .layers import GATES, RecurrentLayer, in_float64, weights_of
from .readers import Readers
from .states import MISFITS, StateCollector


@dataclass(frozen=True)
class Cut:
    """The nodes to keep and the map that rebuilds the rest.

    Parameters
    ----------
    support : Tensor of int, shape (m,)
        The kept nodes, ascending.
    A : Tensor of shape (n_nodes, m)
        Reconstruction, float64.
    c : Tensor of shape (n_nodes,)
        Its constant part, float64.
    """

    support: Tensor
    A: Tensor
    c: Tensor

    @classmethod
    def from_arrays(cls, support: Any, A: Any, c: Any) -> Cut:
        """Take NumPy arrays."""
        return cls(*(torch.as_tensor(array) for array in (support, A, c)))

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias that read the kept nodes as the given ones read all nodes."""
        wide = in_float64(weight)
        shift = wide @ self.c
        if bias is not None:
            shift += in_float64(bias)
        needed = bias is not None or bool(self.c.any())
        return wide @ self.A, shift if needed else None


def build(collector: StateCollector, cut: Cut, readers: Readers, batch: Any) -> nn.Module:
    """The smaller module, with the reconstruction folded into its readers if that is exact.

    Parameters
    ----------
    collector : StateCollector
        Holds the dense module and its layer; both are left as they are.
    cut : Cut
        Nodes to keep, and their reconstruction.
    readers : Readers
        Who reads the layer.
    batch : object
        A calibration batch, on which folded and unfolded module must agree.

    Returns
    -------
    nn.Module
        A module of the same class; for a bare layer, the smaller layer.

    Warns
    -----
    UserWarning
        When the reconstruction stays a linear layer of its own.
    """
    rnn = collector.layer.of(collector.module)
    if rnn is collector.module:
        return shrink_rnn(rnn, cut)
    unfolded = with_expanded_layer(collector.module, collector.layer, cut)
    obstacle = readers.obstacle
    if obstacle is None:
        folded = with_folded_readers(collector.module, collector.layer, cut, readers)
        args, kwargs = collector.arguments(batch)
        if agree(folded, unfolded, args, kwargs):
            return folded
        obstacle = "goes a way that could not be followed"
    warnings.warn(
        f"The reconstruction of layer {collector.layer.name!r} stays a linear layer of its own "
        f"behind it, since its hidden state {obstacle}.",
        stacklevel=2,
    )
    return unfolded


def with_folded_readers(
    module: nn.Module, layer: RecurrentLayer, cut: Cut, readers: Readers
) -> nn.Module:
    """A copy with the smaller layer, whose readers take in the reconstruction."""
    small = copy.deepcopy(module)
    for path in readers.paths:
        linear = cast(nn.Linear, small.get_submodule(path))
        replace(small, linear, shrink_linear(linear, cut))
    rnn = layer.of(small)
    replace(small, rnn, shrink_rnn(rnn, cut))
    return small


def with_expanded_layer(module: nn.Module, layer: RecurrentLayer, cut: Cut) -> nn.Module:
    """A copy with the smaller layer, followed by the reconstruction."""
    dense = layer.of(module)
    expanded = ExpandedRNN(shrink_rnn(dense, cut), cut, like=dense)
    if dense is module:
        return expanded
    small = copy.deepcopy(module)
    replace(small, layer.of(small), expanded)
    return small


@torch.no_grad()
def agree(one: nn.Module, other: nn.Module, args: Any, kwargs: Any) -> bool:
    """Whether two modules answer the same, up to the rounding of their dtype."""
    expected = other(*args, **kwargs)
    try:
        answer = one(*args, **kwargs)
    except MISFITS:
        return False
    pairs = zip(tree_iter(answer), tree_iter(expected), strict=True)
    return all(close(a, b) for a, b in pairs if isinstance(b, Tensor))


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors differ by less than half the digits of their dtype."""
    if a.shape != b.shape:
        return False
    if not b.is_floating_point():
        return True
    tolerance = torch.finfo(b.dtype).eps ** 0.5 * b.abs().amax() if b.numel() else 0.0
    return bool(((a - b).abs() <= tolerance).all())


def shrink_rnn(rnn: nn.RNNBase, cut: Cut) -> nn.RNNBase:
    """The layer of the kept nodes alone: rows J of every gate block."""
    wide = weights_of(rnn)
    weight_hh, bias_hh = cut.fold(wide["weight_hh"], wide.get("bias_hh"))
    weights = {"weight_ih": in_float64(wide["weight_ih"]), "weight_hh": weight_hh}
    if bias_hh is not None:
        bias_ih = in_float64(wide["bias_ih"]) if rnn.bias else torch.zeros_like(bias_hh)
        weights |= {"bias_ih": bias_ih, "bias_hh": bias_hh}
    starts = torch.arange(GATES[rnn.mode])[:, None] * rnn.hidden_size
    rows = (starts + cut.support).flatten()
    kept = {f"{name}_l0": weight[rows] for name, weight in weights.items()}
    return filled(empty_like(rnn, len(cut.support), "bias_hh" in weights), kept, rnn)


def empty_like(
    rnn: nn.RNNBase, hidden_size: int, bias: bool, input_size: int | None = None
) -> nn.RNNBase:
    """A layer of the same kind and another size, on the meta device."""
    input_size = input_size or rnn.input_size
    options: dict[str, Any] = {
        "bias": bias,
        "batch_first": rnn.batch_first,
        "dropout": rnn.dropout,
        "device": "meta",
    }
    if rnn.mode == "GRU":
        return nn.GRU(input_size, hidden_size, **options)
    if rnn.mode == "LSTM":
        return nn.LSTM(input_size, hidden_size, **options)
    nonlinearity = rnn.mode.removeprefix("RNN_").lower()
    return nn.RNN(input_size, hidden_size, nonlinearity=nonlinearity, **options)


def shrink_linear(linear: nn.Linear, cut: Cut) -> nn.Linear:
    """A linear map that reads the kept nodes as the given one reads all of them."""
    weight, bias = cut.fold(linear.weight, linear.bias)
    small = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return filled(small, weights, linear)


def filled(empty: Any, weights: dict[str, Tensor], like: nn.Module) -> Any:
    """A layer made on the meta device, which draws no random numbers, filled with weights.

    Device, dtype, mode and gradient flags are those of the layer it takes the place of.
    """
    old = dict(like.named_parameters())
    place = next(iter(old.values()))
    layer = empty.to(place.dtype).to_empty(device=place.device)
    layer.load_state_dict(weights)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(old.get(name, place).requires_grad)
    return layer.train(like.training)


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another, wherever it stands."""
    for path, part in list(root.named_modules(remove_duplicate=False)):
        if part is old:
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, new)


class StandIn(nn.Module):
    """Takes the place of a layer, and shows the attributes of the one inside.

    Parameters
    ----------
    rnn : nn.RNNBase
        The layer inside.
    """

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn

    def __getattr__(self, name: str) -> Any:
        """What else a module asks of its layer, such as ``flatten_parameters``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("rnn"), name)


class ExpandedRNN(StandIn):
    """A small layer that shows states of the old size.

    Stands where the way from the states to their readers cannot be followed: its
    hidden states are rebuilt by a linear map, so the module around it needs no change.

    Parameters
    ----------
    rnn : nn.RNNBase
        The small layer.
    cut : Cut
        The kept nodes and their reconstruction.
    like : nn.RNNBase
        The layer it takes the place of.
    """

    def __init__(self, rnn: nn.RNNBase, cut: Cut, like: nn.RNNBase) -> None:
        super().__init__(rnn)
        self.hidden_size = len(cut.A)
        n_nodes, m = cut.A.shape
        empty = nn.Linear(m, n_nodes, device="meta")
        self.expand = filled(empty, {"weight": cut.A, "bias": cut.c}, like)
        self.support: Tensor
        self.register_buffer("support", cut.support.to(self.expand.weight.device))

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the small layer; states go in and come out in the old size."""
        if isinstance(hx, tuple):
            hx = tuple(state[..., self.support] for state in hx)
        elif hx is not None:
            hx = hx[..., self.support]
        output, final = self.rnn(input, hx)
        if isinstance(output, PackedSequence):
            output = PackedSequence(self.expand(output.data), *output[1:])
        else:
            output = self.expand(output)
        if isinstance(final, tuple):
            return output, (self.expand(final[0]), self._scatter(final[1]))
        return output, self.expand(final)

    def _scatter(self, cell: Tensor) -> Tensor:
        """Cell states at their old places: enough to go on from, nobody else reads them."""
        wide = cell.new_zeros(*cell.shape[:-1], self.expand.out_features)
        wide[..., self.support] = cell
        return wide
