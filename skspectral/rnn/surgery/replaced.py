"""Runs of the small module, and of the given module with its hidden states replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..kernels import KernelMode, LayerCall
from ..outputs import columns_apart
from ..steps import Steps, states_after
from .reduction import LayerReduction

# Limits on the steps that are recomputed, and on those of all sequences together.
MOST_STEPS, MOST_ROWS = 1024, 2048
ROUNDINGS = 64  # allowed error of a step, in units of rounding


@dataclass
class Ran:
    """States of one run of one layer of the small module.

    Parameters
    ----------
    start : tuple of Tensor
        Initial hidden state, and initial cell state of an LSTM.
    states : Tensor
        Hidden states of all steps.
    last : tuple of Tensor
        The last hidden state, and the last cell state of an LSTM.
    eps : float
        Machine epsilon of the dtype of the computation.
    """

    start: tuple[Tensor, ...]
    states: Tensor
    last: tuple[Tensor, ...]
    eps: float


class Misfit(Exception):
    """Error of a pruned module that does not compute what it should, with the reason."""


class PlainRun(KernelMode):
    """Kernel mode that runs every layer unchanged."""

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the states of all steps and the last states."""
        return call.run()


class SmallRun(KernelMode):
    """Kernel mode that records the states of every layer of the small module.

    Parameters
    ----------
    names : dict of str
        Names of layers, by the id of their ``weight_hh``.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.ran: dict[str, list[Ran]] = {name: [] for name in names.values()}
        self.eps = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, Tensor) and result.is_floating_point():
            self.eps = max(self.eps, torch.finfo(result.dtype).eps)
        return result

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the layer and record its states."""
        name = self.names.get(id(call.weights[1]))
        if name is None:
            raise Misfit("runs with weights that are not its own")
        states, last = call.run()
        # The module's forward may write into these tensors.
        start, end = (tuple(each.clone() for each in given) for given in (call.start, last))
        eps = max(torch.finfo(states.dtype).eps, autocast_eps(states.device.type))
        self.ran[name].append(Ran(start, states.clone(), end, eps))
        self.eps = max(self.eps, eps)
        return states, last


class ReplacedRun(KernelMode):
    """Kernel mode that replaces the states of the given module by rebuilt ones.

    They are rebuilt from the kept nodes of the small module. The steps of the small layers are
    recomputed with the weights of the given layers, and compared.

    Parameters
    ----------
    names : dict of str
        Names of layers, by the id of their ``weight_hh``.
    ran : dict of list
        Runs of the layers of the small module, by name.
    reductions : dict of LayerReduction
        Reduction of every layer, by name.
    noise : dict of float
        Relative size of random errors to add to the states of layers, by name; if there are any,
        no step is recomputed.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        ran: Mapping[str, list[Ran]],
        reductions: Mapping[str, LayerReduction],
        noise: Mapping[str, float],
    ) -> None:
        super().__init__()
        self._names, self._reductions, self._noise = names, reductions, noise
        self._left = {name: iter(runs) for name, runs in ran.items()}
        self.read: dict[str, list[Tensor]] = {name: [] for name in ran}  # inputs and first states

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return rebuilt states instead of running the layer."""
        name = self._names[id(call.weights[1])]
        ran, reduction = next(self._left[name], None), self._reductions[name]
        self.read[name] += [call.input, *call.start]
        n_rows = call.input.shape[:-1]
        if ran is None or ran.states.shape[:-1] != n_rows:
            raise Misfit("runs on other steps where its reconstruction is folded")
        if not self._noise:
            check_start(call, ran, reduction)
            check_steps(call, ran, reduction)
        states = reduction.rebuild(ran.states)
        if noise := self._noise.get(name):
            generator = torch.Generator().manual_seed(0)  # leaves the module's own draws alone
            signs = torch.randint(0, 2, states.shape, generator=generator).to(states.device)
            states = states * (1.0 + noise * (2 * signs - 1))
        last: tuple[Tensor, ...] = (call.last(states),)
        if len(ran.last) > 1:
            last = (last[0], reduction.rebuild_cells(ran.last[1]))
        return states, last

    def check_finished(self) -> None:
        """Raise if a layer ran more often in the small module than in the given one."""
        if any(next(left, None) is not None for left in self._left.values()):
            raise Misfit("runs on other steps where its reconstruction is folded")


def autocast_eps(device: str) -> float:
    """Return the machine epsilon of the dtype of autocast, or zero if autocast is off."""
    if not torch.is_autocast_enabled(device):
        return 0.0
    return torch.finfo(torch.get_autocast_dtype(device)).eps


def check_start(call: LayerCall, ran: Ran, reduction: LayerReduction) -> None:
    """Raise if the initial states of a small layer are not those of the kept nodes."""
    for wide, small in zip(call.start, ran.start, strict=True):
        kept = wide[..., reduction.support.to(wide.device)]
        if kept.shape != small.shape or columns_apart([small], [kept], None, ran.eps):
            raise Misfit("starts from other states where its reconstruction is folded")


def check_steps(call: LayerCall, ran: Ran, reduction: LayerReduction) -> None:
    """Raise if a step of a small layer differs from the same step of the given layer.

    If the weights of the small layer are fitted, its steps must follow from the fitted weights and
    the inputs of the given layer.
    """
    n_sequences, device = len(ran.start[0]), ran.states.device
    every = [call.steps(rows, MOST_STEPS) for rows in (call.input, ran.states)]
    n_steps = len(every[0])
    if n_sequences == 0 or n_steps == 0:
        return
    n_few = min(n_sequences, max(2, MOST_ROWS // n_steps))
    few = torch.linspace(0, n_sequences - 1, n_few).round().long().to(device)
    taken = [few[few < len(step)] for step in every[0]]
    x, states = (
        torch.cat([step[own] for step, own in zip(steps, taken, strict=True)]).double()
        for steps in every
    )
    steps = Steps([len(own) for own in taken])
    before = steps.before(ran.start[0][few].double(), states)
    if reduction.fitted is None:  # only the gates of kept nodes, which read all rebuilt nodes
        rows = reduction.rows(call.mode).to(device)
        weights = [weight.detach()[rows].double() for weight in call.weights]
        read = reduction.rebuild(before)
    else:
        weights, read = [weight.to(device) for weight in reduction.fitted.values()], before
    weight_ih, weight_hh, *biases = weights
    bias_ih, bias_hh = biases or (None, None)
    gates = linear(x, weight_ih, bias_ih), linear(read, weight_hh, bias_hh)
    cells = ran.start[-1][few].double()
    expected, _ = states_after(call.mode, *gates, before, cells, steps)
    # Rounding errors of a step are proportional to the terms of its sums.
    sums = torch.ones_like(states[0])
    for weight, values in ((weight_ih, x), (weight_hh, read)):
        sums += weight.abs().sum(1).view(-1, len(sums)).amax(0) * largest(values)
    rounding = (ROUNDINGS + n_steps) * sums
    if not same_states(states, expected, rounding, ran.eps):
        raise Misfit("takes other steps than those of the given layer")


def largest(values: Tensor) -> Tensor:
    """Return the largest absolute value among those that are finite, or zero."""
    return values.nan_to_num(0.0, 0.0, 0.0).abs().amax()


def same_states(found: Tensor, expected: Tensor, rounding: Tensor, eps: float) -> bool:
    """Return whether states are the same up to rounding, apart from rows that are not finite."""
    finite = (found.isfinite() & expected.isfinite()).all(1)
    found, expected = found[finite], expected[finite]
    if not len(found):
        return True
    tolerance = eps**0.5 * expected.abs().amax(0) + eps * rounding
    return bool(((found - expected).abs() <= tolerance).all())
