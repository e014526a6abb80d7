"""Pruned networks beside the dense one: how far apart what they answer is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .likelihood import Likelihood, answer_of
from .readers import Readers
from .states import StateCollector
from .surgery import Cut, agree, with_expanded_layer, with_folded_readers

LAG = 0.4  # a network that far behind the best on one batch, as a fraction, seldom catches up


class ClosedLoop:
    """What the dense network answers on some batches, to hold pruned networks against.

    Parameters
    ----------
    collector : StateCollector
        The dense module and its layer; both are left as they are.
    readers : Readers
        Who reads the layer.
    batches : iterable
        Batches to run.
    likelihood : Likelihood
        What the answers say of the labels.
    """

    def __init__(
        self,
        collector: StateCollector,
        readers: Readers,
        batches: Iterable[Any],
        likelihood: Likelihood,
    ) -> None:
        self._collector, self._readers, self._likelihood = collector, readers, likelihood
        self._inputs = [collector.arguments(batch, whole=False) for batch in batches]
        with torch.inference_mode():
            self._answers = [
                answer_of(collector.module(*args, **kwargs)) for args, kwargs in self._inputs
            ]
        self._unit = self._scale()
        self._folds: bool | None = None
        self._pace: list[float] = []  # of the best: its divergence after each batch

    def _scale(self) -> float:
        """Number of labels; of outputs that are numbers, what answering their mean would cost."""
        if self._likelihood.family != "gaussian":
            return float(sum(self._likelihood.divergence(a, a).numel() for a in self._answers))
        every = torch.cat([answer.flatten().double() for answer in self._answers])
        return float(0.5 * (every - every.mean()).square().sum()) or 1.0

    def divergence(self, cut: Cut, at_most: float = float("inf")) -> float:
        """Divergence of the answers of a pruned network from those of the dense one.

        Parameters
        ----------
        cut : Cut
            The nodes that it keeps.
        at_most : float
            The divergence of the best network so far. Once a network exceeds it, or lags behind
            the best on the batches so far, it is run no further.

        Returns
        -------
        float
            Mean KL divergence of a label; of outputs that are numbers, the squared error relative
            to their variance. Infinity when the network was not run to the end.
        """
        total, pace = 0.0, []
        for divergence in self.each(cut):
            total += float(divergence.sum(dtype=torch.float64)) / self._unit
            pace.append(total)
            if at_most < float("inf") and not total <= min(at_most, self._slowest(len(pace))):
                return float("inf")
        if not self._pace or total < self._pace[-1]:
            self._pace = pace
        return total

    def _slowest(self, n_batches: int) -> float:
        """How far a network may have got after some batches; the more there are, the more sure."""
        return (1.0 + LAG / math.sqrt(n_batches)) * self._pace[n_batches - 1]

    @torch.inference_mode()
    def each(self, cut: Cut) -> Iterator[Tensor]:
        """Divergence of every label, batch by batch."""
        module = self._pruned(cut)
        for (args, kwargs), dense in zip(self._inputs, self._answers, strict=True):
            yield self._likelihood.divergence(dense, answer_of(module(*args, **kwargs)))

    def _pruned(self, cut: Cut) -> nn.Module:
        module, layer = self._collector.module, self._collector.layer
        if self._folds is None:
            self._folds = self._can_fold(cut)
        if self._folds:
            return with_folded_readers(module, layer, cut, self._readers)
        return with_expanded_layer(module, layer, cut)

    def _can_fold(self, cut: Cut) -> bool:
        module, layer = self._collector.module, self._collector.layer
        if layer.of(module) is module or self._readers.obstacle is not None:
            return False
        folded = with_folded_readers(module, layer, cut, self._readers)
        return agree(folded, with_expanded_layer(module, layer, cut), *self._inputs[0])
