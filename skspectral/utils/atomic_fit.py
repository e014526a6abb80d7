"""Fits that change nothing when they fail."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state


class AtomicFitMixin(BaseEstimator):
    """An estimator that takes over the outcome of a fit as a whole."""

    random_state: int | np.random.RandomState | None
    _drawn: int | None = None  # what the fit goes by in place of random_state

    @contextmanager
    def _commit_on_success(self, new: Self) -> Iterator[Self]:
        """Take over what becomes of a copy, unless an error is raised.

        The random numbers of torch stay as they are.
        """
        self._check_params()
        new._drawn = drawn(self.random_state)
        # What is made in inference mode could neither be trained nor changed.
        with same_random_numbers(), torch.inference_mode(False), torch.enable_grad():
            yield new
        self.__dict__ = new.__dict__

    def _seed(self) -> int:
        """A seed for what is drawn, the same whenever it is needed."""
        return int(check_random_state(self._drawn or 0).randint(2**31 - 1))

    def _check_params(self) -> None:
        """Refuse parameters that cannot be used."""
        raise NotImplementedError


def drawn(random_state: Any) -> Any:
    """None or a seed as it is; of a generator, one number, so that it is drawn from once."""
    if random_state is None or isinstance(random_state, Integral):
        return random_state
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Leave the random numbers of torch as they are, those of the CPU and of every GPU."""
    # To ask a GPU that is not in use yet would take seconds and memory. It starts from the seed
    # that torch has, which is set once more instead.
    in_use, seed = torch.cuda.is_initialized(), torch.initial_seed()
    devices = range(torch.cuda.device_count()) if in_use else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if not in_use and torch.cuda.is_available():
                torch.cuda.manual_seed_all(seed)


def unfitted_copy(estimator: Any) -> Any:
    """A copy of an estimator with its parameters and none of its results."""
    fresh = copy.copy(estimator)
    for name in [name for name in vars(fresh) if name.endswith("_")]:
        delattr(fresh, name)
    return fresh
