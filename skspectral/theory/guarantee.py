"""Guarantees for nodes drawn by their leverage scores."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from .spectrum import Array, Spectrum, degrees_of_freedom, lam_of


def sufficient_nodes(covariance: ArrayLike, lam: float, delta: float = 0.05) -> int:
    """Return the number of draws sufficient for a residual of at most 4λ.

    Of so many nodes, drawn independently by their leverage scores, the residual is
    ``E_J ⪯ 4λ Σ(Σ + λI)⁻¹`` with probability 1 − δ, and so has no eigenvalue above 4λ.

    Parameters
    ----------
    covariance : array-like of shape (n_nodes, n_nodes)
        Σ, positive semidefinite.
    lam : float
        The λ, in the units of Σ.
    delta : float, default=0.05
        Probability δ that it fails, above 0 and below 1.

    Returns
    -------
    int
        Draws, with repetition; it may well be more than there are nodes.

    Raises
    ------
    ValueError
        If lam is negative, or delta is not between 0 and 1.

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
        Draws, at least 1.
    delta : float, default=0.05
        Probability δ that it fails, above 0 and below 1.

    Returns
    -------
    float
        The λ, in the units of Σ. It says nothing where 4λ is the largest eigenvalue of Σ or more.

    Raises
    ------
    ValueError
        If m is below 1, or delta is not between 0 and 1.

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
    """Guarantee of the theorem for m nodes.

    It is about nodes that are drawn independently by their leverage scores. Since some draw keeps
    the promise, so does the best choice of m nodes.

    Parameters
    ----------
    m : int
        Nodes.
    delta : float
        Probability δ that a draw does not keep the promise.
    lam : float
        The smallest λ for which m draws suffice.
    degrees_of_freedom : float
        N(λ).
    leverage_scores : ndarray of shape (n_nodes,)
        Scores at λ, whose sum is N(λ).
    residual : float
        4λ, above all eigenvalues of the residual ``E_J``.
    information_loss : float
        ``4λ Tr(Q Σ(Σ + λI)⁻¹)``, above the loss ``Tr(Q E_J)``, over that of keeping nothing.

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
    leverage_scores: Array
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
            Q, which weighs the directions of the residual.
        m : int
            Nodes, at least 1.
        delta : float, default=0.05
            Probability δ that it fails, above 0 and below 1.

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
        """Return whether the guarantee is no better than keeping no node at all."""
        return self.information_loss >= 1.0


def draws(freedom: float, delta: float) -> float:
    """Return the number of draws that suffice for some degrees of freedom."""
    return 5.0 * freedom * log(16.0 * freedom / delta)


def affordable_freedom(m: int, delta: float) -> float:
    """Return the degrees of freedom for which m draws suffice."""
    check_delta(delta)
    if m < 1:
        raise ValueError(f"m must be an int of at least 1; got {m!r}.")
    # Draws grow with N from N = δ/16, where they are none; at N = m they are more than m.
    return float(optimize.brentq(lambda n: draws(n, delta) - m, delta / 16.0, m))


def check_delta(delta: float) -> None:
    """Refuse what is no probability of failure."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be a number between 0 and 1; got {delta!r}.")
