"""Guarantees for nodes drawn by leverage scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, log
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from .spectrum import Array, Spectrum, degrees_of_freedom, lam_of


def sufficient_nodes(covariance: ArrayLike, lam: float, delta: float = 0.05) -> int:
    """Return the number of draws sufficient for a residual of at most 4λ.

    If this many nodes are drawn independently by leverage scores, the residual satisfies
    ``E_J ⪯ 4λ Σ(Σ + λI)⁻¹`` with probability 1 − δ, and so has no eigenvalue above 4λ.

    Parameters
    ----------
    covariance : array-like of shape (n_nodes, n_nodes)
        Σ, positive semidefinite.
    lam : float
        Value of λ, in the units of Σ.
    delta : float, default=0.05
        Probability δ that the bound fails, above 0 and below 1.

    Returns
    -------
    int
        Number of draws, with repetition. It can exceed the number of nodes.

    Raises
    ------
    ValueError
        If lam is negative, delta is not between 0 and 1, or covariance is not a symmetric matrix.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.theory import sufficient_nodes
    >>> sufficient_nodes(np.diag([4.0, 2.0, 1.0]), 1.0)
    64
    """
    check_delta(delta)
    return max(ceil(draws(degrees_of_freedom(covariance, lam), delta)), 1)


def certified_lam(covariance: ArrayLike, m: int, delta: float = 0.05) -> float:
    """Return the smallest λ for which m draws suffice.

    Parameters
    ----------
    covariance : array-like of shape (n_nodes, n_nodes)
        Σ, positive semidefinite.
    m : int
        Number of draws, at least 1.
    delta : float, default=0.05
        Probability δ that the bound fails, above 0 and below 1.

    Returns
    -------
    float
        Value of λ, in the units of Σ. The bound is vacuous if 4λ is at least the largest
        eigenvalue of Σ.

    Raises
    ------
    ValueError
        If m is below 1, delta is not between 0 and 1, or covariance is not a symmetric matrix.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.theory import certified_lam
    >>> round(certified_lam(np.diag([4.0, 2.0, 1.0]), 64), 2)
    0.97
    """
    return lam_of(covariance, affordable_freedom(m, delta))


@dataclass(frozen=True)
class Guarantee:
    """Bounds on the residual and the loss of m nodes drawn by leverage scores.

    The bounds apply to nodes drawn independently. Since some draw satisfies them, so does the best
    choice of m nodes.

    Parameters
    ----------
    m : int
        Number of nodes.
    delta : float
        Probability δ that a draw does not satisfy the bounds.
    lam : float
        The smallest λ for which m draws suffice.
    degrees_of_freedom : float
        N(λ).
    leverage_scores : ndarray of shape (n_nodes,)
        Leverage scores at λ; their sum is N(λ).
    residual : float
        4λ, an upper bound on the eigenvalues of the residual ``E_J``.
    information_loss : float
        ``4λ Tr(Q Σ(Σ + λI)⁻¹)``, an upper bound on the loss ``Tr(Q E_J)``, relative to the loss of
        keeping no nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.theory import Guarantee
    >>> covariance = np.diag(0.5 ** np.arange(200))
    >>> guarantee = Guarantee.of(covariance, np.eye(200), m=200)
    >>> round(guarantee.information_loss, 3), guarantee.is_vacuous
    (0.376, False)
    >>> Guarantee.of(covariance, np.eye(200), m=50).is_vacuous
    True
    """

    m: int
    delta: float
    lam: float
    degrees_of_freedom: float
    leverage_scores: Array = field(repr=False)
    residual: float
    information_loss: float

    @classmethod
    def of(cls, covariance: ArrayLike, weight: ArrayLike, m: int, delta: float = 0.05) -> Self:
        """Return the guarantee for m nodes.

        Parameters
        ----------
        covariance : array-like of shape (n_nodes, n_nodes)
            Σ, positive semidefinite.
        weight : array-like of shape (n_nodes, n_nodes)
            Q, the weight of the directions of the residual.
        m : int
            Number of nodes, at least 1.
        delta : float, default=0.05
            Probability δ that the bounds fail, above 0 and below 1.

        Returns
        -------
        Guarantee
            The guarantee.
        """
        covariance, weight = np.asarray(covariance), np.asarray(weight)
        spectrum = Spectrum.of(covariance)
        lam = spectrum.lam_of(affordable_freedom(m, delta))
        scores, vectors = spectrum.scores(lam), spectrum.vectors
        loss = 4.0 * lam * float(np.vdot(spectrum.shares(lam) * vectors, weight @ vectors))
        total = float(np.vdot(weight, covariance)) or 1.0
        return cls(m, delta, lam, float(scores.sum()), scores, 4.0 * lam, loss / total)

    @property
    def is_vacuous(self) -> bool:
        """Return whether the bound is not below the loss of keeping no nodes."""
        return self.information_loss >= 1.0


def draws(freedom: float, delta: float) -> float:
    """Return the number of draws that suffices for the given degrees of freedom."""
    return 5.0 * freedom * log(16.0 * freedom / delta) if freedom > 0.0 else 0.0


def affordable_freedom(m: int, delta: float) -> float:
    """Return the degrees of freedom for which m draws suffice."""
    check_delta(delta)
    if m < 1:
        raise ValueError(f"m must be an int of at least 1; got {m!r}.")
    # Draws grow with N from N = δ/16, where they are none; at N = m they are more than m.
    return float(optimize.brentq(lambda n: draws(n, delta) - m, delta / 16.0, m))


def check_delta(delta: float) -> None:
    """Raise if delta is not strictly between 0 and 1."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be a number between 0 and 1; got {delta!r}.")
