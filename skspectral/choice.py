"""From a calibration to the nodes that every layer keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tqdm.auto import tqdm

from .calibration import Calibration
from .pruned_layer import PrunedLayer
from .rnn.cut import Cut
from .sampling import first, split
from .solvers import Solver
from .trials import ClosedLoopTrials


def choose(
    calibration: Calibration, solver: Solver, counts: Mapping[str, int], verbose: int = 0
) -> dict[str, PrunedLayer]:
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
    verbose : int
        Whether to show progress.

    Returns
    -------
    dict of PrunedLayer
        By the name of the layer.
    """
    problems = calibration.problems
    if not solver.runs_network:
        layers = tqdm(counts.items(), desc="selection", unit="layer", disable=not verbose)
        return {
            name: calibration.layer(name, solver.select(problems[name], m)) for name, m in layers
        }
    parts = split(first(calibration.sample, solver.n_sequences), solver.held_out)
    trials = ClosedLoopTrials(calibration, parts, verbose)
    chosen: dict[str, PrunedLayer] = {}
    cuts: dict[str, Cut] = {}
    for name, m in counts.items():
        share = 1.0 / len(counts)
        problem = replace(problems[name], trials=trials.of(name, cuts, share))
        chosen[name] = calibration.layer(name, solver.select(problem, m)).posed_anew()
        cuts[name] = chosen[name].cut
    return chosen
