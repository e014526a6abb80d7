"""Readers fitted to the states that the pruned network reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .layers import RecurrentLayer, in_float64
from .surgery import ExpandedRNN

MOST_READ = 2**24  # numbers that are kept of what the dense network reads

# Positional and keyword arguments of ``forward``.
Pass = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class Refit:
    """Fits readers to the states that the pruned network reaches.

    A reader that takes in the reconstruction is right for the states of the dense network. Those
    of the pruned network drift away from them as its own errors come back to it. By least squares,
    reader ``V`` of drifted states ``z`` answers as ``W`` does to the states ``h`` of the dense
    network, ``V = (W C + λ V₀) (Z + λ I)⁻¹`` with the cross-moment ``C = mean h zᵀ`` and
    ``Z = mean z zᵀ``. It is drawn towards the folded reader ``V₀`` as ``m + 1`` readings would do,
    ``λ = Tr Z / n``. The layer's own weights stay: refitted to its own drift they would change it.

    Parameters
    ----------
    module : nn.Module
        The dense module.
    layer : RecurrentLayer
        Its layer.
    paths : tuple of str
        The readers. Where the reconstruction stays behind the layer, that is refitted instead.
    passes : sequence
        Forward passes to fit on; some at the end are left out when too much would be kept.
    known : dict
        What the dense network reads in them, where it has been worked out, by the readers.
    """

    module: nn.Module
    layer: RecurrentLayer
    paths: tuple[str, ...]
    passes: Sequence[Pass]
    known: dict[tuple[str, ...], list[list[Tensor]]] = field(default_factory=dict)

    def apply(self, small: nn.Module) -> None:
        """Refit the readers of a pruned module, in place."""
        expanded = isinstance(self.layer.of(small), ExpandedRNN)
        paths = () if expanded else self.paths
        if paths not in self.known:
            self.known[paths] = dense_states(self.module, self.layer, self.passes, paths)
        dense = self.known[paths]
        passes = self.passes[: len(dense)]
        drifted = [states_read(small, self.layer, each, paths) for each in passes]
        for i, (wide, narrow) in enumerate(self._readers(small, paths)):
            refit(wide, narrow, [(a[i], b[i]) for a, b in zip(dense, drifted, strict=True)])

    def _readers(
        self, small: nn.Module, paths: tuple[str, ...]
    ) -> Iterator[tuple[nn.Linear | None, nn.Linear]]:
        """Readers of the dense and of the pruned module."""
        for path in paths:
            wide, narrow = (module.get_submodule(path) for module in (self.module, small))
            yield cast(nn.Linear, wide), cast(nn.Linear, narrow)
        if not paths:
            yield None, cast(ExpandedRNN, self.layer.of(small)).expand


def dense_states(
    module: nn.Module, layer: RecurrentLayer, passes: Sequence[Pass], paths: tuple[str, ...]
) -> list[list[Tensor]]:
    """What the readers read in every pass, as long as that is not too much."""
    found: list[list[Tensor]] = []
    for each in passes:
        if sum(states.numel() for row in found for states in row) < MOST_READ:
            found.append(states_read(module, layer, each, paths))
    return found


@torch.inference_mode()
def states_read(
    module: nn.Module, layer: RecurrentLayer, forward: Pass, paths: tuple[str, ...]
) -> list[Tensor]:
    """What every reader reads; where there are none, the states that the layer itself reaches.

    Each (n_rows, n_nodes).
    """
    seen: list[list[Tensor]] = [[] for _ in paths or [layer.path]]

    def keep(states: Any, into: list[Tensor]) -> None:
        data = states.data if isinstance(states, PackedSequence) else states
        into.append(data.reshape(-1, data.shape[-1]))

    with ExitStack() as stack:
        for path, rows in zip(paths, seen, strict=False):
            reader = module.get_submodule(path)
            hook = reader.register_forward_pre_hook(
                partial(lambda into, _, x: keep(x[0], into), rows)
            )
            stack.enter_context(hook)
        if not paths:
            rnn: Any = layer.of(module)
            inner = rnn.rnn if isinstance(rnn, ExpandedRNN) else rnn
            hook = inner.register_forward_hook(lambda _, __, output: keep(output[0], seen[0]))
            stack.enter_context(hook)
        args, kwargs = forward
        module(*args, **kwargs)
    return [torch.cat(rows) if rows else torch.empty(0, 0) for rows in seen]


def refit(wide: nn.Linear | None, narrow: nn.Linear, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Refit one reader, in place, to pairs of what it should have read and what it reads.

    It stays as it is where the pairs do not match, or the pruned network explodes.
    """
    before = with_bias(narrow)
    size = before.shape[1]
    Z, C, n_rows = before.new_zeros(size, size), torch.zeros(()), 0
    for dense, drifted in pairs:
        if len(dense) != len(drifted) or not len(dense):
            return
        h = with_one(dense, wide is not None and wide.bias is not None)
        z = with_one(drifted, narrow.bias is not None)
        Z, C, n_rows = Z + z.T @ z, C + h.T @ z, n_rows + len(z)
    target = C if wide is None else with_bias(wide) @ C
    ridge = Z.trace() / n_rows or 1.0
    if not torch.isfinite(target).all() or not torch.isfinite(Z).all():
        return
    ridged = Z + ridge * torch.eye(size, dtype=Z.dtype)
    fitted = torch.linalg.solve(ridged, target + ridge * before, left=False)
    with torch.no_grad():
        narrow.weight.copy_(fitted[:, : narrow.in_features])
        if narrow.bias is not None:
            narrow.bias.copy_(fitted[:, -1])


def with_bias(linear: nn.Linear) -> Tensor:
    """Weight and bias side by side, in float64 on the CPU."""
    parts = [linear.weight] if linear.bias is None else [linear.weight, linear.bias[:, None]]
    return in_float64(torch.cat(parts, dim=1))


def with_one(states: Tensor, needed: bool) -> Tensor:
    """States in float64 on the CPU, with a one where a bias will be read."""
    states = in_float64(states)
    return torch.cat([states, torch.ones_like(states[:, :1])], dim=1) if needed else states
