"""Types of the parameters of a pruner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import numpy as np
import torch

from ..rnn.losses.likelihood import Family
from ..selection.objective import Objective
from ..selection.reconstruction import Kind
from ..solvers import Solver
from ..training.distillation import Distillation
from ..training.finetune import FineTune

Allocation = Literal["global", "uniform"]
ObjectiveName = Literal["combined", "input", "one-step"]
Pooling = Literal["last", "mean", "sequence"]
StateSize = Literal["pruned", "dense"]
SolverName = Literal[
    "backward",
    "column_norm",
    "convex",
    "exchange",
    "exhaustive",
    "greedy",
    "leverage",
    "magnitude",
    "pivoted_cholesky",
    "random",
    "variance",
]
NodeCount = int | float | Mapping[str, int | float]


class PruneOptions(TypedDict, total=False):
    """Parameters of :class:`SpectralRNNPruner` other than the network and the nodes to keep."""

    allocation: Allocation
    tol: float | None
    max_divergence: float | None
    max_parameters: int | None
    solver: SolverName | Solver
    objective: ObjectiveName | Objective
    reconstruction: Kind
    likelihood: Family
    trajectory_fit: int
    n_refit: int
    distill: int | Distillation
    finetune: int | FineTune | None
    state_size: StateSize
    output: Pooling
    batch_size: int
    device: str | torch.device | None
    memory: Any
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    verbose: int
