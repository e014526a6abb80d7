"""Compare the outputs of other networks with those of the dense one."""

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
    """Outputs of the dense module in some forward passes, for comparison with other modules.

    Parameters
    ----------
    module : nn.Module
        The dense module.
    passes : sequence of ForwardPass
        The passes to run.
    likelihood : Likelihood
        Distribution of the labels given the outputs.
    """

    def __init__(
        self, module: nn.Module, passes: Sequence[ForwardPass], likelihood: Likelihood
    ) -> None:
        self._module, self._passes, self._likelihood = module, passes, likelihood

    @cached_property
    @torch.no_grad()
    def _known(self) -> list[tuple[ForwardPass, Tensor]]:
        """Passes whose outputs can be compared, with these outputs."""
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
        """Return the divergence of the outputs of another module from those of the dense one.

        Parameters
        ----------
        module : nn.Module or None
            The other module; None means the dense one.
        mode : callable
            Factory of the kernel mode in which it runs.
        columns : Tensor of int or None
            Indices, along the last axis, of the dense outputs that the other module has; None means
            all.

        Returns
        -------
        float
            Mean KL divergence of a label. If outputs are numbers, the squared error relative to
            their variance. It is infinite if outputs are not finite or differ in shape, and NaN if
            there is nothing to compare.
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
