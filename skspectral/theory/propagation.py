"""Propagation of state errors through time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .spectrum import Array


def propagated_errors(
    reading_errors: ArrayLike, recurrent_norm: float, lipschitz: float = 1.0
) -> Array:
    """Return bounds on the errors of the kept states of an Elman network at each step.

    The kept states are ``h = σ(a)`` in the dense network and ``z = σ(W x + U z' + c)`` in the
    pruned one; primes denote the previous step. Let ``r = ‖a − W x − U h' − c‖`` be the error of
    the pruned weights on the states of the dense network. Then ``d = ‖h − z‖`` is at most
    ``ρ (r + ‖U‖ d')``, with ``d = 0`` before the first step.

    Parameters
    ----------
    reading_errors : array-like of shape (..., n_steps)
        Error r at each step, for any number of sequences.
    recurrent_norm : float
        Norm ``‖U‖``, the largest singular value of ``weight_hh`` of the pruned network.
    lipschitz : float, default=1.0
        Lipschitz constant ρ of the activation σ: 1 for tanh and relu.

    Returns
    -------
    ndarray of shape (..., n_steps)
        The bound at each step. It can grow without limit if ``ρ ‖U‖`` is above 1.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> from skspectral.theory import propagated_errors
    >>> propagated_errors([0.0, 1.0, 1.0, 0.0], recurrent_norm=0.5)
    array([0.  , 1.  , 1.5 , 0.75])
    """
    errors = np.asarray(reading_errors, dtype=np.float64)
    bounds = np.zeros_like(errors)
    before: Any = 0.0
    with np.errstate(over="ignore"):
        for step in range(errors.shape[-1]):
            before = lipschitz * (errors[..., step] + recurrent_norm * before)
            bounds[..., step] = before
    return bounds
