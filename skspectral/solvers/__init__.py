"""Solvers of the selection problem: which nodes to keep."""

from ..selection.problem import Selection, SelectionProblem
from .backward import BackwardSolver
from .base import Solver
from .checks import check_solver
from .column_norm import ColumnNormSolver
from .convex import ConvexSolver
from .exchange import ExchangeSolver
from .exhaustive import ExhaustiveSolver
from .greedy import GreedySolver
from .leverage import LeverageSolver
from .magnitude import MagnitudeSolver
from .pivoted_cholesky import PivotedCholeskySolver
from .random import RandomSolver
from .residual import extend
from .variance import VarianceSolver

SOLVERS: dict[str, type[Solver]] = {
    "backward": BackwardSolver,
    "column_norm": ColumnNormSolver,
    "convex": ConvexSolver,
    "exchange": ExchangeSolver,
    "exhaustive": ExhaustiveSolver,
    "greedy": GreedySolver,
    "leverage": LeverageSolver,
    "magnitude": MagnitudeSolver,
    "pivoted_cholesky": PivotedCholeskySolver,
    "random": RandomSolver,
    "variance": VarianceSolver,
}

__all__ = [
    "SOLVERS",
    "BackwardSolver",
    "ColumnNormSolver",
    "ConvexSolver",
    "ExchangeSolver",
    "ExhaustiveSolver",
    "GreedySolver",
    "LeverageSolver",
    "MagnitudeSolver",
    "PivotedCholeskySolver",
    "RandomSolver",
    "Selection",
    "SelectionProblem",
    "Solver",
    "VarianceSolver",
    "check_solver",
    "extend",
]
