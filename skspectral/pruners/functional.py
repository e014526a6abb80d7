"""Pruning as a function from module to module."""

from __future__ import annotations

from typing import Any, Unpack

from torch import nn

from .options import NodeCount, PruneOptions
from .spectral import SpectralRNNPruner


def prune(
    module: nn.Module, X: Any, m: NodeCount = 0.5, **params: Unpack[PruneOptions]
) -> nn.Module:
    """Return a smaller module whose outputs are almost those of the given one.

    Parameters
    ----------
    module : nn.Module
        A trained recurrent network. It is not changed.
    X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
        Calibration sequences, as in :meth:`SpectralRNNPruner.fit`.
    m : int, float or dict, default=0.5
        Hidden nodes to keep of every layer, as a number or as a fraction of the layer in (0, 1]; or
        a dict of these by the name of the layer, which leaves other layers unchanged.
    **params : object
        Other parameters of :class:`SpectralRNNPruner`.

    Returns
    -------
    nn.Module
        The smaller module, in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> from skspectral import prune
    >>> lstm = torch.nn.LSTM(input_size=3, hidden_size=32, batch_first=True)
    >>> prune(lstm, torch.randn(50, 20, 3), m=8)
    LSTM(3, 8, batch_first=True)
    """
    return SpectralRNNPruner(module, m, **params).fit(X).pruned_module_
