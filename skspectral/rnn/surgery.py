"""Build the smaller module: fewer rows, reconstruction folded into every reader."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from .expanded import ExpandedCell, ExpandedRNN, StartedRNN
from .layers import (
    GATES,
    MISFITS,
    RecurrentLayer,
    empty_like,
    filled,
    in_float64,
    mode_of,
    replace,
    weights_of,
)
from .readers import Reader, Readers, input_weight


@dataclass(frozen=True)
class Cut:
    """The nodes to keep of a layer and the map that rebuilds the rest.

    Parameters
    ----------
    support : Tensor of int, shape (m,)
        The kept nodes, ascending.
    A : Tensor of shape (n_nodes, m)
        Reconstruction, float64.
    c : Tensor of shape (n_nodes,)
        Its constant part, float64.
    cell : tuple of Tensor or None
        The same two for the cell state of an LSTM, where another layer starts from it.
    """

    support: Tensor
    A: Tensor
    c: Tensor
    cell: tuple[Tensor, Tensor] | None = None

    @classmethod
    def from_arrays(cls, support: Any, A: Any, c: Any) -> Cut:
        """Take NumPy arrays."""
        return cls(torch.as_tensor(support), torch.as_tensor(A), torch.as_tensor(c))

    @classmethod
    def nothing(cls, n_nodes: int) -> Cut:
        """Keep all nodes."""
        eye = torch.eye(n_nodes, dtype=torch.float64)
        return cls(torch.arange(n_nodes), eye, torch.zeros(n_nodes, dtype=torch.float64))

    @classmethod
    def half(cls, n_nodes: int) -> Cut:
        """Keep some nodes and rebuild none: enough to see how a module is put together."""
        whole, m = cls.nothing(n_nodes), max(1, n_nodes // 2)
        return cls(whole.support[:m], whole.A[:, :m], whole.c)

    @property
    def n_nodes(self) -> int:
        """Nodes before."""
        return len(self.A)

    @property
    def of_cells(self) -> tuple[Tensor, Tensor]:
        """What rebuilds the cell state; where that is not known, the kept ones among zeros."""
        nothing = Cut.nothing(self.n_nodes)
        return self.cell or (nothing.A[:, self.support], nothing.c)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias that read the kept nodes as the given ones read all nodes."""
        wide = in_float64(weight)
        shift = wide @ self.c
        if bias is not None:
            shift += in_float64(bias)
        needed = bias is not None or bool(self.c.any())
        return wide @ self.A, shift if needed else None


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

    def last_level(self, host: str) -> tuple[str, ...]:
        """Names of the layers whose states a host puts out."""
        names = [layer.name for layer in self.layers if layer.host == host]
        both = getattr(self.module.get_submodule(host), "bidirectional", False)
        return tuple(names[-1 - both :])

    def warn(self) -> None:
        """Tell of reconstructions that stay."""
        for host, obstacle in self.unfolded().items():
            names = [repr(layer.name) for layer in self.layers if layer.host == host]
            warnings.warn(
                f"The reconstruction of layer{'s' * (len(names) > 1)} {', '.join(names)} stays a "
                f"linear layer of its own behind it, since its hidden state {obstacle}.",
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
        sizes = {layer.name: layer.of(self.module).hidden_size for layer in self.layers}
        cuts = {name: Cut.half(size) for name, size in sizes.items()}
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
        small = copy.deepcopy(self.module)
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
            small = replace(small, part, self._wrapped(part, own, host, host in expanded))
        return small

    def _wrapped(self, part: nn.Module, cuts: list[Cut], host: str, expand: bool) -> nn.Module:
        supports, wide = [cut.support for cut in cuts], self.module.get_submodule(host)
        if not expand:
            return StartedRNN(part, supports, [cut.n_nodes for cut in cuts], wide)
        kind = ExpandedCell if isinstance(wide, nn.RNNCellBase) else ExpandedRNN
        linear = [expanding(cut.A, cut.c, part) for cut in cuts]
        started = host in self.readers.cells
        cells = [expanding(*cut.of_cells, part) for cut in cuts] if started else []
        return kind(part, supports, linear, cells, wide)


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
    """Whether two tensors differ by less than half the digits of their dtype."""
    if not isinstance(a, Tensor) or a.shape != b.shape:
        return False
    if not b.is_floating_point():
        return True
    tolerance = torch.finfo(b.dtype).eps ** 0.5 * b.abs().amax() if b.numel() else 0.0
    return bool(((a - b).abs() <= tolerance).all())


def shrink_rnn(rnn: Any, cut: Cut) -> nn.Module:
    """The layer of the kept nodes alone: rows J of every gate block."""
    wide = weights_of(rnn)
    weight_hh, bias_hh = cut.fold(wide["weight_hh"], wide.get("bias_hh"))
    weights = {"weight_ih": in_float64(wide["weight_ih"]), "weight_hh": weight_hh}
    if bias_hh is not None:
        bias_ih = in_float64(wide["bias_ih"]) if rnn.bias else torch.zeros_like(bias_hh)
        weights |= {"bias_ih": bias_ih, "bias_hh": bias_hh}
    starts = torch.arange(GATES[mode_of(rnn)])[:, None] * rnn.hidden_size
    rows = (starts + cut.support).flatten()
    kept = {name: weight[rows] for name, weight in weights.items()}
    return with_weights(rnn, kept, len(cut.support))


def with_weights(rnn: nn.Module, weights: dict[str, Tensor], hidden_size: int) -> nn.Module:
    """A layer of the same kind with other weights."""
    end = "" if isinstance(rnn, nn.RNNCellBase) else "_l0"
    n_inputs = weights["weight_ih"].shape[1]
    empty = empty_like(rnn, hidden_size, "bias_hh" in weights, n_inputs)
    return filled(empty, {name + end: weight for name, weight in weights.items()}, rnn)


def narrowed(part: Any, reader: Reader, cuts: Mapping[str, Cut]) -> nn.Module:
    """A reader that reads the kept nodes of some layers as the given one reads all of them."""
    if not cuts:
        return part
    wide = in_float64(input_weight(part))
    biased = part.bias is not None and part.bias is not False
    shift = in_float64(input_bias(part)) if biased else torch.zeros(len(wide), dtype=wide.dtype)
    columns, start = [], 0
    for name, width in reader.runs:
        read = wide[:, start : start + width]
        start += width
        if name is not None and name in cuts:
            shift = shift + read @ cuts[name].c
            read = read @ cuts[name].A
        columns.append(read)
    needed = biased or any(bool(cut.c.any()) for cut in cuts.values())
    return with_input(part, torch.cat(columns, dim=1), shift if needed else None)


def input_bias(part: nn.Module) -> Tensor:
    """The bias beside ``input_weight``."""
    return part.bias if isinstance(part, nn.Linear) else weights_of(part)["bias_ih"]


def with_input(part: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A linear map or a layer with other weights for its input."""
    if isinstance(part, nn.Linear):
        small = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        return filled(small, {"weight": weight} | ({} if bias is None else {"bias": bias}), part)
    weights = weights_of(part) | {"weight_ih": weight}
    if bias is not None:
        weights |= {"bias_ih": bias, "bias_hh": weights.get("bias_hh", torch.zeros_like(bias))}
    return with_weights(part, weights, part.hidden_size)
