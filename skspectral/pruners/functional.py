"""Pruning as a function, for those who want a torch module and no estimator."""

from __future__ import annotations

from typing import Any

from torch import nn

from .spectral import SpectralRNNPruner


def prune(module: nn.Module, X: Any, m: int | float = 0.5, **params: Any) -> nn.Module:
    """A smaller module that answers as the given one does.

    Parameters
    ----------
    module : nn.Module
        A trained recurrent network; left as it is.
    X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
        Calibration sequences, as in :meth:`SpectralRNNPruner.fit`.
    m : int or float, default=0.5
        Hidden nodes to keep, as a number or as a fraction of the layer in (0, 1].
    **params : object
        Further parameters of :class:`SpectralRNNPruner`.

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
