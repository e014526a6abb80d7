"""Pruned networks beside the dense one: how far apart what they answer is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .cut import Cut
from .layers import MISFITS
from .likelihood import Likelihood, answer_of
from .refit import Refit
from .replay import Recorder
from .states import StateCollector
from .surgery import Surgery
from .weights import independent_copy

MOST_OUTPUTS = 2**26  # numbers of answers that are kept to compare with
LAG = 0.4  # a network that far behind the best on one batch, as a fraction, seldom catches up


class ClosedLoop:
    """What the dense network answers on some batches, to hold pruned networks against.

    Parameters
    ----------
    collector : StateCollector
        The dense module and its layers; both are left as they are.
    surgery : Surgery
        Prunes it.
    batches : iterable
        Batches to run; some at the end are left out when there would be too many answers.
    likelihood : Likelihood
        What the answers say of the labels.
    """

    def __init__(
        self,
        collector: StateCollector,
        surgery: Surgery,
        batches: Iterable[Any],
        likelihood: Likelihood,
    ) -> None:
        self._collector, self._surgery, self._likelihood = collector, surgery, likelihood
        self._inputs: list[tuple[Any, Any]] = []
        self._answers: list[Tensor] = []
        self._shortcuts: list[AbstractContextManager[Any]] = []
        for batch in batches:
            if sum(answer.numel() for answer in self._answers) < MOST_OUTPUTS:
                self._add(batch)
        self._unit = self._scale()
        self._against = [likelihood.against(answer) for answer in self._answers]
        self._tried_replay = False
        self._pace: list[float] = []  # of the best of a search: its divergence after each batch

    @torch.inference_mode()
    def _add(self, batch: Any) -> None:
        args, kwargs = self._collector.arguments(batch, whole=False)
        module = independent_copy(self._collector.module)
        hosts = {layer.host for layer in self._collector.layers}
        recorder = Recorder(module.get_submodule(host) for host in hosts)
        with recorder:
            output = module(*args, **kwargs)
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
        surgery = self._surgery
        return Refit(surgery.module, surgery.layers, surgery.readers, self._inputs[:n_passes])

    def pruned(self, cuts: Mapping[str, Cut]) -> nn.Module:
        """A pruned network; of a bare layer, with its states rebuilt."""
        if self._collector.is_bare:
            return self._surgery.expanded(cuts)
        return self._surgery.build(cuts)

    def divergence(self, module: nn.Module, at_most: float = math.inf) -> float:
        """Divergence of the answers of a pruned network from those of the dense one.

        Parameters
        ----------
        module : nn.Module
            The pruned network.
        at_most : float
            The divergence of the best network so far; infinite for the first of a search. Once a
            network exceeds it, or lags behind the best on the batches so far, it is run no further.

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
        if at_most == math.inf or total < self._pace[-1]:
            self._pace = pace
        return math.inf if math.isnan(total) else total

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
        module = independent_copy(module)
        with self._shortcuts[i]:
            return answer_of(module(*args, **kwargs))

    @torch.inference_mode()
    def _can_replay(self, module: nn.Module) -> bool:
        """Whether the answers stay the same without what comes before the layer."""
        args, kwargs = self._inputs[0]
        expected = answer_of(independent_copy(module)(*args, **kwargs))
        try:
            return all(torch.equal(self._answer(module, 0), expected) for _ in range(2))
        except MISFITS:
            return False
