"""Readers fitted to the states that the pruned network reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.find import RecurrentLayer, output_layers, states_of
from ..layers.weights import in_float64, independent_copy, reading_of
from ..layers.wrappers import Expanded, ExpandedCell
from ..tracing.readers import Readers
from .reduction import LayerReduction

MOST_READ = 2**24  # numbers that are kept of what the dense network reads

# Positional and keyword arguments of ``forward``.
Pass = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class ReadSite:
    """Where states are read: what enters a reader, or the states that leave a layer.

    Parameters
    ----------
    path : str
        The reader, or the layer.
    layer : RecurrentLayer or None
        The layer, if it is one.
    leaving : bool
        Whether the states that leave it are wanted.
    """

    path: str
    layer: RecurrentLayer | None = None
    leaving: bool = False

    def watch(self, module: nn.Module, into: list[Tensor]) -> None:
        """Keep what is read there, each (n_rows, n_nodes)."""

        def keep(given: Any) -> None:
            states = states_of(given)
            into.append(states.reshape(-1, states.shape[-1]))

        part = self.layer.of(module) if self.layer else module.get_submodule(self.path)
        if self.leaving:
            part.register_forward_hook(lambda _, __, output: keep(output))
        else:
            part.register_forward_pre_hook(
                lambda _, args, kwargs: keep(args or (kwargs["input"],)), with_kwargs=True
            )


@dataclass
class Refit:
    """Fits readers to the states that the pruned network reaches.

    A reader that takes in the reconstruction is right for the states of the dense network. Those
    of the pruned network drift away from them as its own errors come back to it. By least squares,
    reader ``V`` of drifted states ``z`` answers as ``W`` does to the states ``h`` of the dense
    network, ``V = (W C + λ V₀) (Z + λ I)⁻¹`` with the cross-moment ``C = mean h zᵀ`` and
    ``Z = mean z zᵀ``. It is drawn towards the folded reader ``V₀`` as ``m + 1`` readings would do,
    ``λ = Tr Z / n``. So are the weights by which a layer reads the states of those below it, one
    after another, unless they are fitted to its trajectory. Its own ``weight_hh`` stays: refitted
    to its own drift it would change that.

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
    known: dict[ReadSite, list[Tensor]] = field(default_factory=dict)

    def apply(self, small: nn.Module, reductions: Mapping[str, LayerReduction]) -> dict[str, str]:
        """Refit the readers of a pruned module, in place, from the first to the last.

        Returns
        -------
        dict of str
            By layer, which of its readers stayed as they were, and why.
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
        """The layers whose states are read in a place."""
        if place.leaving and place.layer:
            return [place.layer.name]
        readers = (each for each in self.readers.readers if each.path == place.path)
        return list(dict.fromkeys(name for each in readers for name, _ in each.runs if name))

    def places(self, small: nn.Module) -> Iterator[ReadSite]:
        """Where states are read, in the order in which that happens."""
        own = {layer.path: layer for layer in self.layers}
        hosts = {layer.name: layer.host for layer in self.layers}
        stays = {host for host in hosts.values() if isinstance(small.get_submodule(host), Expanded)}
        for reader in self.readers.readers:
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
        """Rows that stay: a cell goes on from the states it shows, so kept nodes are themselves."""
        layer = place.layer if place.leaving else None
        if layer is None or not isinstance(small.get_submodule(layer.host), ExpandedCell):
            return None
        return reductions[layer.name].support

    def _readers(
        self, small: nn.Module, place: ReadSite, reductions: Mapping[str, LayerReduction]
    ) -> tuple[Affine | None, Affine]:
        """The reader of the dense and of the pruned module."""
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
        rows = reductions[layer.name].rows(part) if layer.name in reductions else None
        return Affine.of(part, rows), Affine.of(layer.of(small))


def is_fitted(place: ReadSite, reductions: Mapping[str, LayerReduction]) -> bool:
    """Return whether what reads there is a layer that was fitted together with what it reads."""
    cut = reductions.get(place.layer.name) if place.layer and not place.leaving else None
    return cut is not None and cut.fitted is not None


@dataclass(frozen=True)
class Affine:
    """The weight and the bias of a reader."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, part: Any, rows: Tensor | None = None) -> Affine:
        """Those by which a module reads its input, or some rows of them."""
        weight, bias = reading_of(part)
        if rows is None:
            return cls(weight, bias)
        return cls(weight[rows], None if bias is None else bias[rows])

    @property
    def whole(self) -> Tensor:
        """Both side by side, in float64 on the CPU."""
        parts = [self.weight] if self.bias is None else [self.weight, self.bias[:, None]]
        return in_float64(torch.cat(parts, dim=1))

    @torch.no_grad()
    def set(self, whole: Tensor) -> None:
        """Take other values."""
        self.weight.copy_(whole[:, : self.weight.shape[1]])
        if self.bias is not None:
            self.bias.copy_(whole[:, -1])


def dense_states(
    module: nn.Module, places: Sequence[ReadSite], passes: Sequence[Pass]
) -> dict[ReadSite, list[Tensor]]:
    """What is read in some places in every pass, as long as that is not too much."""
    rows: list[list[Tensor]] = []
    for each in passes:
        if sum(states.numel() for row in rows for states in row) < MOST_READ:
            rows.append(states_read(module, places, each))
    return {place: [row[i] for row in rows] for i, place in enumerate(places)}


@torch.inference_mode()
def states_read(module: nn.Module, places: Sequence[ReadSite], forward: Pass) -> list[Tensor]:
    """What is read in some places, each (n_rows, n_nodes)."""
    module = independent_copy(module)
    seen: list[list[Tensor]] = [[] for _ in places]
    for place, into in zip(places, seen, strict=True):
        place.watch(module, into)
    args, kwargs = forward
    module(*args, **kwargs)
    return [torch.cat(rows) if rows else torch.empty(0, 0) for rows in seen]


def refit(
    wide: Affine | None,
    narrow: Affine,
    pairs: list[tuple[Tensor, Tensor]],
    fixed: Tensor | None = None,
) -> str | None:
    """Refit one reader, in place, to pairs of what it should have read and what it reads.

    Fixed rows stay as they are. All rows do where the pairs do not match, or the pruned network
    explodes: then the answer says so.
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
    """States in float64 on the CPU, with a one where a bias will be read."""
    states = in_float64(states)
    return torch.cat([states, torch.ones_like(states[:, :1])], dim=1) if needed else states
