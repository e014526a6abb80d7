"""Moments of the hidden state, accumulated block by block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass
class HiddenStateMoments:
    """First and second moment of a hidden state, over any number of steps.

    Blocks of states are added one after another and then forgotten, so memory does
    not grow with the number of steps. Moments of disjoint data merge by addition.

    Parameters
    ----------
    n_nodes : int
        Hidden nodes of the layer.

    Attributes
    ----------
    n_steps : int
        Steps seen so far.
    sum_ : ndarray of shape (n_nodes,)
        Sum of the states, float64.
    products_ : ndarray of shape (n_nodes, n_nodes)
        Sum of the outer products ``h hᵀ``, float64.

    Examples
    --------
    >>> from skspectral import HiddenStateMoments
    >>> moments = HiddenStateMoments(2).update([[1.0, 0.0], [1.0, 2.0]])
    >>> moments.covariance
    array([[1., 1.],
           [1., 2.]])
    >>> moments.mean
    array([1., 1.])
    """

    n_nodes: int
    n_steps: int = field(default=0, init=False)
    sum_: NDArray[np.float64] = field(init=False, repr=False)
    products_: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.sum_ = np.zeros(self.n_nodes)
        self.products_ = np.zeros((self.n_nodes, self.n_nodes))

    def update(self, states: ArrayLike) -> HiddenStateMoments:
        """Add a block of states; of states that are not finite, neither are the moments.

        Parameters
        ----------
        states : array-like of shape (n_steps, n_nodes)
            States of valid steps, in any order.

        Returns
        -------
        HiddenStateMoments
            Itself.

        Raises
        ------
        ValueError
            If the block is of another shape.
        """
        block = np.asarray(states, dtype=np.float64)
        if block.ndim != 2 or block.shape[1] != self.n_nodes:
            raise ValueError(
                f"states must be of shape (n_steps, {self.n_nodes}), a column for each of the "
                f"nodes; got {block.shape}."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            self.sum_ += block.sum(axis=0)
            self.products_ += block.T @ block
        self.n_steps += len(block)
        return self

    def merge(self, other: HiddenStateMoments) -> HiddenStateMoments:
        """Add the moments of other data.

        Parameters
        ----------
        other : HiddenStateMoments
            Moments of the same nodes.

        Returns
        -------
        HiddenStateMoments
            Itself.

        Raises
        ------
        ValueError
            If the moments are of another number of nodes.
        """
        if other.n_nodes != self.n_nodes:
            raise ValueError(
                f"other holds the moments of {other.n_nodes} nodes, these are of {self.n_nodes}; "
                "merge moments of the same layer."
            )
        self.n_steps += other.n_steps
        self.sum_ += other.sum_
        self.products_ += other.products_
        return self

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Σ, the time-mean non-centred second moment, shape (n_nodes, n_nodes)."""
        return self.products_ / self.n_steps

    @property
    def whitening(self) -> NDArray[np.float64]:
        """``(Σ + δI)^(-1/2) / σ``, with σ² the mean of ``diag Σ`` and δ a hundredth of it."""
        values, vectors = np.linalg.eigh(self.covariance)
        unit = values.mean()
        if unit <= 0.0:
            return np.eye(self.n_nodes)
        return (vectors / np.sqrt((values + unit / 100) * unit)) @ vectors.T

    @property
    def mean(self) -> NDArray[np.float64]:
        """μ, the time-mean of the state, shape (n_nodes,)."""
        return self.sum_ / self.n_steps
