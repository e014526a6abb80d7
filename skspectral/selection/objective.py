"""The losses that a selection minimizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.base import BaseEstimator

from .problem import SelectionProblem

Array = NDArray[np.float64]
SYMMETRY, SEMIDEFINITE = 1e-8, 1e-8  # rounding of a weight, relative to its largest entry


class Objective(BaseEstimator, ABC):
    """Base class of the losses that a selection minimizes.

    A loss is a matrix Q: what is lost of the hidden state, ``E_J``, counts as ``Tr(Q E_J)``. A
    new loss implements ``weight``; its parameters can be grid-searched through the pruner
    as ``objective__<parameter>``.

    Attributes
    ----------
    tau : float
        Ridge on the kept nodes, as a fraction of the mean variance of a node.
    n_sensitivity : int
        Maximum number of sequences that the sensitivity is computed on.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral import Objective
    >>> class FirstNodeLoss(Objective):
    ...     def weight(self, covariance, recurrent, readers, sensitivity=None):
    ...         return np.diag([1.0] + [0.0] * (len(covariance) - 1))
    >>> FirstNodeLoss().problem(np.diag([3.0, 2.0]), np.eye(2), []).total
    3.0
    """

    tau: float = 1e-6
    n_sensitivity: int = 512

    @property
    def uses_sensitivity(self) -> bool:
        """Return whether the pruner has to compute the sensitivity."""
        return False

    @abstractmethod
    def weight(
        self,
        covariance: Array,
        recurrent: Array,
        readers: list[Array],
        sensitivity: Array | None = None,
    ) -> Array:
        """Return how much each direction of the residual matters.

        Parameters
        ----------
        covariance : ndarray of shape (n_nodes, n_nodes)
            Σ, the second moment of the hidden state.
        recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
            ``weight_hh`` of the layer.
        readers : list of ndarray of shape (n_outputs, n_nodes)
            Weights that read the hidden state outside the layer; may be empty.
        sensitivity : ndarray of shape (n_nodes, n_nodes), optional
            G, the effect on the outputs of errors in reading the state. The pruner passes it if
            ``uses_sensitivity`` is set.

        Returns
        -------
        ndarray of shape (n_nodes, n_nodes)
            Q, symmetric positive semidefinite.
        """

    def problem(
        self,
        covariance: Array,
        recurrent: Array,
        readers: list[Array],
        sensitivity: Array | None = None,
    ) -> SelectionProblem:
        """Write the loss of a layer as a selection problem.

        Parameters
        ----------
        covariance : ndarray of shape (n_nodes, n_nodes)
            Σ, the second moment of the hidden state.
        recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
            ``weight_hh`` of the layer.
        readers : list of ndarray of shape (n_outputs, n_nodes)
            Weights that read the hidden state outside the layer; may be empty.
        sensitivity : ndarray of shape (n_nodes, n_nodes), optional
            G, the effect on the outputs of errors in reading the state. The pruner passes it if
            ``uses_sensitivity`` is set. Without it, its term is left out.

        Returns
        -------
        SelectionProblem
            Covariance, weight Q and ridge τ.

        Raises
        ------
        ValueError
            If a parameter is negative or not finite, or if ``weight`` returns anything but a
            symmetric positive semidefinite matrix.
        TypeError
            If a parameter is no number.
        """
        self.check()
        ridge = np.full(len(covariance), self.tau * covariance.diagonal().mean())
        weight = self.weight(covariance, recurrent, readers, sensitivity)
        if found := fault_of(weight, covariance.shape):
            raise ValueError(
                f"weight of {type(self).__name__} must return a symmetric positive semidefinite "
                f"matrix of shape {covariance.shape}; got {found}."
            )
        return SelectionProblem(covariance, weight, ridge)

    def check(self) -> None:
        """Check the parameters.

        Raises
        ------
        ValueError
            If a parameter is out of its range.
        TypeError
            If a parameter is no number.
        """
        self._check_strength("tau")
        self._check_strength("n_sensitivity")
        if self.n_sensitivity < 1 or self.n_sensitivity % 1:
            raise ValueError(
                f"n_sensitivity of {type(self).__name__} must be an int of at least 1; "
                f"got {self.n_sensitivity!r}."
            )

    def _check_strength(self, name: str) -> None:
        value = getattr(self, name)
        kind = type(self).__name__
        rule = f"{name} of {kind} must be a finite number of at least 0; got {value!r}."
        if not isinstance(value, Real):
            raise TypeError(rule)
        if not 0.0 <= float(value) < np.inf:
            raise ValueError(rule)


def fault_of(weight: Any, shape: tuple[int, ...]) -> str:
    """Return, in words, why a value is no symmetric positive semidefinite matrix; "" if it is."""
    if weight is None:
        return "None; set uses_sensitivity = True if it needs the sensitivity"
    matrix = np.asarray(weight)
    if matrix.shape != shape:
        return f"an array of shape {matrix.shape}"
    if matrix.dtype.kind not in "biuf" or not np.isfinite(matrix).all():
        return "entries that are not finite numbers"
    scale = float(np.abs(matrix).max())
    if not np.allclose(matrix, matrix.T, rtol=0.0, atol=SYMMETRY * scale):
        return "a matrix that is not symmetric"
    try:
        linalg.cholesky(matrix + SEMIDEFINITE * scale * len(matrix) * np.eye(len(matrix)))
    except linalg.LinAlgError:
        return "a matrix with negative eigenvalues" if scale else ""
    return ""


class InformationLoss(Objective):
    """Weighted sum of the input, output and recurrent information losses, and the sensitivity.

    With ``E_J`` the residual of the reconstruction from the kept nodes J, the terms are
    ``Tr E_J`` (input), ``Tr W_o E_J W_oᵀ`` (output, ``W_o`` the readers outside the
    layer), ``Tr W_h E_J W_hᵀ`` (recurrent, ``W_h`` the recurrent weights of all gates) and
    ``Tr G E_J`` (sensitivity). The first three look one step ahead [1]_. G is the effect of an
    error in reading the state on the outputs and on the states, through all later steps. Each term
    is divided by its value at the empty support, so the weights have no unit.

    Parameters
    ----------
    input : float, default=1.0
        Weight of the input information loss.
    output : float, default=1.0
        Weight of the output information loss. A layer that nothing reads is its own
        output: this term is then the input information loss.
    recurrent : float, default=1.0
        Weight of the recurrent information loss.
    sensitivity : float, default=200.0
        Weight of the sensitivity. It takes two backward passes over ``n_sensitivity`` sequences. A
        network whose outputs have no derivative with respect to the states has none.
    n_sensitivity : int, default=512
        Maximum number of sequences that the sensitivity is computed on. If they are long, fewer
        are used: after 32,768 steps, no further batch is run.
    tau : float, default=1e-6
        Ridge on the kept nodes, as a fraction of the mean variance of a node.

    Notes
    -----
    G is the sum of two matrices ``mean_t g_t g_tᵀ``, each divided by its value at the empty
    support. In the first, ``g_t`` is the derivative of a random projection of the outputs (of the
    logits of a classifier) with respect to a vector that is added to the state of step t wherever
    it is read. In the second, it is that of a random projection of the states of all layers. Both
    are Gauss–Newton matrices of squared errors: the first measures the effect on the outputs, the
    second the effect on the future trajectory of the states. Neither needs labels.

    References
    ----------
    .. [1] T. Furuya, K. Suetake, K. Taniguchi, H. Kusumoto, R. Saiin and T. Daimon, *Spectral
       Pruning for Recurrent Neural Networks*, AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral import InformationLoss
    >>> loss = InformationLoss(recurrent=0.0)
    >>> problem = loss.problem(np.eye(2), recurrent=np.eye(2), readers=[np.array([[3.0, 4.0]])])
    >>> problem.weight
    array([[0.86, 0.48],
           [0.48, 1.14]])
    >>> float(problem.total)
    2.0
    """

    def __init__(
        self,
        input: float = 1.0,  # noqa: A002  the loss is called so in the paper
        output: float = 1.0,
        recurrent: float = 1.0,
        sensitivity: float = 200.0,
        n_sensitivity: int = 512,
        tau: float = 1e-6,
    ) -> None:
        self.input = input
        self.output = output
        self.recurrent = recurrent
        self.sensitivity = sensitivity
        self.n_sensitivity = n_sensitivity
        self.tau = tau

    @property
    def uses_sensitivity(self) -> bool:
        """Return whether the sensitivity has a weight."""
        return self.sensitivity > 0.0

    def weight(
        self,
        covariance: Array,
        recurrent: Array,
        readers: list[Array],
        sensitivity: Array | None = None,
    ) -> Array:
        """How much each direction of the residual matters.

        Parameters
        ----------
        covariance : ndarray of shape (n_nodes, n_nodes)
            Σ, the second moment of the hidden state.
        recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
            ``weight_hh`` of the layer.
        readers : list of ndarray of shape (n_outputs, n_nodes)
            Weights that read the hidden state outside the layer; may be empty.
        sensitivity : ndarray of shape (n_nodes, n_nodes), optional
            G, the effect on the outputs of errors in reading the state. The pruner passes it if
            ``uses_sensitivity`` is set.

        Returns
        -------
        ndarray of shape (n_nodes, n_nodes)
            Q, the weighted sum of the terms, each divided by ``Tr(Q Σ)`` of its own.

        Raises
        ------
        ValueError
            If a weight is negative or not finite, or all are zero.
        TypeError
            If a weight is no number.
        """
        self.check()
        identity = np.eye(len(covariance))
        outside = np.vstack(readers) if readers else identity
        terms = [
            (self.input, identity),
            (self.output, outside.T @ outside),
            (self.recurrent, recurrent.T @ recurrent),
        ]
        if sensitivity is not None:
            terms.append((self.sensitivity, sensitivity))
        weight = np.zeros_like(covariance)
        for strength, term in terms:
            unit = np.vdot(term, covariance)
            if unit > 0.0:
                weight += strength / unit * term
        return weight

    def check(self) -> None:
        """Check the parameters.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or all weights are zero.
        TypeError
            If a parameter is no number.
        """
        super().check()
        for name in TERMS:
            self._check_strength(name)
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(
                f"{', '.join(TERMS)} of InformationLoss are all 0; "
                "give at least one of them a positive weight."
            )


TERMS = ("input", "output", "recurrent", "sensitivity")
OBJECTIVES: dict[str, Objective] = {
    "combined": InformationLoss(),
    "one-step": InformationLoss(sensitivity=0.0),
    "input": InformationLoss(output=0.0, recurrent=0.0, sensitivity=0.0),
}
