"""The information loss that a selection tries to keep small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .solvers import SelectionProblem

Array = NDArray[np.float64]


class Objective(BaseEstimator, ABC):
    """Base class of the losses a selection can keep small.

    A loss is a matrix Q: what is lost of the hidden state, ``E_J``, counts as ``Tr(Q E_J)``. A
    new loss implements ``weight``; its parameters can be grid-searched through the pruner
    as ``objective__<parameter>``.

    Attributes
    ----------
    tau : float
        Ridge on the kept nodes, as a fraction of the mean variance of a node.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.objective import Objective
    >>> class FirstNodeLoss(Objective):
    ...     def weight(self, covariance, recurrent, readers):
    ...         return np.diag([1.0] + [0.0] * (len(covariance) - 1))
    >>> FirstNodeLoss().problem(np.diag([3.0, 2.0]), np.eye(2), []).total
    3.0
    """

    tau: float = 1e-6

    @abstractmethod
    def weight(self, covariance: Array, recurrent: Array, readers: list[Array]) -> Array:
        """How much each direction of the residual matters.

        Parameters
        ----------
        covariance : ndarray of shape (n_nodes, n_nodes)
            Σ, the second moment of the hidden state.
        recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
            ``weight_hh`` of the layer.
        readers : list of ndarray of shape (n_outputs, n_nodes)
            Weights that read the hidden state outside the layer; may be empty.

        Returns
        -------
        ndarray of shape (n_nodes, n_nodes)
            Q, symmetric positive semidefinite.
        """

    def problem(
        self, covariance: Array, recurrent: Array, readers: list[Array]
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

        Returns
        -------
        SelectionProblem
            Covariance, weight Q and ridge τ.

        Raises
        ------
        ValueError
            If a parameter is negative or not finite.
        TypeError
            If a parameter is no number.
        """
        self._check_strength("tau")
        ridge = np.full(len(covariance), self.tau * covariance.diagonal().mean())
        return SelectionProblem(covariance, self.weight(covariance, recurrent, readers), ridge)

    def _check_strength(self, name: str) -> None:
        value = getattr(self, name)
        kind = type(self).__name__
        rule = f"{name} of {kind} must be a finite number of at least 0; got {value!r}."
        if not isinstance(value, Real):
            raise TypeError(rule)
        if not 0.0 <= float(value) < np.inf:
            raise ValueError(rule)


class InformationLoss(Objective):
    """Weighted sum of the input, output and recurrent information losses.

    With ``E_J`` what the kept nodes J cannot rebuild of the hidden state, the terms are
    ``Tr E_J`` (input), ``Tr W_o E_J W_oᵀ`` (output, ``W_o`` the readers outside the
    layer) and ``Tr W_h E_J W_hᵀ`` (recurrent, ``W_h`` the recurrent weights of all
    gates). Each is divided by its value at the empty support, so the weights have no
    unit.

    Parameters
    ----------
    input : float, default=1.0
        Weight of the input information loss.
    output : float, default=1.0
        Weight of the output information loss. A layer that nothing reads is its own
        output: this term is then the input information loss.
    recurrent : float, default=1.0
        Weight of the recurrent information loss.
    tau : float, default=1e-6
        Ridge on the kept nodes, as a fraction of the mean variance of a node.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

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
        tau: float = 1e-6,
    ) -> None:
        self.input = input
        self.output = output
        self.recurrent = recurrent
        self.tau = tau

    def weight(self, covariance: Array, recurrent: Array, readers: list[Array]) -> Array:
        """How much each direction of the residual matters.

        Parameters
        ----------
        covariance : ndarray of shape (n_nodes, n_nodes)
            Σ, the second moment of the hidden state.
        recurrent : ndarray of shape (n_gates * n_nodes, n_nodes)
            ``weight_hh`` of the layer.
        readers : list of ndarray of shape (n_outputs, n_nodes)
            Weights that read the hidden state outside the layer; may be empty.

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
        self._check_strengths()
        identity = np.eye(len(covariance))
        outside = np.vstack(readers) if readers else identity
        terms = (
            (self.input, identity),
            (self.output, outside.T @ outside),
            (self.recurrent, recurrent.T @ recurrent),
        )
        weight = np.zeros_like(covariance)
        for strength, term in terms:
            unit = np.vdot(term, covariance)
            if unit > 0.0:
                weight += strength / unit * term
        return weight

    def _check_strengths(self) -> None:
        for name in ("input", "output", "recurrent"):
            self._check_strength(name)
        if self.input == self.output == self.recurrent == 0.0:
            raise ValueError(
                "input, output and recurrent of InformationLoss are all 0; "
                "give at least one of them a positive weight."
            )


OBJECTIVES: dict[str, Objective] = {
    "combined": InformationLoss(),
    "input": InformationLoss(output=0.0, recurrent=0.0),
    "output": InformationLoss(input=0.0, recurrent=0.0),
    "recurrent": InformationLoss(input=0.0, output=0.0),
}
