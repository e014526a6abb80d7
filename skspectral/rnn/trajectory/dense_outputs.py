"""Compare the answers of other networks with those of the dense one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

import torch
from torch import Tensor, nn

from ..forward_pass import ForwardPass
from ..kernels import KernelMode
from ..layers.find import FORWARD_ERRORS
from ..losses.likelihood import Likelihood, primary_output
from ..surgery.replaced import PlainRun


class DenseOutputs:
    """Holds what a module answers in some forward passes, to compare others with.

    Parameters
    ----------
    module : nn.Module
        The dense module.
    passes : sequence of ForwardPass
        The passes.
    likelihood : Likelihood
        What the answers say of the labels.
    """

    def __init__(
        self, module: nn.Module, passes: Sequence[ForwardPass], likelihood: Likelihood
    ) -> None:
        self._module, self._passes, self._likelihood = module, passes, likelihood

    @cached_property
    @torch.no_grad()
    def _known(self) -> list[tuple[ForwardPass, Tensor]]:
        """Passes that lead to an answer that can be compared, and the answers."""
        found = []
        for forward in self._passes:
            every, _ = forward.run(self._module, PlainRun(), [])
            with suppress(ValueError):  # no output that can be compared
                output = primary_output(every)
                if bool(self._likelihood.divergence(output, output).isfinite().all()):
                    found.append((forward, output))
        return found

    @torch.no_grad()
    def divergence(
        self,
        module: nn.Module | None = None,
        mode: Callable[[], KernelMode] = PlainRun,
        columns: Tensor | None = None,
    ) -> float:
        """Return how far the answers of another module are from these.

        Parameters
        ----------
        module : nn.Module or None
            The other module; None is the dense one.
        mode : callable
            Makes the mode in which it runs.
        columns : Tensor of int or None
            Those of the dense answers, along the last axis, that the other module answers with;
            None is all.

        Returns
        -------
        float
            Mean KL divergence of a label; of answers that are numbers, the squared error relative
            to their variance. Infinite where answers are not finite, or of another length; NaN
            where there is nothing to compare.
        """
        module = self._module if module is None else module
        sums = torch.zeros(2, dtype=torch.float64)
        known = [
            (forward, output if columns is None else output[..., columns.to(output.device)])
            for forward, output in self._known
        ]
        for forward, dense in known:
            try:
                every, _ = forward.run(module, mode(), [])
                found = self._likelihood.divergence(dense, primary_output(every)).double()
            except FORWARD_ERRORS:
                return math.inf
            sums += torch.tensor([float(found.sum()), found.numel()], dtype=torch.float64)
        if not known:
            return math.nan
        mean = float(sums[0] / sums[1])
        if self._likelihood.family == "gaussian":
            numbers = torch.cat([output.flatten().double() for _, output in known])
            mean /= 0.5 * float(numbers.var(correction=0)) or 1.0
        return math.inf if math.isnan(mean) else mean
