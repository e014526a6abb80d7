"""The information loss that a selection tries to keep small."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .solvers import SelectionProblem

Array = NDArray[np.float64]


class InformationLoss(BaseEstimator):
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
            If a weight or ``tau`` is negative or not finite, or all weights are zero.
        """
        self._check_weights()
        n_nodes = len(covariance)
        identity = np.eye(n_nodes)
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
        ridge = np.full(n_nodes, self.tau * covariance.diagonal().mean())
        return SelectionProblem(covariance, weight, ridge)

    def _check_weights(self) -> None:
        for name, value in self.get_params().items():
            rule = (
                f"{name} of InformationLoss must be a finite number of at least 0; got {value!r}."
            )
            if not isinstance(value, Real):
                raise TypeError(rule)
            if not 0.0 <= float(value) < np.inf:
                raise ValueError(rule)
        if self.input == self.output == self.recurrent == 0.0:
            raise ValueError(
                "input, output and recurrent of InformationLoss are all 0; "
                "give at least one of them a positive weight."
            )


OBJECTIVES: dict[str, InformationLoss] = {
    "combined": InformationLoss(),
    "input": InformationLoss(output=0.0, recurrent=0.0),
    "output": InformationLoss(input=0.0, recurrent=0.0),
    "recurrent": InformationLoss(input=0.0, output=0.0),
}
