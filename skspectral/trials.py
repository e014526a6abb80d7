"""Pruned networks on trial: between the solver, which knows nodes, and the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from .calibration import Calibration
from .objective import InformationLoss
from .pruned_layer import PrunedLayer
from .rnn.closed_loop import ClosedLoop
from .rnn.cut import Cut
from .solvers import Selection, Trials

REFIT_PART = 0.25  # of the batches; enough to see which network will be best

# Weights of the input, output and recurrent losses and the sensitivity, by what they are called.
TRIED = {
    "input": (1.0, 0.0, 0.0, 0.0),
    "output + recurrent": (0.0, 1.0, 1.0, 0.0),
    "one-step": (1.0, 1.0, 1.0, 0.0),
    "all but input": (0.0, 1.0, 1.0, 1.0),
    "combined": (1.0, 1.0, 1.0, 200.0),
    "sensitivity": (0.0, 0.0, 0.0, 1.0),
}


class ClosedLoopTrials:
    """Networks pruned on trial, layer after layer.

    Parameters
    ----------
    calibration : Calibration
        The dense network and its calibration sequences.
    batches : tuple of list
        Batches to judge by, and others that are held out.
    verbose : int
        Whether to show progress.
    """

    def __init__(
        self,
        calibration: Calibration,
        batches: tuple[list[Any], list[Any]],
        verbose: int,
    ) -> None:
        collector, surgery = calibration.collector, calibration.surgery
        self._calibration, self._verbose = calibration, verbose
        self._loop = ClosedLoop(collector, surgery, batches[0], calibration.likelihood)
        self._other = (
            ClosedLoop(collector, surgery, batches[1], calibration.likelihood)
            if batches[1]
            else None
        )
        self._refit = self._loop.refitting(REFIT_PART) if calibration.refit else None

    def of(self, name: str, cuts: Mapping[str, Cut], share: float = 1.0) -> Trials:
        """Trials of a layer, for a share of the budget; layers with a cut are pruned already."""
        calibration = self._calibration
        statistics, kinds = calibration.statistics[name], calibration.kinds
        bar = tqdm(desc=f"closed loop {name}", unit="network", disable=not self._verbose)

        def layer(support: NDArray[np.intp], kind: str) -> PrunedLayer:
            path = np.zeros(len(support) + 1)  # nobody asks for it
            return calibration.layer(name, Selection(support, path, reconstruction=kind))

        def pruned(support: NDArray[np.intp], kind: str) -> nn.Module:
            whole = {**cuts, name: layer(support, kind).cut}
            module = self._loop.pruned(whole)
            if self._refit:
                self._refit.apply(module, whole)
            return module

        def run(support: NDArray[np.intp], kind: str, at_most: float) -> float:
            bar.update()
            return self._loop.divergence(pruned(support, kind), at_most)

        def held_out(support: NDArray[np.intp], kind: str) -> float:
            return self._other.divergence(pruned(support, kind)) if self._other else np.nan

        def loss(support: NDArray[np.intp], kind: str) -> float:
            found = layer(support, kind)
            return found.posed.loss(support) / (found.total or 1.0)

        problems = {
            tried: statistics.problem(InformationLoss(*weights), kinds[0])
            for tried, weights in TRIED.items()
        }
        return Trials(problems, kinds, run, held_out, loss, share)
