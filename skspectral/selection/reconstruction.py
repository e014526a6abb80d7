"""The linear map that rebuilds all nodes from the kept ones."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .problem import generalized_inverse

Array = NDArray[np.float64]
Kind = Literal["linear", "affine", "none"]
RECONSTRUCTIONS = get_args(Kind)


def centered(covariance: Array, mean: Array, kind: Kind) -> Array:
    """Return the second moment that a reconstruction uses: centered if it is affine."""
    return covariance - np.outer(mean, mean) if kind == "affine" else covariance


def reconstruct(
    covariance: Array, mean: Array, support: NDArray[np.intp], ridge: Array, kind: Kind = "linear"
) -> tuple[Array, Array]:
    """Return the reconstruction ``h ≈ A h_J + c`` of the hidden state from the kept nodes.

    Parameters
    ----------
    covariance : ndarray of shape (n_nodes, n_nodes)
        Σ, the non-centered second moment.
    mean : ndarray of shape (n_nodes,)
        μ, the mean; used by the affine reconstruction only.
    support : ndarray of int, shape (m,)
        The kept nodes J.
    ridge : ndarray of shape (n_nodes,)
        τ, added to the diagonal of ``Σ[J, J]``.
    kind : {"linear", "affine", "none"}, default="linear"
        ``A = Σ[:, J] (Σ[J, J] + I_τ)⁻¹`` and c = 0; the same with the centered covariance
        and ``c = μ − A μ_J``; or plain deletion, which rebuilds the kept nodes alone.

    Returns
    -------
    A : ndarray of shape (n_nodes, m)
        Kept nodes are rebuilt as themselves: their rows are those of the identity.
    c : ndarray of shape (n_nodes,)
        The constant part.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.selection.reconstruction import reconstruct
    >>> covariance = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> A, c = reconstruct(covariance, np.zeros(2), np.array([0]), np.zeros(2))
    >>> A
    array([[1. ],
           [0.5]])
    """
    n_nodes, m = len(covariance), len(support)
    A, c = np.zeros((n_nodes, m)), np.zeros(n_nodes)
    lost = np.setdiff1d(np.arange(n_nodes), support)
    if kind != "none":
        covariance = centered(covariance, mean, kind)
        kept = covariance[np.ix_(support, support)] + np.diag(ridge[support])
        A[lost] = covariance[np.ix_(lost, support)] @ generalized_inverse(kept)
    A[support] = np.eye(m)
    if kind == "affine":
        c[lost] = mean[lost] - A[lost] @ mean[support]
    return A, c


def reconstruction_loss(
    covariance: Array, mean: Array, weight: Array, A: Array, c: Array, support: NDArray[np.intp]
) -> float:
    """Return the weighted mean square of ``e = h − A h_J − c``: ``Tr(Q mean(e eᵀ))``.

    Parameters
    ----------
    covariance, mean : ndarray
        Σ and μ of the states to rebuild.
    weight : ndarray of shape (n_nodes, n_nodes)
        Q.
    A, c : ndarray
        The reconstruction.
    support : ndarray of int, shape (m,)
        The kept nodes J.

    Returns
    -------
    float
        The loss, in the units of ``Tr(Q Σ)``.
    """
    rest = np.eye(len(covariance))
    rest[:, support] -= A
    shift = np.outer(rest @ mean, c)
    error = rest @ covariance @ rest.T - shift - shift.T + np.outer(c, c)
    return max(float(np.vdot(weight, error)), 0.0)
