"""The input and the output of a solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class SelectionProblem:
    """Choose nodes of a layer so that a weighted residual is small.

    The loss of a support J is ``Tr(Q E_J)`` with
    ``E_J = Σ − Σ[:, J] (Σ[J, J] + I_τ)⁻¹ Σ[J, :]``. All arrays are promoted to float64
    and are read-only.

    Parameters
    ----------
    covariance : ndarray of shape (n_nodes, n_nodes)
        Σ, the time-mean second moment of the hidden state.
    weight : ndarray of shape (n_nodes, n_nodes)
        Q, symmetric positive semidefinite: how much each direction of the
        residual matters.
    ridge : ndarray of shape (n_nodes,)
        The entries of τ, added to the diagonal of ``Σ[J, J]``; zero stands for the
        pseudo-inverse.
    magnitude : ndarray of shape (n_nodes,), optional
        Norm of all weights into each node, for solvers that use it.

    Raises
    ------
    ValueError
        If the arrays are not of one number of nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import SelectionProblem
    >>> problem = SelectionProblem(np.diag([3.0, 2.0, 1.0]), np.eye(3), np.zeros(3))
    >>> float(problem.total)
    6.0
    >>> float(problem.loss([0, 1]))
    1.0
    >>> problem.lower_bound().round(9).tolist()
    [6.0, 3.0, 1.0, 0.0]
    """

    covariance: Array
    weight: Array
    ridge: Array
    magnitude: Array | None = None

    def __post_init__(self) -> None:
        for name in ("covariance", "weight", "ridge"):
            promoted = np.asarray(getattr(self, name), dtype=np.float64).view()
            promoted.setflags(write=False)  # solvers share the arrays with the pruner
            object.__setattr__(self, name, promoted)
        n_nodes = len(np.atleast_1d(self.covariance))
        for name, n_axes in (("covariance", 2), ("weight", 2), ("ridge", 1)):
            shape = (n_nodes,) * n_axes
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} must be of shape {shape}, for as many nodes as covariance has rows; "
                    f"got {getattr(self, name).shape}."
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_nodes={self.n_nodes}, total={self.total:.4g})"

    @property
    def n_nodes(self) -> int:
        """Number of nodes to choose from."""
        return len(self.covariance)

    @property
    def total(self) -> float:
        """Loss of the empty support, ``Tr(Q Σ)``."""
        return float(np.vdot(self.weight, self.covariance))

    @cached_property
    def identity_scale(self) -> float | None:
        """The scale of Q if that is a multiple of the identity, else None."""
        scale = float(self.weight[0, 0])
        is_identity = np.array_equal(self.weight, scale * np.eye(self.n_nodes))
        return scale if is_identity else None

    def weigh(self, x: Array) -> Array:
        """Return the product with Q, cheaply if Q is a multiple of the identity.

        Parameters
        ----------
        x : ndarray of shape (n_nodes,) or (n_nodes, n_columns)
            What to multiply.

        Returns
        -------
        ndarray
            ``Q x``, shaped like x.
        """
        return self.weight @ x if self.identity_scale is None else self.identity_scale * x

    def loss(self, support: NDArray[np.intp] | list[int]) -> float:
        """Return the loss ``Tr(Q E_J)`` of a support, by one direct solve.

        Parameters
        ----------
        support : array-like of int
            The kept nodes J.

        Returns
        -------
        float
            The information loss, in the units of ``total``.
        """
        support = np.asarray(support, dtype=np.intp)
        if support.size == 0:
            return self.total
        columns = self.covariance[:, support]
        kept = columns[support] + np.diag(self.ridge[support])
        explained = columns @ generalized_inverse(kept) @ columns.T
        return max(self.total - float(np.vdot(self.weight, explained)), 0.0)

    def lower_bound(self) -> Array:
        """Return a lower bound on the loss of any m nodes, for every m.

        The best rank-m approximation leaves the trailing eigenvalues of
        ``Q^½ Σ Q^½``, and keeping m nodes is one approximation of rank m.

        Returns
        -------
        ndarray of shape (n_nodes + 1,)
            Entry m bounds the loss of every support of m nodes.
        """
        return np.append(np.cumsum(self._spectrum)[::-1], 0.0)

    @cached_property
    def _spectrum(self) -> Array:
        """Eigenvalues of ``Q^½ Σ Q^½``, ascending; those that are rounding are zero."""
        root = symmetric_root(self.covariance)
        spectrum: Array = linalg.eigvalsh(root @ self.weight @ root)
        spectrum[spectrum < self.n_nodes * np.finfo(float).eps * spectrum[-1]] = 0.0
        return spectrum


@dataclass(frozen=True)
class Selection:
    """The nodes a solver chose.

    Parameters
    ----------
    order : ndarray of shape (m,)
        The kept nodes, the most important first.
    loss_path : ndarray of shape (m + 1,)
        Loss of the first 0, 1, …, m nodes of ``order``.
    gap : float or None
        For a relaxation, the gap it was solved to, as a fraction of the relaxed loss.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import Selection
    >>> Selection(np.array([2, 0]), np.array([3.0, 1.0, 0.5])).support
    array([0, 2])
    """

    order: NDArray[np.intp]
    loss_path: Array
    gap: float | None = None

    @property
    def support(self) -> NDArray[np.intp]:
        """The kept nodes in ascending order."""
        return np.sort(self.order)

    def truncate(self, m: int) -> Selection:
        """Cut to the first nodes.

        Parameters
        ----------
        m : int
            Nodes to keep.

        Returns
        -------
        Selection
            The first m nodes of the order, with their losses.
        """
        return replace(self, order=self.order[:m], loss_path=self.loss_path[: m + 1])


def generalized_inverse(matrix: Array) -> Array:
    """Return a generalized inverse of a positive semidefinite matrix.

    The rows are brought to one scale first, so that a node that hardly moves is not taken for a
    combination of the others.
    """
    scale = np.sqrt(matrix.diagonal())
    scale = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0.0)
    values, vectors = linalg.eigh(scale[:, None] * matrix * scale)
    kept = values > 10.0 * len(values) * np.finfo(float).eps * values[-1]
    vectors = scale[:, None] * vectors[:, kept]
    return (vectors / values[kept]) @ vectors.T


def symmetric_root(matrix: Array) -> Array:
    """Return the symmetric square root of a positive semidefinite matrix."""
    values, vectors = linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
