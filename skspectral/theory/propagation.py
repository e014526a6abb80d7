"""Propagation of errors in the state through time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .spectrum import Array


def propagated_errors(
    reading_errors: ArrayLike, recurrent_norm: float, lipschitz: float = 1.0
) -> Array:
    """Return bounds on the error of the kept states of an Elman network, step by step.

    Kept states of the dense network are ``h = σ(a)``, those of the small one ``z = σ(b)`` with
    ``b = W x + U z' + c``, where ``z'`` is of the step before. With ``r = ‖a − W x − U h' − c‖``,
    what the small network's weights get wrong on the states of the dense one, ``d = ‖h − z‖`` is
    at most ``ρ (r + ‖U‖ d')``, from ``d = 0`` before the first step.

    Parameters
    ----------
    reading_errors : array-like of shape (..., n_steps)
        The r of every step, of any number of sequences.
    recurrent_norm : float
        Norm ``‖U‖``, the largest singular value of the small network's ``weight_hh``.
    lipschitz : float, default=1.0
        The ρ of the activation σ: 1 for tanh and relu.

    Returns
    -------
    ndarray of shape (..., n_steps)
        The bound at every step; it grows without end where ``ρ ‖U‖`` is above 1.

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
