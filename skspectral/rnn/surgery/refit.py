"""Refit of the readers to the states that the pruned network reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..hooks import captured
from ..layers.find import RecurrentLayer, output_layers, states_of
from ..layers.weights import in_float64, independent_copy, reading_of
from ..runtime.kinds import mode_of
from ..runtime.wrappers import Expanded, ExpandedCell
from ..tracing.readers import Readers
from .reduction import LayerReduction

MOST_READ = 2**24  # limit on recorded numbers of dense states

# Positional and keyword arguments of ``forward``.
Pass = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class ReadSite:
    """Place where states are read: the input of a reader, or the output of a layer.

    Parameters
    ----------
    path : str
        Path of the reader or of the layer.
    layer : RecurrentLayer or None
        The layer, if the place belongs to one.
    leaving : bool
        Whether the output is read rather than the input.
    """

    path: str
    layer: RecurrentLayer | None = None
    leaving: bool = False

    def part(self, module: nn.Module) -> nn.Module:
        """Return the part of a module whose inputs or outputs are the states."""
        return self.layer.of(module) if self.layer else module.get_submodule(self.path)

    def states(self, given: Any, output: Any) -> Tensor:
        """Return the states in a call of this part, (n_rows, n_nodes)."""
        states = states_of(output if self.leaving else given)
        return states.reshape(-1, states.shape[-1])


@dataclass
class Refit:
    """Least-squares refit of the readers to the states that the pruned network reaches.

    A reader with the reconstruction folded into it is right for the states of the dense network.
    The states of the pruned network drift away from those, because its errors feed back. The refit
    makes the reader ``V`` of drifted states ``z`` match the outputs of ``W`` on the states ``h`` of
    the dense network, by ridge regression: ``V = (W C + λ V₀) (Z + λ I)⁻¹`` with the cross-moment
    ``C = Σ h zᵀ`` and ``Z = Σ z zᵀ`` over ``n`` rows. ``λ = Tr Z / n`` shrinks ``V`` towards the
    folded reader ``V₀`` as strongly as ``m + 1`` rows would. The input weights of layers that read
    other layers are refitted as well, one after another, unless they are fitted to the trajectory.
    The ``weight_hh`` of a layer is not refitted, since that would change the drift itself.

    Parameters
    ----------
    module : nn.Module
        The dense module, with split layers.
    layers : sequence of RecurrentLayer
        Its layers.
    readers : Readers
        The readers of the hidden states. If a reconstruction remains a layer of its own, the
        reconstruction is refitted in place of the readers.
    passes : sequence
        Forward passes to fit on; the last ones are left out beyond ``MOST_READ`` recorded numbers.
    known : dict
        States that the dense network reads in the passes, by place, as far as already computed.
    """

    module: nn.Module
    layers: Sequence[RecurrentLayer]
    readers: Readers
    passes: Sequence[Pass]
    known: dict[ReadSite, list[Tensor]] = field(default_factory=dict)

    def apply(self, small: nn.Module, reductions: Mapping[str, LayerReduction]) -> dict[str, str]:
        """Refit the readers of a pruned module, in place, in the order of ``places``.

        Returns
        -------
        dict of str
            Readers that were not refitted, and why, by the name of the layer that they read.
        """
        notes: dict[str, list[str]] = {}
        for place in self.places(small):
            if is_fitted(place, reductions):
                continue
            if place not in self.known:
                self.known |= dense_states(self.module, [place], self.passes)
            dense = self.known[place]
            passes = self.passes[: len(dense)]
            drifted = [states_read(small, [place], each)[0] for each in passes]
            wide, narrow = self._readers(small, place, reductions)
            fixed = self._fixed(small, place, reductions)
            obstacle = refit(wide, narrow, list(zip(dense, drifted, strict=True)), fixed)
            for name in self._read_in(place) if obstacle else ():
                notes.setdefault(name, []).append(f"{place.path} is not refitted: {obstacle}")
        return {name: "; ".join(found) for name, found in notes.items()}

    def _read_in(self, place: ReadSite) -> list[str]:
        """Return the names of the layers whose states are read at a place."""
        if place.leaving and place.layer:
            return [place.layer.name]
        readers = (each for each in self.readers.readers if each.path == place.path)
        return list(dict.fromkeys(name for each in readers for name, _ in each.runs if name))

    def places(self, small: nn.Module) -> Iterator[ReadSite]:
        """Yield the places where states are read: first readers, then outputs of expanded hosts."""
        own = {layer.path: layer for layer in self.layers}
        hosts = self.readers.by_name({layer.name: layer.host for layer in self.layers})
        stays = {host for host in hosts.values() if isinstance(small.get_submodule(host), Expanded)}
        for reader in self.readers.called:
            layer = own.get(reader.path)
            read = {name for name, _ in reader.runs if name}
            inside = {layer.host} if layer else set()
            kept = any(hosts[name] not in stays - inside for name in read)
            if kept and (layer is None or layer.name not in read):
                yield ReadSite(reader.path, layer)
        for host in sorted(stays):
            for layer in output_layers(self.layers, self.module, host):
                yield ReadSite(layer.path, layer, leaving=True)

    def _fixed(
        self, small: nn.Module, place: ReadSite, reductions: Mapping[str, LayerReduction]
    ) -> Tensor | None:
        """Return the rows of a reconstruction that must not change, if any.

        An expanded cell continues from the states that it returns, so its kept nodes must be exact.
        """
        layer = place.layer if place.leaving else None
        if layer is None or not isinstance(small.get_submodule(layer.host), ExpandedCell):
            return None
        return reductions[layer.name].support

    def _readers(
        self, small: nn.Module, place: ReadSite, reductions: Mapping[str, LayerReduction]
    ) -> tuple[Affine | None, Affine]:
        """Return the reader in the dense module, None for the identity, and in the pruned one."""
        layer = place.layer
        if layer is None:
            wide, narrow = (module.get_submodule(place.path) for module in (self.module, small))
            return Affine.of(wide), Affine.of(narrow)
        if place.leaving:
            host: Any = small.get_submodule(layer.host)
            if isinstance(host, ExpandedCell):
                return None, Affine.of(host.expand[0])
            host.set_apart()
            last = output_layers(self.layers, self.module, layer.host)
            return None, Affine.of(host.expand_output[last.index(layer)])
        part = layer.of(self.module)
        rows = reductions[layer.name].rows(mode_of(part)) if layer.name in reductions else None
        return Affine.of(part, rows), Affine.of(layer.of(small))


def is_fitted(place: ReadSite, reductions: Mapping[str, LayerReduction]) -> bool:
    """Return whether the layer that reads at a place has weights fitted to the trajectory."""
    reduction = reductions.get(place.layer.name) if place.layer and not place.leaving else None
    return reduction is not None and reduction.fitted is not None


@dataclass(frozen=True)
class Affine:
    """Weight and bias of a reader."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, part: Any, rows: Tensor | None = None) -> Affine:
        """Take the input weight and bias of a module, or some of their rows."""
        weight, bias = reading_of(part)
        if rows is None:
            return cls(weight, bias)
        return cls(weight[rows], None if bias is None else bias[rows])

    @property
    def whole(self) -> Tensor:
        """Weight and bias side by side, float64 on the CPU."""
        parts = [self.weight] if self.bias is None else [self.weight, self.bias[:, None]]
        return in_float64(torch.cat(parts, dim=1))

    @torch.no_grad()
    def set(self, whole: Tensor) -> None:
        """Set the weight and the bias, given side by side."""
        self.weight.copy_(whole[:, : self.weight.shape[1]])
        if self.bias is not None:
            self.bias.copy_(whole[:, -1])


def dense_states(
    module: nn.Module, places: Sequence[ReadSite], passes: Sequence[Pass]
) -> dict[ReadSite, list[Tensor]]:
    """Return the states read at some places, one tensor per pass, up to ``MOST_READ`` numbers."""
    rows: list[list[Tensor]] = []
    for each in passes:
        if sum(states.numel() for row in rows for states in row) < MOST_READ:
            rows.append(states_read(module, places, each))
    return {place: [row[i] for row in rows] for i, place in enumerate(places)}


@torch.inference_mode()
def states_read(module: nn.Module, places: Sequence[ReadSite], forward: Pass) -> list[Tensor]:
    """Return the states read at some places in one pass, each (n_rows, n_nodes)."""
    module = independent_copy(module)
    args, kwargs = forward
    parts = {place: place.part(module) for place in places}
    with captured(parts, ReadSite.states) as seen:
        module(*args, **kwargs)
    return [torch.cat(seen[place]) if seen[place] else torch.empty(0, 0) for place in places]


def refit(
    wide: Affine | None,
    narrow: Affine,
    pairs: list[tuple[Tensor, Tensor]],
    fixed: Tensor | None = None,
) -> str | None:
    """Refit one reader, in place, to pairs of dense and drifted states.

    Fixed rows are not changed. If the pairs do not match or states are not finite, no row is
    changed, and the reason is returned.
    """
    before = narrow.whole
    size = before.shape[1]
    Z, C, n_rows = before.new_zeros(size, size), torch.zeros(()), 0
    for dense, drifted in pairs:
        if len(dense) != len(drifted):
            n_read = len(drifted), len(dense)
            return "it reads {} states where in the dense network it reads {}".format(*n_read)
        if not len(dense):
            return "it reads no states in one of the batches"
        h = with_one(dense, wide is not None and wide.bias is not None)
        z = with_one(drifted, narrow.bias is not None)
        Z, C, n_rows = Z + z.T @ z, C + h.T @ z, n_rows + len(z)
    target = C if wide is None else wide.whole @ C
    ridge = Z.trace() / n_rows or 1.0
    if not (torch.isfinite(target).all() and torch.isfinite(Z).all()):
        return "the states that it reads are not finite"
    ridged = Z + ridge * torch.eye(size, dtype=Z.dtype)
    fitted = torch.linalg.solve(ridged, target + ridge * before, left=False)
    if fixed is not None:
        fitted[fixed] = before[fixed]
    narrow.set(fitted)
    return None


def with_one(states: Tensor, needed: bool) -> Tensor:
    """Return states as float64 on the CPU, with a column of ones if a bias is needed."""
    states = in_float64(states)
    return torch.cat([states, torch.ones_like(states[:, :1])], dim=1) if needed else states
