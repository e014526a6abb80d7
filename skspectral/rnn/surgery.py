"""Build the smaller module: fewer rows, reconstruction folded into every reader."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from .cut import Cut, narrowed, shrink_rnn
from .expanded import ExpandedCell, ExpandedRNN, StartedCell, StartedRNN
from .layers import MISFITS, RecurrentLayer
from .readers import Readers
from .weights import copy_of, filled, replace


class Surgery:
    """Builds smaller modules of one dense module.

    How they are put together is settled once, on trial: the reconstruction is folded into
    the readers wherever the outcome is the same as with a linear layer of its own.

    Parameters
    ----------
    module : nn.Module
        The dense module, laid out; it is left as it is.
    layers : sequence of RecurrentLayer
        Its layers.
    readers : Readers
        Who reads them.
    arguments : tuple
        Positional and keyword arguments of a forward pass, on which folded and unfolded module
        must agree.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[RecurrentLayer],
        readers: Readers,
        arguments: tuple[Any, Any],
    ) -> None:
        self.module, self.layers, self.readers = module, tuple(layers), readers
        self._arguments = arguments
        self._inner = frozenset(layer.host for layer in layers if layer.host)
        self._plan: tuple[frozenset[str], frozenset[str]] | None = None

    def build(self, cuts: Mapping[str, Cut]) -> nn.Module:
        """A smaller module; layers without a cut keep all nodes."""
        return self._built(self._whole(cuts), *self._settled())

    def build_checked(self, cuts: Mapping[str, Cut]) -> nn.Module:
        """The same, unless it answers otherwise than with nothing folded."""
        small, (stays, _) = self.build(cuts), self._settled()
        if stays != self._inner:
            unfolded = self._built(self._whole(cuts), self._inner, frozenset())
            if not agree(small, unfolded, *self._arguments):
                self._plan = self._inner, frozenset()
                return unfolded
        return small

    def expanded(self, cuts: Mapping[str, Cut]) -> nn.Module:
        """The same with all reconstructions as layers of their own."""
        hosts = frozenset(layer.host for layer in self.layers)
        return self._built(self._whole(cuts), hosts, frozenset())

    def unfolded(self) -> dict[str, str]:
        """By host, why the reconstruction stays a layer of its own."""
        expanded = self._plan[0] if self._plan else frozenset()
        lost = "goes a way that could not be followed"
        return {host: self.readers.obstacles.get(host, lost) for host in sorted(expanded)}

    def warn(self) -> None:
        """Tell of reconstructions that stay."""
        for host, obstacle in self.unfolded().items():
            names = [repr(layer.name) for layer in self.layers if layer.host == host]
            warnings.warn(
                f"The reconstruction of layer{'s' * (len(names) > 1)} {', '.join(names)} stays a "
                f"linear layer of its own behind it, since its hidden state {obstacle}. "
                "The page 'Whole models' of the user guide tells more.",
                stacklevel=2,
            )

    def _whole(self, cuts: Mapping[str, Cut]) -> dict[str, Cut]:
        sizes = {layer.name: layer.of(self.module).hidden_size for layer in self.layers}
        return {name: cuts.get(name) or Cut.nothing(size) for name, size in sizes.items()}

    def _settled(self) -> tuple[frozenset[str], frozenset[str]]:
        """Hosts whose reconstruction stays, and those that are to be told where to start."""
        if self._plan is None:
            self._plan = self._settle()
        return self._plan

    def _settle(self) -> tuple[frozenset[str], frozenset[str]]:
        if not self._inner:
            return frozenset(), frozenset()
        cuts = {name: Cut.half(cut.n_nodes) for name, cut in self._whole({}).items()}
        args, kwargs = self._arguments
        expected = self._built(cuts, self._inner, frozenset())

        def agrees(expanded: frozenset[str], started: frozenset[str]) -> bool:
            return agree(self._built(cuts, expanded, started), expected, args, kwargs)

        stays, started = self._inner.intersection(self.readers.obstacles), self.readers.started
        for _ in range(2):
            for plan in dict.fromkeys(((stays, frozenset[str]()), (stays, started - stays))):
                if agrees(*plan):
                    return plan
            stays |= {
                host
                for host in self._inner - stays
                if not agrees(self._inner - {host}, started & {host})
            }
        return self._inner, frozenset()

    def _built(
        self, cuts: Mapping[str, Cut], expanded: Collection[str], started: Collection[str]
    ) -> nn.Module:
        small = copy_of(self.module)
        hosts = {layer.name: layer.host for layer in self.layers}
        of_path = {layer.path: layer.host for layer in self.layers}
        for reader in self.readers.readers:
            inside = of_path.get(reader.path)
            folded = {
                name: cuts[name]
                for name, _ in reader.runs
                if name and (hosts[name] not in expanded or hosts[name] == inside != reader.path)
            }
            part = small.get_submodule(reader.path)
            small = replace(small, part, narrowed(part, reader, folded))
        for layer in self.layers:
            part = small.get_submodule(layer.path)
            small = replace(small, part, shrink_rnn(part, cuts[layer.name]))
        for host in {*expanded, *started}:
            part = small.get_submodule(host)
            own = [cuts[layer.name] for layer in self.layers if layer.host == host]
            if any(len(cut.support) < cut.n_nodes for cut in own):
                small = replace(small, part, self._wrapped(part, own, host, host in expanded))
        return small

    def _wrapped(self, part: nn.Module, cuts: list[Cut], host: str, expand: bool) -> nn.Module:
        wide: Any = self.module.get_submodule(host)
        supports, size = [cut.support for cut in cuts], wide.hidden_size
        is_cell = isinstance(wide, nn.RNNCellBase)
        if not expand:
            started_kind = StartedCell if is_cell else StartedRNN
            return started_kind(part, supports, [cut.n_nodes for cut in cuts], size)
        kind = ExpandedCell if is_cell else ExpandedRNN
        linear = [expanding(cut.A, cut.c, part) for cut in cuts]
        started = host in self.readers.cells
        cells = [expanding(*cut.of_cells, part) for cut in cuts] if started else []
        return kind(part, supports, linear, cells, size)


def expanding(A: Tensor, c: Tensor, like: nn.Module) -> nn.Linear:
    """A reconstruction as a linear layer."""
    n_nodes, m = A.shape
    return filled(nn.Linear(m, n_nodes, device="meta"), {"weight": A, "bias": c}, like)


@torch.no_grad()
def agree(one: nn.Module, other: nn.Module, args: Any, kwargs: Any) -> bool:
    """Whether two modules answer the same, up to the rounding of their dtype."""
    expected = other(*args, **kwargs)
    try:
        answer = one(*args, **kwargs)
    except MISFITS:
        return False
    given, wanted = list(tree_iter(answer)), list(tree_iter(expected))
    if len(given) != len(wanted):
        return False
    return all(close(a, b) for a, b in zip(given, wanted, strict=True) if isinstance(b, Tensor))


def close(a: Any, b: Tensor) -> bool:
    """Whether two tensors overflow in the same places and elsewhere share half their digits."""
    if not isinstance(a, Tensor) or a.shape != b.shape:
        return False
    if not b.is_floating_point():
        return True
    finite = b.isfinite()
    if not torch.equal(a.isfinite(), finite):
        return False
    a, b = a[finite], b[finite]
    tolerance = torch.finfo(b.dtype).eps ** 0.5 * b.abs().amax() if b.numel() else 0.0
    return bool(((a - b).abs() <= tolerance).all())
