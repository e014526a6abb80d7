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

    The networks are ``z = σ(W x + U z' + b)``, from ``z = 0``, with output ``V z + a`` after the
    last step; σ is tanh or relu. Since the bound is for all of them, it holds for the one that any
    pruning and training on the sample ends with.

    Parameters
    ----------
    n_sequences : int
        Independent sequences in the sample.
    n_steps : int
        Steps in each.
    n_features : int
        Features of a step.
    m : int
        Nodes.
    n_outputs : int
        Number of outputs.
    radius : float
        Most that the norm of all weights of a network together may be.
    recurrent_norm : float
        Most that ``‖U‖``, the largest singular value, may be.
    input_norm : float
        Most that the norm of the features of a step may be.
    state_norm : float or None, default=None
        Most that ``‖z‖`` may be; None is √m, which holds for tanh.
    lipschitz : float, default=1.0
        Lipschitz constant of the loss in the output.
    loss_range : float, default=1.0
        The loss lies between zero and this.
    delta : float, default=0.05
        Probability δ that it fails, above 0 and below 1.

    Returns
    -------
    float
        The bound, in the units of the loss. It says nothing from ``loss_range`` on.

    Raises
    ------
    ValueError
        If delta is not between 0 and 1.

    Notes
    -----
    The proof is in the user guide. The limits are to be set before the sample is seen; to choose
    among K sets of limits after, divide δ by K.

    Examples
    --------
    >>> from skspectral.theory import generalization_gap
    >>> limits = {"radius": 2.0, "recurrent_norm": 0.9, "input_norm": 1.0}
    >>> round(generalization_gap(100_000, 50, 1, 2, 1, **limits), 3)
    0.031
    """
    check_delta(delta)
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
