"""Convex relaxation: an A-optimal design over the nodes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize
from sklearn.exceptions import ConvergenceWarning

from .base import Solver
from .greedy import extend
from .problem import Array, Selection, SelectionProblem


class ConvexSolver(Solver):
    """Solve a convex relaxation, then keep its m largest nodes.

    Instead of being kept or not, node j is seen through noise of variance ``r / z_j``, and
    the loss of what cannot be rebuilt from all these views is convex in z::

        min_z  Tr Q (Σ − Σ (Σ + r diag(1/z))⁻¹ Σ),   0 ≤ z_j ≤ 1,   Σ_j z_j = m

    It is solved for several noise levels r, from coarse to fine; of the rounded
    solutions, the one of the lowest loss is taken, and its nodes are ordered greedily.

    Parameters
    ----------
    noise_levels : sequence of float
        Values of r, as fractions of the mean variance of a node.
    tol : float, default=1e-3
        Gap to the lower bound of the relaxed problem at which a solve stops, as a
        fraction of the relaxed loss.
    max_iter : int, default=200
        Projected gradient steps, for one noise level.

    Warns
    -----
    ConvergenceWarning
        When the taken solution has a larger gap than ``tol``; the gap is in the message
        and in ``Selection.gap``.

    Notes
    -----
    Small noise makes the relaxation useless (a node seen faintly is as good as one
    kept), large noise makes it another problem; which level rounds best depends on
    the spectrum of Σ. A step costs O(n_nodes³).

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral.solvers import ConvexSolver, SelectionProblem
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> ConvexSolver().select(problem, 2).support
    array([1, 2])
    """

    def __init__(
        self,
        noise_levels: Sequence[float] = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4),
        tol: float = 1e-3,
        max_iter: int = 200,
    ) -> None:
        self.noise_levels = noise_levels
        self.tol = tol
        self.max_iter = max_iter

    def _select(self, problem: SelectionProblem, m: int) -> Selection:
        if m == problem.n_nodes or problem.total == 0.0:
            return replace(extend(problem, (), m), gap=0.0)
        scale = problem.covariance.diagonal().mean()
        z = np.full(problem.n_nodes, m / problem.n_nodes)
        rounded = []
        for level in self.noise_levels:
            relaxed = RelaxedProblem(problem, level * scale)
            z, gradient, gap = relaxed.minimise(z, self.tol, self.max_iter)
            # Nodes at the same bound go by their gradient, whatever the last digits of z.
            largest = np.lexsort((gradient, -z.round(9)))[:m]
            rounded.append((problem.loss(np.sort(largest)), gap, largest))
        _, gap, largest = min(rounded, key=lambda candidate: candidate[0])
        if gap > self.tol:
            warnings.warn(
                f"ConvexSolver stopped with a gap of {gap:.1e}, above tol={self.tol:g}; "
                f"raise max_iter (now {self.max_iter}) or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return replace(extend(problem, (), m, among=largest), gap=gap)


@dataclass(frozen=True)
class RelaxedProblem:
    """The relaxation at one noise level."""

    problem: SelectionProblem
    noise: float

    def minimise(self, z: Array, tol: float, max_iter: int) -> tuple[Array, Array, float]:
        """Projected gradient descent; returns z, the gradient there and the relative gap."""
        m = round(z.sum())
        loss, gradient = self.evaluate(z)
        step = 1.0 / np.abs(gradient).max()
        for _ in range(max_iter):
            if self._gap(z, loss, gradient, m) <= tol:
                break
            while True:
                trial = project(z - step * gradient, m)
                trial_loss, trial_gradient = self.evaluate(trial)
                move = trial - z
                if trial_loss <= loss + gradient @ move + move @ move / (2.0 * step):
                    break
                step *= 0.5
            z, loss, gradient, step = trial, trial_loss, trial_gradient, 1.5 * step
        return z, gradient, self._gap(z, loss, gradient, m)

    def evaluate(self, z: Array) -> tuple[float, Array]:
        """Relaxed loss and its gradient, ``−diag(E Q E) / r``."""
        covariance, weight = self.problem.covariance, self.problem.weight
        seen = np.flatnonzero(z)
        root = np.sqrt(z[seen] / self.noise)
        views = covariance[:, seen] * root
        inner = root[:, None] * views[seen]
        inner[np.diag_indices_from(inner)] += 1.0
        half = linalg.solve_triangular(
            linalg.cholesky(inner, lower=True), views.T, lower=True, check_finite=False
        )
        residual = covariance - half.T @ half
        weighted = residual @ weight
        gradient = -np.einsum("ij,ij->i", weighted, residual) / self.noise
        return float(weighted.trace()), np.minimum(gradient, 0.0)

    @staticmethod
    def _gap(z: Array, loss: float, gradient: Array, m: int) -> float:
        """How far below the loss the tangent goes over all z, relative to the loss."""
        lowest = np.partition(gradient, m - 1)[:m].sum()
        return float((gradient @ z - lowest) / loss) if loss > 0.0 else 0.0


def project(z: Array, m: int) -> NDArray[np.float64]:
    """The nearest point with entries in [0, 1] that add up to m."""

    def excess(shift: float) -> float:
        return float(np.clip(z - shift, 0.0, 1.0).sum() - m)

    return np.clip(z - optimize.brentq(excess, z.min() - 1.0, z.max(), xtol=1e-15), 0.0, 1.0)
