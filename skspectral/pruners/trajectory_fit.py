"""Fit pruned layers to the trajectories of the dense ones, with a progress bar."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

from ..calibration.calibrator import Calibration
from ..rnn.surgery.reduction import LayerReduction


def trajectory_fitted(
    calibration: Calibration, reductions: Mapping[str, LayerReduction], n_steps: int, verbose: int
) -> tuple[dict[str, LayerReduction], dict[str, list[float]]]:
    """Return reductions with fitted weights, and the history of divergences by layer."""
    fit = calibration.trajectory_fit
    if fit is None:
        return dict(reductions), {}
    steps = fit.n_steps(reductions, n_steps)
    total, what = sum(steps.values()), "trajectory fit"
    with tqdm(total=total, desc=what, unit=" steps", disable=not verbose) as bar:
        return fit.fitted(reductions, steps, bar.update)
