"""Trainable copy of a small layer and its reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..kernels import LayerCall
from ..runtime.kinds import mode_of
from ..surgery.reduction import LayerReduction
from .gru import run_gru
from .windows import Windows

MANY = 128  # windows that run side by side if no gradients are needed


@dataclass(frozen=True)
class LayerFit:
    """Trainable weights of a small layer and of the map that rebuilds the lost nodes.

    Parameters
    ----------
    mode : str
        A key of ``GATES``.
    weights : dict of Tensor
        Weights of the small layer, which reads the inputs of the dense one.
    map : Tensor of shape (n_lost, m)
        Matrix that rebuilds the lost nodes.
    shift : Tensor of shape (n_lost,) or None
        Constant part of the reconstruction, if it has one.
    start : LayerReduction
        Reduction that the fit starts from.
    keeps_map : bool
        Whether the map and the shift are not trained, since another layer has the same.
    """

    mode: str
    weights: dict[str, Tensor]
    map: Tensor
    shift: Tensor | None
    start: LayerReduction
    keeps_map: bool = False

    @classmethod
    def of(cls, layer: nn.Module, reduction: LayerReduction, keeps_map: bool = False) -> LayerFit:
        """Make the fit of a layer, in float64 if the layer is, else in float32."""
        place = next(layer.parameters())
        dtype = torch.float64 if place.dtype == torch.float64 else torch.float32

        def trained(value: Tensor) -> Tensor:
            return value.detach().to(place.device, dtype, copy=True).requires_grad_()

        weights = {name: trained(each) for name, each in reduction.small_weights(layer).items()}
        shift = trained(reduction.c[reduction.lost]) if bool(reduction.c.any()) else None
        map_ = trained(reduction.A[reduction.lost])
        return cls(mode_of(layer), weights, map_, shift, reduction, keeps_map)

    @property
    def parameters(self) -> list[Tensor]:
        """Tensors that are trained."""
        maps = [] if self.keeps_map else [self.map, self.shift]
        return [*self.weights.values(), *(each for each in maps if each is not None)]

    @property
    def n_weights(self) -> int:
        """Number of weights of the small layer."""
        return sum(weight.numel() for weight in self.weights.values())

    def values(self) -> list[Tensor]:
        """Return copies of the trained tensors."""
        return [each.detach().clone() for each in self.parameters]

    @torch.no_grad()
    def set(self, values: Sequence[Tensor]) -> None:
        """Set the trained tensors to the given values."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    @property
    def reduction(self) -> LayerReduction:
        """Reduction with the present weights and reconstruction."""
        lost, A, c = self.start.lost, self.start.A.clone(), self.start.c.clone()
        A[lost] = in_cut(self.map)
        if self.shift is not None:
            c[lost] = in_cut(self.shift)
        fitted = {name: in_cut(weight) for name, weight in self.weights.items()}
        return replace(self.start, A=A, c=c, fitted=fitted)

    def error(self, windows: Windows, factor: Tensor) -> Tensor:
        """Return the mean over all steps of ``‖M (h − A s − c)‖²``, differentiable.

        Parameters
        ----------
        windows : Windows
            Windows whose states are ``M h``, as from ``Windows.seen_by``.
        factor : Tensor of shape (n_nodes, n_nodes)
            The matrix M.
        """
        support, lost = (each.to(factor.device) for each in (self.start.support, self.start.lost))
        start = tuple(each[:, support] for each in windows.start)
        weights = list(self.weights.values())
        call = LayerCall(self.mode, weights, windows.input, None, start)
        slow = self.mode == "GRU" and not windows.input.is_cuda
        states = run_gru(call) if slow else call.run()[0]
        seen = factor[:, support] + factor[:, lost] @ self.map
        shift = None if self.shift is None else factor[:, lost] @ self.shift
        error = (windows.states - nn.functional.linear(states, seen, shift)) * windows.valid
        return error.square().sum() / windows.lengths.sum()

    @torch.no_grad()
    def loss(self, windows: Windows, factor: Tensor) -> float:
        """Return ``error`` over all windows, without gradients and in parts of ``MANY`` windows."""
        parts = torch.arange(len(windows), device=windows.lengths.device).split(MANY)
        taken = [windows.take(index) for index in parts]
        total = sum(float(self.error(each, factor)) * int(each.lengths.sum()) for each in taken)
        return total / int(windows.lengths.sum())


def in_cut(value: Tensor) -> Tensor:
    """Return a copy of a tensor as ``LayerReduction`` holds it: float64 on the CPU."""
    return value.detach().to("cpu", torch.float64, copy=True)
