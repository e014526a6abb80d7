"""Readers fitted to the states that the pruned network reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .expanded import ExpandedCell, ExpandedRNN
from .layers import RecurrentLayer, in_float64
from .readers import Readers

MOST_READ = 2**24  # numbers that are kept of what the dense network reads

# Positional and keyword arguments of ``forward``.
Pass = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """Where states are read: what enters a module, or the states that leave a layer.

    Parameters
    ----------
    path : str
        A reader; or of the states of a layer, its name.
    layer : RecurrentLayer or None
        The layer, where its states are wanted.
    """

    path: str
    layer: RecurrentLayer | None = None

    def watch(self, module: nn.Module, into: list[Tensor]) -> Any:
        """Keep what is read there, each (n_rows, n_nodes); returns the hook."""

        def keep(states: Any) -> None:
            data = states.data if isinstance(states, PackedSequence) else states
            into.append(data.reshape(-1, data.shape[-1]))

        if self.layer is None:
            part = module.get_submodule(self.path)
            return part.register_forward_pre_hook(lambda _, args: keep(args[0]))
        part = self.layer.of(module)
        return part.register_forward_hook(
            lambda _, __, output: keep(output if isinstance(output, Tensor) else output[0])
        )


@dataclass
class Refit:
    """Fits readers to the states that the pruned network reaches.

    A reader that takes in the reconstruction is right for the states of the dense network. Those
    of the pruned network drift away from them as its own errors come back to it. By least squares,
    reader ``V`` of drifted states ``z`` answers as ``W`` does to the states ``h`` of the dense
    network, ``V = (W C + λ V₀) (Z + λ I)⁻¹`` with the cross-moment ``C = mean h zᵀ`` and
    ``Z = mean z zᵀ``. It is drawn towards the folded reader ``V₀`` as ``m + 1`` readings would do,
    ``λ = Tr Z / n``. A layer's own ``weight_hh`` stays: refitted to its own drift it would change
    it.

    Parameters
    ----------
    module : nn.Module
        The dense module, laid out.
    layers : sequence of RecurrentLayer
        Its layers.
    readers : Readers
        Who reads them. Where a reconstruction stays a layer of its own, that is refitted.
    passes : sequence
        Forward passes to fit on; some at the end are left out when too much would be kept.
    known : dict
        What the dense network reads in them, where it has been worked out, by the place.
    """

    module: nn.Module
    layers: Sequence[RecurrentLayer]
    readers: Readers
    passes: Sequence[Pass]
    known: dict[Place, list[Tensor]] = field(default_factory=dict)

    def apply(self, small: nn.Module) -> None:
        """Refit the readers of a pruned module, in place, from the first to the last."""
        for place in self.places(small):
            if place not in self.known:
                self.known |= dense_states(self.module, [place], self.passes)
            dense = self.known[place]
            passes = self.passes[: len(dense)]
            drifted = [states_read(small, [place], each)[0] for each in passes]
            wide, narrow = self._readers(small, place)
            refit(wide, narrow, list(zip(dense, drifted, strict=True)))

    def places(self, small: nn.Module) -> Iterator[Place]:
        """Where states are read, in the order in which that happens."""
        expanded = {
            layer.name: layer
            for layer in self.layers
            if isinstance(small.get_submodule(layer.host), (ExpandedRNN, ExpandedCell))
        }
        for reader in self.readers.readers:
            names = {name for name, _ in reader.runs if name}
            inside = {layer.path for layer in self.layers}
            if reader.path not in inside and not names <= expanded.keys():
                yield Place(reader.path)
        for name, layer in expanded.items():
            yield Place(name, layer)

    def _readers(self, small: nn.Module, place: Place) -> tuple[Affine | None, Affine]:
        """The reader of the dense and of the pruned module."""
        if place.layer is None:
            wide, narrow = (module.get_submodule(place.path) for module in (self.module, small))
            return Affine.of(wide), Affine.of(narrow)
        host = cast(ExpandedRNN, small.get_submodule(place.layer.host))
        own = [layer.name for layer in self.layers if layer.host == place.layer.host]
        return None, Affine.of(host.expand[own.index(place.path)])


@dataclass(frozen=True)
class Affine:
    """The weight and the bias of a reader."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, part: nn.Module) -> Affine:
        """Those by which a module reads its input."""
        return cls(cast(Tensor, part.weight), cast(Tensor | None, part.bias))

    @property
    def whole(self) -> Tensor:
        """Both side by side, in float64 on the CPU."""
        parts = [self.weight] if self.bias is None else [self.weight, self.bias[:, None]]
        return in_float64(torch.cat(parts, dim=1))

    def set(self, whole: Tensor) -> None:
        """Take other values."""
        with torch.no_grad():
            self.weight.copy_(whole[:, : self.weight.shape[1]])
            if self.bias is not None:
                self.bias.copy_(whole[:, -1])


def dense_states(
    module: nn.Module, places: Sequence[Place], passes: Sequence[Pass]
) -> dict[Place, list[Tensor]]:
    """What is read in some places in every pass, as long as that is not too much."""
    rows: list[list[Tensor]] = []
    for each in passes:
        if sum(states.numel() for row in rows for states in row) < MOST_READ:
            rows.append(states_read(module, places, each))
    return {place: [row[i] for row in rows] for i, place in enumerate(places)}


@torch.inference_mode()
def states_read(module: nn.Module, places: Sequence[Place], forward: Pass) -> list[Tensor]:
    """What is read in some places, each (n_rows, n_nodes)."""
    seen: list[list[Tensor]] = [[] for _ in places]
    with ExitStack() as hooks:
        for place, into in zip(places, seen, strict=True):
            hooks.enter_context(place.watch(module, into))
        args, kwargs = forward
        module(*args, **kwargs)
    return [torch.cat(rows) if rows else torch.empty(0, 0) for rows in seen]


def refit(wide: Affine | None, narrow: Affine, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Refit one reader, in place, to pairs of what it should have read and what it reads.

    It stays as it is where the pairs do not match, or the pruned network explodes.
    """
    before = narrow.whole
    size = before.shape[1]
    Z, C, n_rows = before.new_zeros(size, size), torch.zeros(()), 0
    for dense, drifted in pairs:
        if len(dense) != len(drifted) or not len(dense):
            return
        h = with_one(dense, wide is not None and wide.bias is not None)
        z = with_one(drifted, narrow.bias is not None)
        Z, C, n_rows = Z + z.T @ z, C + h.T @ z, n_rows + len(z)
    target = C if wide is None else wide.whole @ C
    ridge = Z.trace() / n_rows or 1.0
    if torch.isfinite(target).all() and torch.isfinite(Z).all():
        ridged = Z + ridge * torch.eye(size, dtype=Z.dtype)
        narrow.set(torch.linalg.solve(ridged, target + ridge * before, left=False))


def with_one(states: Tensor, needed: bool) -> Tensor:
    """States in float64 on the CPU, with a one where a bias will be read."""
    states = in_float64(states)
    return torch.cat([states, torch.ones_like(states[:, :1])], dim=1) if needed else states
