"""Build the smaller module: fewer rows, reconstruction folded into every reader."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from .layers import GATES, RecurrentLayer
from .readers import Readers
from .states import MISFITS, StateCollector

KINDS: dict[str, type[nn.RNNBase]] = {
    "RNN_TANH": nn.RNN,
    "RNN_RELU": nn.RNN,
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
}


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
        wide = weight.detach().to("cpu", torch.float64)
        shift = wide @ self.c
        if bias is not None:
            shift = bias.detach().to("cpu", torch.float64) + shift
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
        linear = small.get_submodule(path)
        replace(small, linear, shrink_linear(linear, cut))
    rnn = layer.of(small)
    replace(small, rnn, shrink_rnn(rnn, cut))
    return small


def with_expanded_layer(module: nn.Module, layer: RecurrentLayer, cut: Cut) -> nn.Module:
    """A copy with the smaller layer, followed by the reconstruction."""
    small = copy.deepcopy(module)
    rnn = layer.of(small)
    replace(small, rnn, ExpandedRNN(shrink_rnn(rnn, cut), cut, like=rnn))
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
    weight_hh, bias_hh = cut.fold(rnn.weight_hh_l0, rnn.bias_hh_l0 if rnn.bias else None)
    options = {"nonlinearity": rnn.nonlinearity} if isinstance(rnn, nn.RNN) else {}
    small = KINDS[rnn.mode](
        rnn.input_size,
        len(cut.support),
        bias=bias_hh is not None,
        batch_first=rnn.batch_first,
        dropout=rnn.dropout,
        device="meta",
        **options,
    )
    starts = torch.arange(GATES[rnn.mode])[:, None] * rnn.hidden_size
    rows = (starts + cut.support).flatten()
    weights = {"weight_ih_l0": rnn.weight_ih_l0.detach().cpu()[rows], "weight_hh_l0": weight_hh[rows]}
    if bias_hh is not None:
        bias_ih = rnn.bias_ih_l0.detach().cpu() if rnn.bias else torch.zeros_like(bias_hh)
        weights |= {"bias_ih_l0": bias_ih[rows], "bias_hh_l0": bias_hh[rows]}
    return filled(small, weights, rnn, rnn.weight_hh_l0)


def shrink_linear(linear: nn.Linear, cut: Cut) -> nn.Linear:
    """A linear map that reads the kept nodes as the given one reads all of them."""
    weight, bias = cut.fold(linear.weight, linear.bias)
    small = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return filled(small, weights, linear, linear.weight)


def filled(empty: Any, weights: dict[str, Tensor], like: nn.Module, place: Tensor) -> Any:
    """A layer made on the meta device, which draws no random numbers, filled with weights.

    It gets the device and dtype of ``place``, and the mode and gradient flags of ``like``.
    """
    layer = empty.to(place.dtype).to_empty(device=place.device)
    layer.load_state_dict(weights)
    flags = {name: parameter.requires_grad for name, parameter in like.named_parameters()}
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(flags.get(name, all(flags.values())))
    return layer.train(like.training)


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another, wherever it stands."""
    for path, part in list(root.named_modules(remove_duplicate=False)):
        if part is old:
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, new)


class ExpandedRNN(nn.Module):
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
        super().__init__()
        self.rnn = rnn
        empty = nn.Linear(*reversed(cut.A.shape), device="meta")
        weights = {"weight": cut.A, "bias": cut.c}
        self.expand = filled(empty, weights, like, like.weight_hh_l0)
        self.register_buffer("support", cut.support.to(like.weight_hh_l0.device))

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  as in torch
        """Run the small layer; states go in and come out in the old size."""
        if isinstance(hx, tuple):
            hx = tuple(state[..., self.support] for state in hx)
        elif hx is not None:
            hx = hx[..., self.support]
        output, final = self.rnn(input, hx)
        if isinstance(final, tuple):
            return self.expand(output), (self.expand(final[0]), self._scatter(final[1]))
        return self.expand(output), self.expand(final)

    def _scatter(self, cell: Tensor) -> Tensor:
        """Cell states at their old places: enough to go on from, nobody else reads them."""
        wide = cell.new_zeros(*cell.shape[:-1], self.expand.out_features)
        wide[..., self.support] = cell
        return wide
