"""The number of nodes that each layer keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..calibration.calibrator import Calibration
from ..utils.doc_hints import refer_to_docs
from .options import Allocation
from .parameters import count_nodes

ALLOCATIONS = get_args(Allocation)


def check_nodes(m: Any, name: str = "m", n_nodes: int | None = None) -> None:
    """Raise an error unless m can be a number of nodes."""
    if not isinstance(m, Mapping):
        count_nodes(m, n_nodes, name)
        return
    for layer, count in m.items():
        count_nodes(count, name=f"{name}[{layer!r}]")


@refer_to_docs("How many nodes")
def count_in_all(m: Any, sizes: Mapping[str, int], name: str = "m") -> int:
    """Return the number of nodes to keep in all layers together.

    Parameters
    ----------
    m : int or float
        Nodes, or a part of all.
    sizes : dict of int
        Nodes of every layer.
    name : str
        What m is called.

    Raises
    ------
    ValueError
        If a count is out of range or less than one for each layer, or m is a dict.
    TypeError
        If it is no number.
    """
    if isinstance(m, Mapping):
        raise ValueError(
            f"{name} must be a number for allocation='global'; got a dict, which says itself what "
            "each layer keeps. Give allocation='uniform' with it."
        )
    total = count_nodes(m, sum(sizes.values()), name)
    if total < len(sizes):
        raise ValueError(
            f"{name}={m!r} leaves {total} nodes to {len(sizes)} layers; give at least one for each."
        )
    return total


@refer_to_docs("How many nodes")
def count_by_layer(m: Any, sizes: Mapping[str, int], name: str = "m") -> dict[str, int]:
    """Return the number of nodes to keep in every layer.

    Parameters
    ----------
    m : int, float or dict
        For every layer, or by the name of a layer; layers that a dict leaves out keep all nodes.
    sizes : dict of int
        Nodes of every layer.
    name : str
        What m is called.

    Raises
    ------
    ValueError
        If a count is out of range or a layer unknown.
    TypeError
        If a count is no number.
    """
    if not isinstance(m, Mapping):
        return {layer: count_nodes(m, size, name) for layer, size in sizes.items()}
    unknown = [layer for layer in m if layer not in sizes]
    if unknown:
        raise ValueError(
            f"{name} has {unknown[0]!r}, which is no layer of the network; it has "
            f"{', '.join(map(repr, sizes))}."
        )
    return {
        layer: count_nodes(m[layer], size, f"{name}[{layer!r}]") if layer in m else size
        for layer, size in sizes.items()
    }


def node_counts(
    calibration: Calibration, m: Any, allocation: str, name: str = "m"
) -> dict[str, int]:
    """Return the number of nodes to keep in every layer."""
    sizes = {layer: problem.n_nodes for layer, problem in calibration.problems.items()}
    if allocation == "uniform" or len(sizes) == 1:
        return count_by_layer(m, sizes, name)
    return shared_budget(calibration.greedy_paths, count_in_all(m, sizes, name))


def intermediate_counts(
    calibration: Calibration, counts: Mapping[str, int], share: float
) -> dict[str, int]:
    """Return the nodes of every layer after a share of the way, by equal factors."""
    sizes = {layer: problem.n_nodes for layer, problem in calibration.problems.items()}
    if sizes.keys() != counts.keys():
        raise ValueError(
            f"n_rounds of FineTune must be 1 here, since the pruned network holds the layers "
            f"{sorted(sizes)} in place of {sorted(counts)}."
        )
    return {layer: round(size * (counts[layer] / size) ** share) for layer, size in sizes.items()}


def shared_budget(paths: Mapping[str, NDArray[np.float64]], n_nodes: int) -> dict[str, int]:
    """Allocate nodes to the layers where they reduce the relative losses most.

    Parameters
    ----------
    paths : dict of ndarray
        Relative loss of the first 0, 1, … nodes of every layer.
    n_nodes : int
        Nodes to keep in all.

    Returns
    -------
    dict of int
        Nodes of every layer.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.pruners.allocation import shared_budget
    >>> shared_budget({"easy": np.array([1.0, 0.1, 0.0]), "hard": np.array([1.0, 0.6, 0.2])}, 3)
    {'easy': 1, 'hard': 2}
    """
    steps = []
    for layer, path in paths.items():
        gains = -np.diff(convex_hull(path))
        steps += [(gain, layer) for gain in gains[1:]]
    counts = dict.fromkeys(paths, 1)
    for _, layer in sorted(steps, key=lambda step: -step[0])[: n_nodes - len(counts)]:
        counts[layer] += 1
    return counts


def convex_hull(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the greatest convex minorant of a sequence, whose gains decrease."""
    hull: list[int] = []
    for i in range(len(path)):
        while len(hull) > 1 and (path[hull[-1]] - path[hull[-2]]) * (i - hull[-2]) >= (
            path[i] - path[hull[-2]]
        ) * (hull[-1] - hull[-2]):
            hull.pop()
        hull.append(i)
    return np.interp(np.arange(len(path)), hull, path[hull])
