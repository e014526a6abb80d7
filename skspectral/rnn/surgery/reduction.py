"""Reductions of layers, and the smaller layers and readers that they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import LayerCall
from ..layers.weights import GATES, empty_like, filled, in_float64, reading_of, resized, weights_of
from ..runtime.kinds import mode_of
from ..tracing.readers import NodeParameter, Reader


@dataclass(frozen=True)
class LayerReduction:
    """Kept nodes of a layer and the affine map that rebuilds the others from them.

    Parameters
    ----------
    support : Tensor of int, shape (m,)
        Indices of the kept nodes, ascending.
    A : Tensor of shape (n_nodes, m)
        Matrix of the reconstruction, float64.
    c : Tensor of shape (n_nodes,)
        Constant part of the reconstruction, float64.
    cell : tuple of Tensor or None
        ``A`` and ``c`` for the cell state of an LSTM, needed if another layer starts from it.
    fitted : dict of Tensor or None
        Weights of the smaller layer, which reads the inputs of the dense one, float64; None if the
        reconstruction is folded into the weights instead.
    """

    support: Tensor
    A: Tensor
    c: Tensor
    cell: tuple[Tensor, Tensor] | None = None
    fitted: Mapping[str, Tensor] | None = None

    @classmethod
    def from_arrays(cls, support: Any, A: Any, c: Any) -> LayerReduction:
        """Make a reduction from NumPy arrays."""
        return cls(torch.as_tensor(support), torch.as_tensor(A), torch.as_tensor(c))

    @classmethod
    def keep_all(cls, n_nodes: int) -> LayerReduction:
        """Make the reduction that keeps all nodes."""
        eye = torch.eye(n_nodes, dtype=torch.float64)
        return cls(torch.arange(n_nodes), eye, torch.zeros(n_nodes, dtype=torch.float64))

    @classmethod
    def keep_first(cls, n_nodes: int, m: int, affine: bool = False) -> LayerReduction:
        """Make a reduction that keeps the first ``m`` nodes, for trial builds of a module.

        It rebuilds the other nodes as zero or, if ``affine``, as a constant.
        """
        whole = cls.keep_all(n_nodes)
        c = whole.c.clone()
        c[m:] = 0.1 * affine
        return cls(whole.support[:m], whole.A[:, :m], c)

    @property
    def n_nodes(self) -> int:
        """Number of nodes before the reduction."""
        return len(self.A)

    @property
    def lost(self) -> Tensor:
        """Indices of the nodes that are not kept, ascending."""
        lost = torch.ones(self.n_nodes, dtype=torch.bool)
        return lost.index_fill(0, self.support, False).nonzero().flatten()

    @property
    def is_smaller(self) -> bool:
        """Return whether any node is lost."""
        return len(self.support) < self.n_nodes

    def rebuild(self, states: Tensor) -> Tensor:
        """Return the hidden states of all nodes, rebuilt from the kept ones."""
        A, c = self.A.to(states.device), self.c.to(states.device)
        return (states.double() @ A.T + c).to(states.dtype)

    def scaled(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return A and c for states of which every node is scaled and shifted, in both networks."""
        A = scale[:, None] * self.A / scale[self.support]
        return A, scale * self.c + shift - A @ shift[self.support]

    def rebuild_cells(self, cells: Tensor) -> Tensor:
        """Return the cell states of all nodes, rebuilt from the kept ones."""
        A, c = (each.to(cells.device) for each in self.of_cells)
        return (cells.double() @ A.T + c).to(cells.dtype)

    def rows(self, mode: str) -> Tensor:
        """Return the rows of the kept nodes in the gate blocks of the weights of a mode."""
        starts = torch.arange(GATES[mode])[:, None] * self.n_nodes
        return (starts + self.support).flatten()

    @property
    def of_cells(self) -> tuple[Tensor, Tensor]:
        """Reconstruction of the cell state; without one, the lost nodes are set to zero."""
        keep_all = LayerReduction.keep_all(self.n_nodes)
        return self.cell or (keep_all.A[:, self.support], keep_all.c)

    def small_weights(self, rnn: Any) -> dict[str, Tensor]:
        """Return the weights of the layer of the kept nodes, which reads the dense layer's inputs.

        They are the fitted weights, if there are any; otherwise the rows of the kept nodes in every
        gate block, with the reconstruction folded into ``weight_hh``.
        """
        if self.fitted is not None:
            return dict(self.fitted)
        wide = weights_of(rnn)
        weight_hh, bias_hh = self.fold(wide["weight_hh"], wide.get("bias_hh"))
        weights = {"weight_ih": in_float64(wide["weight_ih"]), "weight_hh": weight_hh}
        if bias_hh is not None:
            bias_ih = in_float64(wide["bias_ih"]) if rnn.bias else torch.zeros_like(bias_hh)
            weights |= {"bias_ih": bias_ih, "bias_hh": bias_hh}
        return {name: weight[self.rows(mode_of(rnn))] for name, weight in weights.items()}

    def small_call(self, call: LayerCall) -> LayerCall:
        """Return the call of the fitted layer that replaces a call of the dense layer."""
        if self.fitted is None:
            raise ValueError(
                "reduction has no fitted weights; fit them, or build the smaller module."
            )
        weights, support = list(self.fitted.values()), self.support.to(call.input.device)
        start = tuple(each[..., support] for each in call.start)
        return replace(call, weights=[each.to(call.input) for each in weights], start=start)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the weight and bias that read the kept nodes as the given ones read all nodes."""
        wide = in_float64(weight)
        shift = wide @ self.c
        if bias is not None:
            shift += in_float64(bias)
        needed = bias is not None or bool(self.c.any())
        return wide @ self.A, shift if needed else None


def shrink_rnn(rnn: Any, reduction: LayerReduction) -> nn.Module:
    """Return the layer that has only the kept nodes."""
    return with_weights(rnn, reduction.small_weights(rnn), len(reduction.support))


def with_weights(rnn: nn.Module, weights: dict[str, Tensor], hidden_size: int) -> nn.Module:
    """Return a layer of the same kind with the given weights."""
    end = "" if isinstance(rnn, nn.RNNCellBase) else "_l0"
    n_inputs = weights["weight_ih"].shape[1]
    empty = empty_like(rnn, n_inputs, hidden_size, "bias_hh" in weights)
    return filled(empty, {name + end: weight for name, weight in weights.items()}, rnn)


def narrowed(part: Any, reader: Reader, reductions: Mapping[str, LayerReduction]) -> nn.Module:
    """Return a linear map or layer into which the reconstructions of reductions are folded."""
    weight, bias = reading_of(part)
    read, shift = folded(in_float64(weight), reader, reductions)
    if bias is not None:
        shift = shift + in_float64(bias)
    return with_input(part, read, shift if bias is not None or bool(shift.any()) else None)


def narrowed_weight(
    weight: Tensor, reader: Reader, reductions: Mapping[str, LayerReduction]
) -> Tensor:
    """Return any other weight into which the reconstructions of reductions are folded."""
    read, _ = folded(in_float64(weight).movedim(reader.axis, -1), reader, reductions)
    return like_weight(weight, read.movedim(-1, reader.axis))


def kept_entries(
    weight: Tensor, own: NodeParameter, reductions: Mapping[str, LayerReduction]
) -> Tensor:
    """Return the entries of the kept nodes of a parameter or buffer."""
    parts = zip(weight.split([n for _, n in own.runs], own.axis), own.runs, strict=True)
    kept = [
        part.index_select(own.axis, reductions[name].support.to(part.device))
        if name is not None and name in reductions
        else part
        for part, (name, _) in parts
    ]
    return like_weight(weight, torch.cat(kept, own.axis))


def kept_states(buffer: Tensor, kept: Tensor) -> Tensor:
    """Return a buffer of states of the kept nodes, along the last axis that can be shortened."""
    for axis in reversed(range(buffer.ndim)):
        counts, moved = kept.sum(axis), buffer.movedim(axis, -1)
        if bool((counts == counts.flatten()[0]).all()):
            entries = moved[kept.movedim(axis, -1).to(buffer.device)]
            return like_weight(buffer, entries.view(*moved.shape[:-1], -1).movedim(-1, axis))
    return buffer


def folded(
    wide: Tensor, reader: Reader, reductions: Mapping[str, LayerReduction]
) -> tuple[Tensor, Tensor]:
    """Return a weight that reads kept nodes along its last axis, and what it adds to the result."""
    scale, shift = (
        torch.tensor(each, dtype=torch.float64) if each else torch.full((wide.shape[-1],), filling)
        for each, filling in ((reader.scale, 1.0), (reader.shift, 0.0))
    )
    parts, added, start = [], wide.new_zeros(wide.shape[:-1]), 0
    for name, width in reader.runs:
        columns = slice(start, start + width)
        read, start = wide[..., columns], start + width
        if name is not None and name in reductions:
            A, c = reductions[name].scaled(scale[columns].double(), shift[columns].double())
            read, added = read @ A, added + read @ c
        parts.append(read)
    return torch.cat(parts, dim=-1), added


def like_weight(weight: Tensor, value: Tensor) -> Tensor:
    """Return a parameter or buffer with another value, as the given one otherwise."""
    value = value.detach().to(weight).contiguous()
    return nn.Parameter(value, weight.requires_grad) if isinstance(weight, nn.Parameter) else value


def with_input(part: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a linear map or a layer with the given input weights."""
    if isinstance(part, nn.Linear):
        return resized(part, weight, bias)
    weights = weights_of(part) | {"weight_ih": weight}
    if bias is not None:
        weights |= {"bias_ih": bias, "bias_hh": weights.get("bias_hh", torch.zeros_like(bias))}
    return with_weights(part, weights, part.hidden_size)
