"""Sampling by leverage scores."""

from __future__ import annotations

import numpy as np

from ..selection.problem import Selection, SelectionProblem
from ..theory.spectrum import Spectrum
from .base import Solver, weighted_permutation
from .residual import extend


class LeverageSolver(Solver):
    """Draw nodes by their ridge leverage scores.

    Nodes are drawn independently with the probabilities ``[Σ(Σ + λI)⁻¹]_jj / N(λ)``, where
    ``N(λ) = Tr Σ(Σ + λI)⁻¹`` counts the degrees of freedom, until m of them are distinct. It
    is the sampling for which the theory of spectral pruning [1]_ gives a bound.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Seed of the draws.
    lam : float, optional
        The λ of the scores, in the units of Σ. If left out, the one with ``N(λ) = m``, or zero
        where Σ has no more than m degrees of freedom.
    refine : bool, default=False
        Whether to swap nodes until no swap lowers the loss.

    Raises
    ------
    ValueError
        If lam is negative.

    Notes
    -----
    The scores take the eigenvalues and eigenvectors of Σ, O(n_nodes³).

    References
    ----------
    .. [1] T. Furuya, K. Suetake, K. Taniguchi, H. Kusumoto, R. Saiin and T. Daimon, *Spectral
       Pruning for Recurrent Neural Networks*, AISTATS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import LeverageSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 0.0, 2.0]), np.eye(3), np.zeros(3))
    >>> LeverageSolver(random_state=0).select(problem, 2).support
    array([0, 2])
    """

    optimizes = False

    def __init__(
        self,
        random_state: int | np.random.RandomState | None = None,
        lam: float | None = None,
        refine: bool = False,
    ) -> None:
        self.random_state = random_state
        self.lam = lam
        self.refine = refine

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        if self.lam is not None and not self.lam >= 0.0:
            raise ValueError(f"lam must be None or a number of at least 0; got {self.lam!r}.")
        spectrum = Spectrum.of(problem.covariance)
        scores = spectrum.scores(spectrum.lam_of(m) if self.lam is None else self.lam)
        return extend(problem, weighted_permutation(problem, scores, self.random_state), m)
