"""Fits that change nothing when they fail."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state


class AllOrNothing(BaseEstimator):
    """An estimator that takes over the outcome of a fit as a whole."""

    random_state: int | np.random.RandomState | None

    def _become(self, fresh: Self, step: Callable[[Self], None]) -> Self:
        """Take over the outcome of a step on a copy; random numbers of torch stay as they were."""
        self._check_params()
        with torch.random.fork_rng(devices=[]):
            step(fresh)
        self.__dict__ = fresh.__dict__
        return self

    def _seed(self) -> int:
        """A seed for what is drawn, the same in every fit."""
        return int(check_random_state(self.random_state or 0).randint(2**31 - 1))

    def _check_params(self) -> None:
        """Refuse parameters that cannot be used."""
        raise NotImplementedError


def unfitted(estimator: Any) -> Any:
    """A copy of an estimator with its parameters and none of its results."""
    fresh = copy.copy(estimator)
    for name in [name for name in vars(fresh) if name.endswith("_")]:
        delattr(fresh, name)
    return fresh
