"""Fit small layers to the trajectories of the dense ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.threads import enough_threads
from ..forward_pass import ForwardPass
from ..layers.find import RecurrentLayer
from ..runtime.kinds import mode_of
from ..surgery.reduction import LayerReduction
from ..surgery.refit import Affine, refit
from ..surgery.verification import names_of
from .dense_outputs import DenseOutputs
from .layer_fit import LayerFit
from .windows import DenseCall, DenseRun, PartlySmallRun, Windows, windows_of

BATCH = 32  # windows in a step of Adam
N_CHECKS = 5  # evaluations of the divergence, evenly over the steps of Adam
MAX_RECORDED = 2**26  # limit on recorded numbers of inputs and states
MAX_MULTIPLY_ADDS = 2e12  # limit for the fit of one layer
# Steps of a window and learning rates. In a relu RNN, errors neither saturate nor are forgotten, so
# that they grow over more steps.
WINDOWS = {"RNN_TANH": 100, "RNN_RELU": 300, "GRU": 100, "LSTM": 100}
RATES = {"RNN_TANH": 3e-3, "RNN_RELU": 5e-4, "GRU": 5e-3, "LSTM": 5e-3}


class TrajectoryFit:
    """Fit of small layers to the trajectories of the dense ones.

    A layer with folded reconstruction takes the right step from the states of the dense network,
    but drifts further with every step from its own states. Here each small layer runs freely over
    windows of calibration sequences, from the dense state ``h[J]`` before the window. Its weights
    and its reconstruction are trained to lower the error of the rebuilt states,
    ``mean ‖M (h_t − A s_t − c)‖²``. With ``MᵀM = Q`` this is the information loss of states along
    the trajectory of the small layer rather than the dense one. Kept nodes are not rebuilt: each is
    its own state. Layers are fitted one after another, from the first to the last, each on the
    outputs of the fitted layers before it.

    The divergence of the whole network's outputs from the dense ones is computed on held-out
    passes before training and ``N_CHECKS`` times during it, with the layers that are not fitted yet
    dense. The weights with the least divergence are taken. After each check without improvement,
    training resumes from the best weights at half the learning rate.

    Parameters
    ----------
    module : nn.Module
        The dense module, with split layers; it is not changed.
    layers : sequence of RecurrentLayer
        Its layers.
    weights : dict of Tensor of shape (n_nodes, n_nodes)
        Q of every layer.
    passes : sequence of ForwardPass
        Forward passes to fit to; the last ones are left out if too much would be recorded.
    outputs : DenseOutputs
        Dense outputs in the held-out passes. If none can be compared, the error of the states in
        the fitted passes is used instead of the divergence.
    seed : int
        Seed of the order of the windows.
    alike : collection of str
        Names of layers whose reconstruction has to stay the same as that of another layer.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[RecurrentLayer],
        weights: Mapping[str, Tensor],
        passes: Sequence[ForwardPass],
        outputs: DenseOutputs,
        seed: int = 0,
        alike: Collection[str] = (),
    ) -> None:
        self._module, self._layers = module, {layer.name: layer for layer in layers}
        self._names = names_of(module, layers)
        self._weights, self._passes = weights, passes
        self._outputs, self._seed, self._alike = outputs, seed, alike

    def n_steps(self, reductions: Mapping[str, LayerReduction], most: int) -> dict[str, int]:
        """Return the number of steps of Adam for each layer that loses nodes.

        It is ``most``, or fewer if the fit would take more than ``MAX_MULTIPLY_ADDS``.
        """
        if not most or not any(reduction.is_smaller for reduction in reductions.values()):
            return {}
        with trainable(self._module):
            ran = dict.fromkeys(name for _, calls in self._recorded for name in calls)
        return {
            name: self._affordable(name, reductions, most)
            for name in ran
            if reductions[name].is_smaller
        }

    def _affordable(self, name: str, reductions: Mapping[str, LayerReduction], most: int) -> int:
        layer = self._layers[name].of(self._module)
        n_weights = sum(weight.numel() for weight in reductions[name].small_weights(layer).values())
        # Factor 3: forward, backward to the states and backward to the weights.
        each = 3 * WINDOWS[mode_of(layer)] * BATCH * n_weights
        return min(most, max(N_CHECKS, int(MAX_MULTIPLY_ADDS / each)))

    def fitted(
        self,
        reductions: Mapping[str, LayerReduction],
        n_steps: Mapping[str, int],
        on_step: Callable[[], Any] = lambda: None,
    ) -> tuple[dict[str, LayerReduction], dict[str, list[float]]]:
        """Return reductions in which some layers are fitted.

        Parameters
        ----------
        reductions : dict of LayerReduction
            Reduction of every layer, by name.
        n_steps : dict of int
            Number of steps of Adam for each layer to fit, by name.
        on_step : callable
            Function to call after every step.

        Returns
        -------
        reductions : dict of LayerReduction
            Reductions with the same nodes, but fitted weights and reconstructions.
        history : dict of list of float
            Divergence on the held-out passes, before training and at every check, by layer.
        """
        done: dict[str, LayerReduction] = {}
        history: dict[str, list[float]] = {}
        with trainable(self._module):
            for name, steps in n_steps.items():
                layer = self._layers[name].of(self._module)
                fit = LayerFit.of(layer, reductions[name], name in self._alike)
                with enough_threads(fit.n_weights):
                    history[name] = self._fit(fit, name, done, steps, on_step)
                done[name] = fit.reduction
                if reductions[name].cell is not None:
                    done[name] = self._with_cells(name, done)
        return {**reductions, **done}, history

    def _fit(
        self,
        fit: LayerFit,
        name: str,
        done: Mapping[str, LayerReduction],
        n_steps: int,
        on_step: Callable[[], Any],
    ) -> list[float]:
        """Fit a layer in place, with those in ``done`` small; return its divergences."""
        windows = self._windows(name, done)
        if windows is None:
            return []
        factor = root(self._weights[name]).to(fit.map)
        windows = windows.seen_by(factor)

        def divergence() -> float:
            reductions = {**done, name: fit.reduction}
            found = self._outputs.divergence(mode=lambda: PartlySmallRun(self._names, reductions))
            return fit.loss(windows, factor) if math.isnan(found) else found

        rate, best = RATES[fit.mode], fit.values()
        optimizer = torch.optim.Adam(fit.parameters, lr=rate)
        history = [divergence()]
        ends = {round(n_steps * (i + 1) / N_CHECKS) for i in range(N_CHECKS)}
        for step, index in zip(range(n_steps), batches(len(windows), self._seed), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1.0 - step / n_steps)
            optimizer.zero_grad()
            fit.error(windows.take(index), factor).backward()
            nn.utils.clip_grad_norm_(fit.parameters, 1.0)
            optimizer.step()
            on_step()
            if step + 1 in ends:
                history.append(divergence())
                if history[-1] < least(history[:-1]):
                    best = fit.values()
                else:
                    fit.set(best)
                    optimizer.state.clear()
                    rate /= 2.0
        return history

    @cached_property
    @torch.no_grad()
    def _recorded(self) -> list[tuple[ForwardPass, dict[str, list[DenseCall]]]]:
        """Passes, with the calls of the dense layers in them."""
        found: list[tuple[ForwardPass, dict[str, list[DenseCall]]]] = []
        n_numbers = 0
        for forward in self._passes:
            if n_numbers < MAX_RECORDED:
                run = DenseRun(self._names)
                forward.run(self._module, run, [])
                found.append((forward, run.calls))
                every = (own for calls in run.calls.values() for own in calls)
                n_numbers += sum(own.states.numel() + own.call.input.numel() for own in every)
        return found

    @torch.no_grad()
    def _windows(self, name: str, done: Mapping[str, LayerReduction]) -> Windows | None:
        """Return the windows of a layer, with those in ``done`` small; None if there are none."""
        parts, n_steps = [], WINDOWS[mode_of(self._layers[name].of(self._module))]
        for forward, dense in self._recorded:
            calls = [own.call for own in dense.get(name, ())]
            if done and calls:
                run = self._partly_small(forward, done, dense)
                calls = run.calls[name] if run.follows(name) else []
            if calls:
                parts.append(windows_of(dense[name], calls, n_steps))
        windows = Windows.joined(parts) if parts else None
        return windows if windows is not None and len(windows) else None

    def _partly_small(
        self,
        forward: ForwardPass,
        done: Mapping[str, LayerReduction],
        dense: Mapping[str, list[DenseCall]],
    ) -> PartlySmallRun:
        """Run a pass with the layers in ``done`` small and the dense states of the others."""
        run = PartlySmallRun(self._names, done, dense)
        forward.run(self._module, run, [])
        return run

    @torch.no_grad()
    def _with_cells(self, name: str, done: Mapping[str, LayerReduction]) -> LayerReduction:
        """Return a reduction refitted to the last cell states that the small layer reaches."""
        reduction = done[name]
        pairs: list[tuple[Tensor, Tensor]] = []
        for forward, dense in self._recorded:
            run = self._partly_small(forward, done, dense)
            if run.follows(name):
                wide = [own.last[1] for own in dense.get(name, ())]
                pairs += zip(wide, run.cells[name], strict=True)
        A, c = (each.clone() for each in reduction.of_cells)
        refit(None, Affine(A, c), pairs, reduction.support)
        return replace(reduction, cell=(A, c))


def batches(n_windows: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of window numbers without end; every window is drawn equally often."""
    generator = torch.Generator().manual_seed(seed)
    size, left = min(BATCH, n_windows), torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(n_windows, generator=generator)])
        yield left[:size]
        left = left[size:]


def least(values: Sequence[float]) -> float:
    """Return the least of some numbers, ignoring NaN; infinity if there is none."""
    return min((value for value in values if not math.isnan(value)), default=math.inf)


def root(weight: Tensor) -> Tensor:
    """Return a matrix M with ``MᵀM`` equal to a weight."""
    values, vectors = torch.linalg.eigh(weight.double())
    return values.clamp_min(0.0).sqrt()[:, None] * vectors.T


@contextmanager
def trainable(module: nn.Module) -> Iterator[None]:
    """Enable gradients and disable autocast, whatever the caller has set."""
    device = next(module.parameters()).device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        yield
