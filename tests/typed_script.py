"""A user's script, which ``mypy --strict`` accepts; ``make lint`` runs it."""

import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skspectral import Distillation, SpectralRNNPruner, SpectralRNNPrunerCV, prune
from skspectral.solvers import ConvexSolver


def smaller(module: nn.Module, X: torch.Tensor) -> nn.Module:
    """Prune every layer by its name."""
    sizes = {"l0": 8, "l1": 0.5}
    return prune(module, X, sizes, solver="greedy", likelihood="gaussian", distill=Distillation(2))


def within(module: nn.Module, X: torch.Tensor, most: float) -> int:
    """Find the smallest module that is good enough."""
    pruner = SpectralRNNPruner(module, m=0.9, max_divergence=most, solver=ConvexSolver())
    divergence: float = pruner.fit(X).divergence_
    assert divergence >= 0.0
    n_parameters: int = pruner.n_parameters_
    return n_parameters


def accuracy(X: np.ndarray[tuple[int, int, int], np.dtype[np.float32]], y: list[str]) -> float:
    """Score a pipeline."""
    pruner = SpectralRNNPrunerCV(ms=[4, 8], output="mean", allocation="uniform")
    pipeline = make_pipeline(FunctionTransformer(), pruner)
    score: float = pipeline.fit(X, y).score(X, y)
    return score
