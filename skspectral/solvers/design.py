"""A-optimal design: a convex relaxation in which nodes are observed with noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from ..selection.problem import Array, SelectionProblem

# As fractions of the mean variance of a node. Little noise makes the relaxation useless (a node
# seen faintly is as good as one kept), much noise makes it another problem.
NOISE_LEVELS = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)


def design_supports(
    problem: SelectionProblem, m: int, tol: float, max_iter: int
) -> Iterator[tuple[NDArray[np.intp], float]]:
    """Return the m largest nodes of the solution at each noise level, and its relative gap."""
    scale = problem.covariance.diagonal().mean()
    z = np.full(problem.n_nodes, m / problem.n_nodes)
    for level in NOISE_LEVELS:
        relaxed = DesignProblem(problem, level * scale)
        z, gradient, gap = relaxed.minimize(z, tol, max_iter)
        # Nodes at the same bound go by their gradient, whatever the last digits of z.
        yield np.sort(np.lexsort((gradient, -z.round(9)))[:m]), gap


@dataclass(frozen=True)
class DesignProblem:
    """The relaxed problem at one noise level."""

    problem: SelectionProblem
    noise: float

    def minimize(self, z: Array, tol: float, max_iter: int) -> tuple[Array, Array, float]:
        """Minimize by projected gradients; return z, its gradient and the relative gap."""
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
        """Return the relaxed loss and its gradient, ``−diag(E Q E) / r``."""
        covariance = self.problem.covariance
        seen = np.flatnonzero(z)
        root = np.sqrt(z[seen] / self.noise)
        views = covariance[:, seen] * root
        inner = root[:, None] * views[seen]
        inner[np.diag_indices_from(inner)] += 1.0
        half = linalg.solve_triangular(
            linalg.cholesky(inner, lower=True), views.T, lower=True, check_finite=False
        )
        residual = covariance - half.T @ half
        weighted = self.problem.weigh(residual)
        gradient = -np.einsum("ij,ij->j", weighted, residual) / self.noise
        return float(weighted.trace()), np.minimum(gradient, 0.0)

    @staticmethod
    def _gap(z: Array, loss: float, gradient: Array, m: int) -> float:
        """Return how far the tangent falls below the loss over all z, relative to the loss."""
        lowest = np.partition(gradient, m - 1)[:m].sum()
        return float((gradient @ z - lowest) / loss) if loss > 0.0 else 0.0


def project(z: Array, m: int) -> NDArray[np.float64]:
    """Return the nearest point with entries in [0, 1] that sum to m."""

    def excess(shift: float) -> float:
        return float(np.clip(z - shift, 0.0, 1.0).sum() - m)

    return np.clip(z - optimize.brentq(excess, z.min() - 1.0, z.max(), xtol=1e-15), 0.0, 1.0)
