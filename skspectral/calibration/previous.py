"""What is known of sequences seen before, and how it is added to what others show."""

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
    """What is known of sequences seen before.

    Parameters
    ----------
    moments : dict of HiddenStateMoments
        Moments of the hidden states, by layer.
    weights : dict of ndarray or None
        Sensitivities, by layer.
    sample : list
        Batches of them.
    """

    moments: Mapping[str, HiddenStateMoments] = field(default_factory=dict)
    weights: dict[str, Array] | None = None
    sample: list[Any] = field(default_factory=list)


def check_layers(before: Mapping[str, Any], moments: Mapping[str, Any]) -> None:
    """Refuse moments of some of the layers alone."""
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
    """Sensitivities over all steps seen."""
    if new is None or old is None or any(each is None for each in old.values()):
        return new
    found = {}
    for name, weight in new.items():
        share = added[name].n_steps / (added[name].n_steps + before[name].n_steps)
        found[name] = share * weight + (1.0 - share) * old[name]
    return found
