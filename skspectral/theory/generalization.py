"""Bounds on the risk of a small network, given its risk on a sample."""

from __future__ import annotations

import numpy as np

from .guarantee import check_delta


def generalization_gap(
    n_sequences: int,
    n_steps: int,
    n_features: int,
    m: int,
    n_outputs: int,
    *,
    radius: float,
    recurrent_norm: float,
    input_norm: float,
    state_norm: float | None = None,
    lipschitz: float = 1.0,
    loss_range: float = 1.0,
    delta: float = 0.05,
) -> float:
    """Return a bound on true minus empirical risk, for all Elman networks of m nodes at once.

    The networks have the states ``z = σ(W x + U z' + b)``, starting from zero, and the output
    ``V z + a`` after the last step; σ is tanh or relu. The bound holds for all such networks at
    once, and so for the result of any pruning and training on the sample.

    Parameters
    ----------
    n_sequences : int
        Number of independent sequences in the sample.
    n_steps : int
        Number of steps per sequence.
    n_features : int
        Number of features per step.
    m : int
        Number of nodes.
    n_outputs : int
        Number of outputs.
    radius : float
        Upper bound on the norm of all weights of a network together.
    recurrent_norm : float
        Upper bound on ``‖U‖``, the largest singular value.
    input_norm : float
        Upper bound on the norm of the features of a step.
    state_norm : float or None, default=None
        Upper bound on ``‖z‖``; None uses √m, which holds for tanh.
    lipschitz : float, default=1.0
        Lipschitz constant of the loss as a function of the output.
    loss_range : float, default=1.0
        Upper bound on the loss; the lower bound is zero.
    delta : float, default=0.05
        Probability δ that the bound fails, above 0 and below 1.

    Returns
    -------
    float
        The bound, in the units of the loss. It is vacuous if it is at least ``loss_range``.

    Raises
    ------
    ValueError
        If delta is not between 0 and 1, or n_sequences is below 1.

    Notes
    -----
    The proof is in the user guide. The limits have to be set before the sample is seen; to choose
    among K sets of limits afterward, divide δ by K.

    Examples
    --------
    >>> from skspectral.theory import generalization_gap
    >>> limits = {"radius": 2.0, "recurrent_norm": 0.9, "input_norm": 1.0}
    >>> round(generalization_gap(100_000, 50, 1, 2, 1, **limits), 3)
    0.031
    """
    check_delta(delta)
    if n_sequences < 1:
        raise ValueError(f"n_sequences must be an int of at least 1; got {n_sequences!r}.")
    state_norm = np.sqrt(m) if state_norm is None else state_norm
    change = lipschitz * lipschitz_in_weights(
        n_steps, radius, recurrent_norm, input_norm, state_norm
    )
    cells = np.log1p(4.0 * n_sequences * radius * change / loss_range)
    n_weights = m * (n_features + m + 1) + n_outputs * (m + 1)
    spread = np.sqrt((n_weights * cells - np.log(delta)) / (2.0 * n_sequences))
    return float(loss_range * (1.0 / n_sequences + spread))


def lipschitz_in_weights(
    n_steps: int, radius: float, recurrent_norm: float, input_norm: float, state_norm: float
) -> float:
    """Return the Lipschitz constant of the outputs as a function of the weights."""
    with np.errstate(over="ignore"):
        growth = np.power(float(recurrent_norm), np.arange(n_steps)).sum()
        read = 1.0 + state_norm**2
        return float(np.hypot(radius * growth * np.sqrt(input_norm**2 + read), np.sqrt(read)))
