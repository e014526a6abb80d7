"""Moments of hidden states, accumulated block by block."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ..utils.safetensors_io import header, read_header, replacing

FORMAT = "skspectral moments of hidden states"
VERSION = 1
MOST_STEPS = 2**63
BLOCK = 2048  # rows converted and multiplied at once, so that they are still in the CPU cache


@dataclass
class HiddenStateMoments:
    """First and second moment of a hidden state, over any number of steps.

    Blocks of states are added one after another and not stored, so memory does not grow with the
    number of steps. Moments of disjoint data merge by addition.

    Parameters
    ----------
    n_nodes : int
        Number of hidden nodes of the layer.

    Attributes
    ----------
    n_steps : int
        Number of steps seen so far.
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

    @classmethod
    def from_sums(cls, n_steps: int, sum_: ArrayLike, products: ArrayLike) -> Self:
        """Make moments from sums that were computed elsewhere.

        Parameters
        ----------
        n_steps : int
            Number of steps in the sums.
        sum_ : array-like of shape (n_nodes,)
            Sum of the states.
        products : array-like of shape (n_nodes, n_nodes)
            Sum of the outer products of the states.

        Returns
        -------
        HiddenStateMoments
            The moments.
        """
        total = np.array(sum_, dtype=np.float64)
        moments = cls(len(total))
        moments.n_steps, moments.sum_ = n_steps, total
        moments.products_ = np.array(products, dtype=np.float64)
        return moments

    def update(self, states: ArrayLike) -> Self:
        """Add a block of states; if a state is not finite, the moments are not finite either.

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
        rows = np.asarray(states)
        if rows.ndim != 2 or rows.shape[1] != self.n_nodes:
            raise ValueError(
                f"states must be of shape (n_steps, {self.n_nodes}), a column for each of the "
                f"nodes; got {rows.shape}."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK].astype(np.float64, copy=False)
                self.sum_ += block.sum(axis=0)
                self.products_ += block.T @ block
        self.n_steps += len(rows)
        return self

    @property
    def is_finite(self) -> bool:
        """Return whether all states were finite and small enough for finite squares."""
        return bool(np.isfinite(self.products_.diagonal()).all())

    def merge(self, other: HiddenStateMoments) -> Self:
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
            If ``other`` has another number of nodes.
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

    def all_reduce(self, group: Any = None) -> Self:
        """Add up the moments of all processes of a ``torch.distributed`` job.

        Every process of the group must call this method, and then has the moments of all data.

        Parameters
        ----------
        group : torch.distributed.ProcessGroup or None
            Process group to add up over; None means all processes.

        Returns
        -------
        HiddenStateMoments
            Itself.

        Raises
        ------
        RuntimeError
            If the process is not in a job.
        """
        import torch  # noqa: PLC0415  only needed here

        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError(
                "all_reduce adds up the moments of the processes of a job, and this process is in "
                "none; call torch.distributed.init_process_group first."
            )
        device = "cuda" if distributed.get_backend(group) == "nccl" else "cpu"
        n_steps = torch.tensor(self.n_steps, device=device)
        sums = torch.from_numpy(np.vstack([self.products_, self.sum_])).to(device)
        for tensor in (n_steps, sums):
            distributed.all_reduce(tensor, group=group)
        self.n_steps = int(n_steps)
        self.products_, self.sum_ = sums[:-1].cpu().numpy(), sums[-1].cpu().numpy()
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Save as safetensors, with a header in JSON; nothing is pickled.

        Parameters
        ----------
        path : str or path-like
            The file to write. An existing file is replaced only once the new one is complete.
        """
        with replacing(path) as beside:
            tensors = {"products": self.products_, "sum": self.sum_}
            save_file(tensors, beside, metadata=header(FORMAT, VERSION, n_steps=self.n_steps))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Load moments that ``save`` wrote.

        Parameters
        ----------
        path : str or path-like
            The file to read.

        Returns
        -------
        HiddenStateMoments
            The moments.

        Raises
        ------
        ValueError
            If the file does not hold moments.
        """
        n_steps = read_header(path, FORMAT, VERSION, "HiddenStateMoments.save").get("n_steps")
        with safe_open(str(path), framework="np") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  no dict
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            doubles = all(part.get_dtype() == "F64" for part in parts.values())
        n_nodes = shapes["sum"][0] if shapes.get("sum") else 0
        fits = shapes == {"sum": (n_nodes,), "products": (n_nodes, n_nodes)}
        if not (fits and doubles and type(n_steps) is int and 0 <= n_steps < MOST_STEPS):
            raise ValueError(
                f"path={str(path)!r} holds moments of the shapes {shapes} and n_steps={n_steps!r}, "
                "which do not belong together; give a file that HiddenStateMoments.save wrote."
            )
        tensors = load_file(path)
        return cls.from_sums(n_steps, tensors["sum"], tensors["products"])

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Σ, the time-mean non-centered second moment, shape (n_nodes, n_nodes)."""
        return self.products_ / self._counted

    @property
    def scale(self) -> float:
        """σ, the root mean square of all states."""
        return float(np.sqrt(self.covariance.diagonal().mean()))

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
        return self.sum_ / self._counted

    @property
    def _counted(self) -> int:
        """Number of steps to divide by.

        Raises
        ------
        ValueError
            If no steps were seen.
        """
        if not self.n_steps:
            raise ValueError(
                "no hidden state was seen, so that there are no moments; give X, or states, with "
                "at least one sequence of at least one step."
            )
        return self.n_steps
