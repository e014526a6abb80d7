"""Runs of the small module, and of the given module with its hidden states replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..kernels import KernelMode, LayerCall
from ..outputs import columns_apart
from .reduction import LayerReduction

# Limits on the sequences and steps that are recomputed; all steps use the same weights.
N_CHECKED, MOST_STEPS = 16, 1024
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
        self._names = names
        self.ran: dict[str, list[Ran]] = {name: [] for name in names.values()}
        self.eps = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, Tensor) and result.is_floating_point():
            self.eps = max(self.eps, torch.finfo(result.dtype).eps)
        return result

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the layer and record its states."""
        name = self._names.get(id(call.weights[1]))
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
    cell = getattr(torch, f"{call.mode.lower()}_cell")
    device, n_sequences = ran.states.device, len(ran.start[0])
    if n_sequences == 0:
        return
    if reduction.fitted is None:
        weights, support = [weight.detach().double() for weight in call.weights], reduction.support
        start = call.start
    else:
        weights = [weight.to(device) for weight in reduction.fitted.values()]
        support, start = torch.arange(len(reduction.support)), ran.start
    few = torch.linspace(0, n_sequences - 1, min(N_CHECKED, n_sequences)).round().long()
    few = few.to(device)
    state, cells = ran.start[0][few], [each[few].double() for each in start[1:]]
    found, expected, most = [], [], torch.zeros(2, dtype=torch.float64)
    steps = zip(call.steps(call.input), call.steps(ran.states), strict=True)
    for x, states in islice(steps, MOST_STEPS):
        few = few[few < len(x)]
        read, before = x[few].double(), state[: len(few)].double()
        if reduction.fitted is None:
            before = reduction.rebuild(before)
        cells = [each[: len(few)] for each in cells]
        after = cell(read, (before, *cells) if cells else before, *weights)
        after, *cells = after if cells else (after,)
        state = states[few]
        found.append(state.double())
        expected.append(after[:, support.to(device)])
        largest = [each.nan_to_num(0.0, 0.0, 0.0).abs().amax().cpu() for each in (read, before)]
        most = torch.maximum(most, torch.stack(largest))
    if found:
        # Rounding errors of a step are proportional to the terms of its sums.
        n_nodes = weights[1].shape[1]
        rows = [weight.abs().sum(1).view(-1, n_nodes).amax(0).cpu() for weight in weights[:2]]
        sums = 1.0 + sum(size * row for size, row in zip(most, rows, strict=True))
        rounding = (ROUNDINGS + len(found)) * sums[support]
        if not same_states(torch.cat(found).cpu(), torch.cat(expected).cpu(), rounding, ran):
            raise Misfit("takes other steps than those of the given layer")


def same_states(found: Tensor, expected: Tensor, rounding: Tensor, ran: Ran) -> bool:
    """Return whether states are the same up to rounding, apart from rows that are not finite."""
    finite = (found.isfinite() & expected.isfinite()).all(1)
    found, expected = found[finite], expected[finite]
    if not len(found):
        return True
    tolerance = ran.eps**0.5 * expected.abs().amax(0) + ran.eps * rounding
    return bool(((found - expected).abs() <= tolerance).all())
