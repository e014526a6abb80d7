"""Choose the nodes that every layer keeps."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

from ..calibration.calibrator import Calibration
from ..solvers import Selection, Solver
from .pruned_layer import PrunedLayer


def choose(
    calibration: Calibration, solver: Solver, counts: Mapping[str, int], verbose: int = 0
) -> dict[str, PrunedLayer]:
    """Choose the nodes of every layer.

    Parameters
    ----------
    calibration : Calibration
        Statistics and selection problems of all layers.
    solver : Solver
        The solver.
    counts : dict of int
        Nodes to keep, by layer.
    verbose : int
        Whether to show progress.

    Returns
    -------
    dict of PrunedLayer
        By the name of the layer.
    """
    solved: dict[tuple[int, int], Selection] = {}  # layers that are pruned alike share a problem
    for name, m in tqdm(counts.items(), desc="selection", unit=" layers", disable=not verbose):
        problem = calibration.problems[name]
        if (id(problem), m) not in solved:
            solved[id(problem), m] = solver.select(problem, m)
    return {
        name: layer_of(calibration, name, solved[id(calibration.problems[name]), m])
        for name, m in counts.items()
    }


def layer_of(calibration: Calibration, name: str, selection: Selection) -> PrunedLayer:
    """Return a layer that keeps what was selected."""
    statistics, problem = calibration.statistics[name], calibration.problems[name]
    return PrunedLayer(statistics, problem, selection, calibration.kind)
