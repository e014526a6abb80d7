"""Solvers of the selection problem: which nodes to keep."""

from .base import Solver
from .convex import ConvexSolver
from .greedy import GreedySolver, extend
from .problem import Selection, SelectionProblem
from .random import RandomSolver

SOLVERS: dict[str, type[Solver]] = {
    "convex": ConvexSolver,
    "greedy": GreedySolver,
    "random": RandomSolver,
}

__all__ = [
    "SOLVERS",
    "ConvexSolver",
    "GreedySolver",
    "RandomSolver",
    "Selection",
    "SelectionProblem",
    "Solver",
    "extend",
]
