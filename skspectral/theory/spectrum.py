"""Degrees of freedom and leverage scores of a covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize

Array = NDArray[np.float64]

SYMMETRY = 1e-8  # rounding of a covariance, relative to its largest entry


def degrees_of_freedom(covariance: ArrayLike, lam: Any) -> Any:
    """Return the degrees of freedom ``N(λ) = Tr Σ(Σ + λI)⁻¹``.

    Parameters
    ----------
    covariance : array-like of shape (n_nodes, n_nodes)
        Σ, positive semidefinite.
    lam : float or array-like of float
        Value of λ, in the units of Σ; at zero, N is the rank.

    Returns
    -------
    float or ndarray
        N(λ), between zero and n_nodes, with the shape of lam.

    Raises
    ------
    ValueError
        If lam is negative, or covariance is not a symmetric matrix.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.theory import degrees_of_freedom
    >>> degrees_of_freedom(np.diag([3.0, 1.0, 0.0]), 1.0)
    1.25
    """
    freedom = Spectrum.of(covariance).freedom(check_lam(lam))
    return freedom if freedom.ndim else float(freedom)


def leverage_scores(covariance: ArrayLike, lam: float) -> Array:
    """Return the leverage scores, the diagonal of ``Σ(Σ + λI)⁻¹``.

    Divided by their sum, ``N(λ)``, they are the sampling probabilities in the theory of spectral
    pruning.

    Parameters
    ----------
    covariance : array-like of shape (n_nodes, n_nodes)
        Σ, positive semidefinite.
    lam : float
        Value of λ, in the units of Σ; at zero, the scores are those of the projection onto the
        range of Σ.

    Returns
    -------
    ndarray of shape (n_nodes,)
        The score of each node, from zero to one.

    Raises
    ------
    ValueError
        If lam is negative, or covariance is not a symmetric matrix.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.theory import leverage_scores
    >>> leverage_scores(np.diag([3.0, 1.0, 0.0]), 1.0)
    array([0.75, 0.5 , 0.  ])
    """
    return Spectrum.of(covariance).scores(check_lam(lam))


def lam_of(covariance: ArrayLike, freedom: float) -> float:
    """Return the λ at which Σ has the given degrees of freedom.

    Parameters
    ----------
    covariance : array-like of shape (n_nodes, n_nodes)
        Σ, positive semidefinite.
    freedom : float
        Degrees of freedom, above zero.

    Returns
    -------
    float
        Value of λ, in the units of Σ; zero if the rank of Σ is not above ``freedom``.

    Raises
    ------
    ValueError
        If freedom is not above zero, or covariance is not a symmetric matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.theory import lam_of
    >>> round(lam_of(np.diag([3.0, 1.0, 0.0]), 1.25), 9)
    1.0
    """
    if not freedom > 0.0:
        raise ValueError(f"freedom must be a number above 0; got {freedom!r}.")
    return Spectrum.of(covariance).lam_of(freedom)


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a covariance above rounding error, ascending, with their eigenvectors."""

    values: Array
    vectors: Array

    @classmethod
    def of(cls, covariance: ArrayLike) -> Spectrum:
        """Return the spectrum of a covariance."""
        values, vectors = linalg.eigh(check_covariance(covariance))
        positive = values > len(values) * np.finfo(float).eps * values[-1]
        return cls(values[positive], vectors[:, positive])

    def shares(self, lam: Any) -> Array:
        """Return ``σ / (σ + λ)`` for each eigenvalue, along the last axis."""
        return self.values / (self.values + np.asarray(lam)[..., None])

    def freedom(self, lam: Any) -> Array:
        """Return N(λ)."""
        return np.asarray(self.shares(lam).sum(-1))

    def scores(self, lam: Any) -> Array:
        """Return the leverage scores at λ."""
        return self.vectors**2 @ self.shares(lam)

    def lam_of(self, freedom: float) -> float:
        """Return the λ with the given degrees of freedom; zero if the rank is not above them."""
        rank = len(self.values)
        if rank <= freedom:
            return 0.0

        def excess(log_lam: float) -> float:
            return float(self.freedom(np.exp(log_lam)) - freedom)

        # At the lower end N(λ) lacks less than what the rank is above freedom; at the upper, it is
        # below freedom.
        low = np.log(self.values[0]) + np.log((rank - freedom) / (2.0 * rank))
        high = np.log(self.values[-1]) + np.log(rank / freedom)
        return float(np.exp(optimize.brentq(excess, low, high)))


def check_covariance(covariance: ArrayLike) -> Array:
    """Return a covariance as an array after checking that it is a symmetric matrix."""
    found = np.asarray(covariance, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1]:
        raise ValueError(
            f"covariance must be of shape (n_nodes, n_nodes); got shape {found.shape}."
        )
    if not np.isfinite(found).all():
        raise ValueError("covariance must be finite; got NaN or infinity.")
    if not np.allclose(found, found.T, rtol=0.0, atol=SYMMETRY * np.abs(found).max()):
        raise ValueError("covariance must be symmetric.")
    return found


def check_lam(lam: Any) -> Array:
    """Return λ as an array after checking that no entry is negative or NaN."""
    found = np.asarray(lam, dtype=np.float64)
    if not (found >= 0.0).all():
        raise ValueError(f"lam must be a number of at least 0; got {lam!r}.")
    return found
