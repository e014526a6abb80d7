"""Pruned networks beside the dense one: how far apart what they answer is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .likelihood import Likelihood, answer_of
from .readers import Readers
from .refit import Refit
from .replay import Recorder
from .states import MISFITS, StateCollector
from .surgery import Cut, agree, with_expanded_layer, with_folded_readers

MOST_OUTPUTS = 2**26  # numbers of answers that are kept to compare with
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
        Batches to run; some at the end are left out when there would be too many answers.
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
        self._inputs: list[tuple[Any, Any]] = []
        self._answers: list[Tensor] = []
        self._shortcuts: list[AbstractContextManager[Any]] = []
        for batch in batches:
            if sum(answer.numel() for answer in self._answers) < MOST_OUTPUTS:
                self._add(batch)
        self._unit = self._scale()
        self._against = [likelihood.against(answer) for answer in self._answers]
        self._folds: bool | None = None
        self._tried_replay = False
        self._pace: list[float] = []  # of the best: its divergence after each batch

    @torch.inference_mode()
    def _add(self, batch: Any) -> None:
        args, kwargs = self._collector.arguments(batch, whole=False)
        recorder = Recorder(self._collector.layer.of(self._collector.module))
        with recorder:
            output = self._collector.module(*args, **kwargs)
        recorder.use(output)
        self._inputs.append((args, kwargs))
        self._answers.append(answer_of(output))
        self._shortcuts.append(recorder.replay())

    def _scale(self) -> float:
        """Number of labels; of outputs that are numbers, what answering their mean would cost."""
        if self._likelihood.family != "gaussian":
            return float(sum(self._likelihood.divergence(a, a).numel() for a in self._answers))
        every = torch.cat([answer.flatten().double() for answer in self._answers])
        return float(0.5 * (every - every.mean()).square().sum()) or 1.0

    def refitting(self, part: float) -> Refit:
        """A refit of readers to the states that pruned networks reach on part of the batches."""
        n_passes = max(1, round(part * len(self._inputs)))
        collector = self._collector
        paths, passes = self._readers.paths, self._inputs[:n_passes]
        return Refit(collector.module, collector.layer, paths, passes)

    def pruned(self, cut: Cut) -> nn.Module:
        """A network pruned to some nodes."""
        module, layer = self._collector.module, self._collector.layer
        if self._folds is None:
            self._folds = self._can_fold(cut)
        if self._folds:
            return with_folded_readers(module, layer, cut, self._readers)
        return with_expanded_layer(module, layer, cut)

    def divergence(self, module: nn.Module, at_most: float = math.inf) -> float:
        """Divergence of the answers of a pruned network from those of the dense one.

        Parameters
        ----------
        module : nn.Module
            The pruned network.
        at_most : float
            The divergence of the best network so far. Once a network exceeds it, or lags behind
            the best on the batches so far, it is run no further.

        Returns
        -------
        float
            Mean KL divergence of a label; of outputs that are numbers, the squared error relative
            to their variance. When the network was not run to the end, an estimate above
            ``at_most``, from its lag behind the best.
        """
        total, pace = 0.0, []
        for divergence in self.each(module):
            total += float(divergence.sum(dtype=torch.float64)) / self._unit
            pace.append(total)
            if at_most < math.inf and not total <= min(at_most, self._slowest(len(pace))):
                lag = total / (self._pace[len(pace) - 1] or math.inf)
                return at_most * max(lag, 1.0 + 1e-9) if math.isfinite(total) else math.inf
        if not self._pace or total < self._pace[-1]:
            self._pace = pace
        return total

    def _slowest(self, n_batches: int) -> float:
        """How far a network may have got after some batches; the more there are, the more sure."""
        return (1.0 + LAG / math.sqrt(n_batches)) * self._pace[n_batches - 1]

    def each(self, module: nn.Module) -> Iterator[Tensor]:
        """Divergence of every label, batch by batch."""
        if not self._tried_replay:
            self._tried_replay = True
            if not self._can_replay(module):
                self._shortcuts = [nullcontext() for _ in self._shortcuts]
        for i, divergence in enumerate(self._against):
            yield divergence(self._answer(module, i))

    @torch.inference_mode()
    def _answer(self, module: nn.Module, i: int) -> Tensor:
        args, kwargs = self._inputs[i]
        with self._shortcuts[i]:
            return answer_of(module(*args, **kwargs))

    @torch.inference_mode()
    def _can_replay(self, module: nn.Module) -> bool:
        """Whether the answers stay the same without what comes before the layer."""
        args, kwargs = self._inputs[0]
        expected = answer_of(module(*args, **kwargs))
        try:
            return all(torch.equal(self._answer(module, 0), expected) for _ in range(2))
        except (*MISFITS, AttributeError):
            return False

    def _can_fold(self, cut: Cut) -> bool:
        module, layer = self._collector.module, self._collector.layer
        if layer.of(module) is module or self._readers.obstacle is not None:
            return False
        folded = with_folded_readers(module, layer, cut, self._readers)
        return agree(folded, with_expanded_layer(module, layer, cut), *self._inputs[0])
