"""Fits that do not change the estimator if they fail."""

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

from .doc_link import DocLinkMixin


class AtomicFitMixin(DocLinkMixin, BaseEstimator):
    """Mixin of estimators that are fitted as a copy, whose results are adopted on success."""

    random_state: int | np.random.RandomState | None
    _drawn: int | None = None  # seed that the fit uses in place of random_state

    @contextmanager
    def _commit_on_success(self, new: Self) -> Iterator[Self]:
        """Adopt the attributes of a fitted copy, unless an error is raised.

        torch's global random state is not changed.
        """
        self._check_params()
        new._drawn = drawn(self.random_state)
        # Tensors made in inference mode could not be trained or changed later.
        with same_random_numbers(), torch.inference_mode(False), torch.enable_grad():
            yield new
        self.__dict__ = new.__dict__

    def _seed(self) -> int:
        """Return the seed of the fit, the same at every call."""
        return int(check_random_state(self._drawn or 0).randint(2**31 - 1))

    def _check_params(self) -> None:
        """Raise if a parameter is not valid."""
        raise NotImplementedError


def drawn(random_state: Any) -> Any:
    """Return None or a seed unchanged, or a seed drawn from a generator.

    A generator is thus used only once in a fit.
    """
    if random_state is None or isinstance(random_state, Integral):
        return random_state
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Restore torch's global random states of the CPU and of every GPU afterwards."""
    # Reading the state of an unused GPU would initialize it, which takes seconds and memory.
    # Its state follows from torch's initial seed, which is set again instead.
    in_use, seed = torch.cuda.is_initialized(), torch.initial_seed()
    devices = range(torch.cuda.device_count()) if in_use else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if not in_use and torch.cuda.is_available():
                torch.cuda.manual_seed_all(seed)


def unfitted_copy(estimator: Any) -> Any:
    """Return a copy of an estimator without its fitted attributes."""
    fresh = copy.copy(estimator)
    for name in [name for name in vars(fresh) if name.endswith("_")]:
        delattr(fresh, name)
    return fresh
