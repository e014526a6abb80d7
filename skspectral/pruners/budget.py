"""Sizes by bisection: the largest within a budget, the smallest that is good enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

from ..calibration.calibrator import Calibration
from ..rnn.layers.weights import n_parameters
from ..rnn.surgery.reduction import LayerReduction

N_SIZES = 64  # that are told apart, from none of the nodes to as many as m allows


def largest(fits: Callable[[int], bool]) -> int:
    """Return the largest of the sizes that fit, by bisection; 1 if none does.

    Parameters
    ----------
    fits : callable
        Return whether a size from 1 to ``N_SIZES`` fits; if one does, all smaller ones do.
    """
    if fits(N_SIZES):
        return N_SIZES
    return bisected(fits, 1, N_SIZES)


def smallest(is_good: Callable[[int], bool]) -> int | None:
    """Return the smallest of the sizes that are good enough, by bisection; None if none is.

    Parameters
    ----------
    is_good : callable
        Return whether a size from 1 to ``N_SIZES`` is good; if one is, all larger ones are.
    """
    if not is_good(N_SIZES):
        return None
    return bisected(lambda size: not is_good(size), 0, N_SIZES) + 1


def bisected(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the last number from low for which something holds, which it does not for high."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def part_of(m: Any, size: int) -> Any:
    """Return a part of a number or a fraction of nodes, or of a dict of these."""
    if isinstance(m, Mapping):
        return {name: part_of(each, size) for name, each in m.items()}
    if isinstance(m, Integral):
        return max(1, round(int(m) * size / N_SIZES))
    return m * size / N_SIZES


def parameters_of(calibration: Calibration, counts: Mapping[str, int]) -> int:
    """Return the parameters of a network that keeps these numbers of nodes."""
    sizes = {name: problem.n_nodes for name, problem in calibration.problems.items()}
    reductions = {
        name: LayerReduction.keep_first(n, counts.get(name, n)) for name, n in sizes.items()
    }
    return n_parameters(calibration.surgery.build(reductions))
