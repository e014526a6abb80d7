"""Results of earlier calibrations, and their combination with new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .moments import HiddenStateMoments

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PreviousCalibration:
    """Results of the calibration on sequences seen before.

    Parameters
    ----------
    moments : dict of HiddenStateMoments
        Moments of the hidden states, by layer.
    weights : dict of ndarray or None
        Sensitivities, by layer.
    sample : list
        Sample of the batches.
    """

    moments: Mapping[str, HiddenStateMoments] = field(default_factory=dict)
    weights: dict[str, Array] | None = None
    sample: list[Any] = field(default_factory=list)


def check_layers(before: Mapping[str, Any], moments: Mapping[str, Any]) -> None:
    """Raise if earlier moments lack one of the layers."""
    if missing := sorted(moments.keys() - before.keys()):
        raise ValueError(
            f"moments lack the layers {missing}; give those of all layers that run on X, which are "
            f"{sorted(moments)}."
        )


def averaged(
    new: dict[str, Array] | None,
    old: dict[str, Array] | None,
    added: dict[str, HiddenStateMoments],
    before: Mapping[str, HiddenStateMoments],
) -> dict[str, Array] | None:
    """Return the mean of new and old sensitivities, weighted by their numbers of steps."""
    if new is None or old is None or any(each is None for each in old.values()):
        return new
    found = {}
    for name, weight in new.items():
        share = added[name].n_steps / (added[name].n_steps + before[name].n_steps)
        found[name] = share * weight + (1.0 - share) * old[name]
    return found
