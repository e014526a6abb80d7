"""Sums of moments on the device of the states."""

from __future__ import annotations

import torch
from torch import Tensor


class DeviceMoments:
    """Sums of states and of their outer products, in float64 on the device of the states.

    Parameters
    ----------
    n_nodes : int
        Number of hidden nodes of the layer.
    device : torch.device
        Device of the sums.
    """

    def __init__(self, n_nodes: int, device: torch.device) -> None:
        self.n_steps = 0
        self.sum_ = torch.zeros(n_nodes, dtype=torch.float64, device=device)
        self.products_ = torch.zeros(n_nodes, n_nodes, dtype=torch.float64, device=device)

    def update(self, states: Tensor) -> None:
        """Add a block of states, shape (n_steps, n_nodes)."""
        block = states.double()
        self.n_steps += len(block)
        self.sum_ += block.sum(dim=0)
        self.products_.addmm_(block.T, block)

    @property
    def is_finite(self) -> bool:
        """Return whether all states were finite and small enough for finite squares."""
        return bool(torch.isfinite(self.products_.diagonal()).all())
