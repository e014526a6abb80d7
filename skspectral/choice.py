"""From a calibration to the nodes that every layer keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .calibration import Calibration
from .pruned_layer import PrunedLayer
from .reconstruction import Kind
from .rnn.cut import Cut
from .sampling import first, split
from .solvers import Selection, Solver
from .trials import ClosedLoopTrials


def choose(
    calibration: Calibration,
    solver: Solver,
    counts: Mapping[str, int],
    kinds: tuple[Kind, ...],
    verbose: int = 0,
) -> dict[str, Selection]:
    """Choose the nodes of every layer.

    A solver that runs networks goes through the layers from the first to the last, each in a
    network that is pruned to what was chosen so far.

    Parameters
    ----------
    calibration : Calibration
        The choices that are posed.
    solver : Solver
        Who chooses.
    counts : dict of int
        Nodes to keep, by layer.
    kinds : tuple of str
        Reconstructions to choose from.
    verbose : int
        Whether to show progress.

    Returns
    -------
    dict of Selection
        By layer.
    """
    problems = calibration.problems
    if not solver.runs_network:
        return {name: solver.select(problems[name], m) for name, m in counts.items()}
    parts = split(first(calibration.sample, solver.n_sequences), solver.held_out)
    trials = ClosedLoopTrials(calibration, parts, kinds, verbose)
    chosen: dict[str, Selection] = {}
    cuts: dict[str, Cut] = {}
    for name, m in counts.items():
        problem = replace(problems[name], trials=trials.of(name, cuts))
        chosen[name] = solver.select(problem, m)
        statistics = calibration.statistics[name]
        cuts[name] = PrunedLayer(statistics, problems[name], chosen[name], kinds[0]).cut
    return chosen
