"""The result of gates for a layer, and where they start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rnn.layers.find import RecurrentLayer
from ..rnn.tracing.readers import Readers


@dataclass(frozen=True)
class GatedLayer:
    """The nodes of a layer whose gates stayed open.

    Parameters
    ----------
    support : ndarray of int, shape (m,)
        The kept nodes, ascending.
    ranking : ndarray of int, shape (n_nodes,)
        1 for the node most sure to stay, 2 for the next; ``m + 1`` for those not kept.
    """

    support: NDArray[np.intp]
    ranking: NDArray[np.intp]

    @classmethod
    def of(cls, support: NDArray[np.intp], log_alpha: NDArray[Any]) -> GatedLayer:
        """Return the layer of some gates."""
        ranking = np.full(len(log_alpha), len(support) + 1)
        order = support[np.argsort(-log_alpha[support], kind="stable")]
        ranking[order] = np.arange(1, len(support) + 1)
        return cls(support, ranking)

    @property
    def m(self) -> int:
        """Number of nodes kept."""
        return len(self.support)


def as_supports(initial: Any, sizes: Mapping[str, int]) -> dict[str | None, NDArray[np.intp]]:
    """Return the initial nodes of every layer, checked against its size."""
    if initial is None:
        return {}
    names, by_name = list(sizes), isinstance(initial, Mapping)
    found = initial if by_name else {names[0]: initial}
    if not ((by_name or len(names) == 1) and found.keys() <= sizes.keys()):
        raise ValueError(
            f"initial_support must hold nodes by the names of the layers, which are {names}; got "
            f"{initial!r}."
        )
    return {name: as_support(nodes, name, sizes[name]) for name, nodes in found.items()}


def as_support(nodes: Any, name: str, n_nodes: int) -> NDArray[np.intp]:
    """Return the initial nodes of a layer, checked to be distinct nodes of it."""
    try:
        found = np.asarray(nodes)
    except ValueError:  # of lists of unequal length
        found = np.asarray(None)
    rule = (
        f"initial_support of the layer {name!r} must hold at least one int from 0 to "
        f"{n_nodes - 1}, each once, as support_ of a fitted pruner does; got {nodes!r}."
    )
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(rule)
    distinct = found.ndim == 1 and len(np.unique(found)) == len(found) > 0
    if not distinct or found.min() < 0 or found.max() >= n_nodes:
        raise ValueError(rule)
    return found.astype(np.intp)


def check_followed(readers: Readers, layers: Sequence[RecurrentLayer]) -> None:
    """Refuse states that go ways on which no gate can stand."""
    if layers[0].host == "":
        raise ValueError(
            "estimator is a recurrent layer and nothing else, so no outputs can be compared with "
            "the targets; give a module with a head behind the layer."
        )
    for names in readers.ties.values():
        raise ValueError(
            f"estimator adds up the states of the layers {', '.join(map(repr, names))}, whose "
            "gates would have to be the same; give a module that joins them instead, or use "
            "SpectralRNNPruner."
        )
    for host, obstacle in readers.not_foldable.items():
        raise ValueError(
            f"estimator has a layer {host!r} whose readers no gates can stand at, since its "
            f"hidden state {obstacle}; give a module in which linear maps read it, or use "
            "SpectralRNNPruner."
        )
