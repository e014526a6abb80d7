"""Pruned networks on trial: between the solver, which knows nodes, and the module."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from .objective import InformationLoss
from .reconstruction import Kind, reconstruct
from .rnn.closed_loop import ClosedLoop
from .rnn.likelihood import Likelihood
from .rnn.readers import Readers
from .rnn.states import StateCollector
from .rnn.surgery import Cut
from .solvers import Trials
from .statistics import LayerStatistics

REFIT_PART = 0.25  # of the batches; enough to see which network will be best

# Weights of the input, output and recurrent losses and the sensitivity, by what they are called.
TRIED = {
    "input": (1.0, 0.0, 0.0, 0.0),
    "output + recurrent": (0.0, 1.0, 1.0, 0.0),
    "one-step": (1.0, 1.0, 1.0, 0.0),
    "all but input": (0.0, 1.0, 1.0, 1.0),
    "combined": (1.0, 1.0, 1.0, 10.0),
    "sensitivity": (0.0, 0.0, 0.0, 1.0),
}


def trials_of(
    collector: StateCollector,
    readers: Readers,
    statistics: LayerStatistics,
    batches: tuple[list[Any], list[Any]],
    likelihood: Likelihood,
    kinds: tuple[Kind, ...],
    ridge: NDArray[np.float64],
    refits: bool,
    verbose: int,
) -> Trials:
    """What a solver needs to run a network pruned to any nodes.

    The batches are those to judge by and those held out.
    """
    problems = {
        name: statistics.problem(InformationLoss(*weights), kinds[0])
        for name, weights in TRIED.items()
    }
    loop = ClosedLoop(collector, readers, batches[0], likelihood)
    other = ClosedLoop(collector, readers, batches[1], likelihood) if batches[1] else None
    refit = loop.refitting(REFIT_PART) if refits else None
    bar = tqdm(desc="closed loop", unit="network", disable=not verbose)

    def pruned(support: NDArray[np.intp], kind: str) -> nn.Module:
        A, c = reconstruct(statistics.covariance, statistics.mean, support, ridge, cast(Kind, kind))
        module = loop.pruned(Cut.from_arrays(support, A, c))
        if refit:
            refit.apply(module)
        return module

    def run(support: NDArray[np.intp], kind: str, at_most: float) -> float:
        bar.update()
        return loop.divergence(pruned(support, kind), at_most)

    def held_out(support: NDArray[np.intp], kind: str) -> float:
        return other.divergence(pruned(support, kind)) if other else np.nan

    return Trials(problems, kinds, run, held_out)
