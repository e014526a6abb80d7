"""Group lasso: a convex relaxation that penalizes the columns of the reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..selection.problem import Array, SelectionProblem

GAP_CHECK_INTERVAL = 10  # sweeps; a check costs as much as several of them
MAX_PENALTIES = 30
SMALLEST_PENALTY = 1e-8  # of the largest: columns still empty there are redundant


def group_lasso_supports(
    problem: SelectionProblem, m: int, tol: float, max_iter: int
) -> Iterator[tuple[NDArray[np.intp], float]]:
    """Return the m longest columns of the solution that uses at least m, and its gap."""
    columns, gap = search_penalty(GroupLasso.from_problem(problem), m, tol, max_iter)
    norms = linalg.norm(columns, axis=0)
    # Columns that are still empty follow in the order of their variance.
    yield np.sort(np.lexsort((-problem.covariance.diagonal(), -norms))[:m]), gap


def search_penalty(lasso: GroupLasso, m: int, tol: float, max_iter: int) -> tuple[Array, float]:
    """Return the columns at the largest λ found that uses at least m of them, and the gap."""
    low, high = 0.0, lasso.largest_penalty
    columns, gap = np.zeros_like(lasso.target), 0.0
    found = columns, gap
    for _ in range(MAX_PENALTIES):
        penalty = np.sqrt(low * high) if low else 0.5 * high
        if penalty <= SMALLEST_PENALTY * lasso.largest_penalty:
            break
        columns, gap = lasso.solve(penalty, columns, tol, max_iter)
        n_used = np.count_nonzero(columns.any(axis=0))
        if n_used >= m or not low:
            found = columns, gap
        low, high = (penalty, high) if n_used >= m else (low, penalty)
        if n_used == m:
            break
    return found


@dataclass(frozen=True)
class GroupLasso:
    """``½ constant − Tr C Mᵀ + ½ Tr C H Cᵀ + λ Σ_j ‖C[:, j]‖``."""

    hessian: Array  # H = Σ + I_τ, (n_nodes, n_nodes)
    target: Array  # M = S Σ, (rank of Q, n_nodes)
    constant: float  # Tr S Σ Sᵀ

    @classmethod
    def from_problem(cls, problem: SelectionProblem) -> GroupLasso:
        """Write a selection problem as a group lasso."""
        values, vectors = linalg.eigh(problem.weight)
        used = values > len(values) * np.finfo(float).eps * values[-1]
        root = np.sqrt(values[used, None]) * vectors[:, used].T  # S
        return cls(
            hessian=problem.covariance + np.diag(problem.ridge),
            target=root @ problem.covariance,
            constant=problem.total,
        )

    @property
    def largest_penalty(self) -> float:
        """Return the smallest λ at which no column is used."""
        return float(linalg.norm(self.target, axis=0).max(initial=0.0))

    def solve(self, penalty: float, start: Array, tol: float, max_iter: int) -> tuple[Array, float]:
        """Minimize for one λ from a start; return the columns and their relative gap."""
        columns = start.copy(order="F")
        for n_sweeps in count(step=GAP_CHECK_INTERVAL):
            gradient = columns @ self.hessian - self.target
            gap = self.gap(columns, gradient, penalty)
            if gap <= tol or n_sweeps >= max_iter:
                break
            entering = linalg.norm(gradient, axis=0) > penalty
            working = np.flatnonzero(columns.any(axis=0) | entering)
            columns[:, working] = self._sweep(columns[:, working], working, penalty)
        return columns, gap

    def _sweep(self, block: Array, working: np.ndarray, penalty: float) -> Array:
        """Minimize over each working column in turn, several times."""
        block = np.asfortranarray(block)
        hessian = self.hessian[np.ix_(working, working)]
        for _ in range(GAP_CHECK_INTERVAL):
            for i, j in enumerate(working):
                gradient = block @ hessian[i] - self.target[:, j]
                step = hessian[i, i] * block[:, i] - gradient
                length = linalg.norm(step)
                shrinkage = 1.0 - penalty / length if length > penalty else 0.0
                block[:, i] = shrinkage / hessian[i, i] * step
        return block

    def gap(self, columns: Array, gradient: Array, penalty: float) -> float:
        """Return the duality gap over the objective, with the scaled residual as dual point."""
        inner = self.constant - np.vdot(columns, self.target)
        residual = inner + np.vdot(columns, gradient)
        primal = 0.5 * residual + penalty * linalg.norm(columns, axis=0).sum()
        largest = linalg.norm(gradient, axis=0).max()
        scale = np.clip(inner / residual, 0.0, min(1.0, penalty / largest))
        return float(1.0 - (scale * inner - 0.5 * scale**2 * residual) / primal)
