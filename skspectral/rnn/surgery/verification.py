"""Compare a pruned module with the given module, run with its hidden states replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..forward_pass import Again, ForwardPass
from ..layers.find import FORWARD_ERRORS, RecurrentLayer
from ..outputs import columns_apart
from ..tracing.readers import Readers, ReturnedState
from ..tracing.second_call import SecondCall
from .reduction import LayerReduction
from .replaced import ROUNDINGS, Misfit, PlainRun, Ran, ReplacedRun, SmallRun

DISTURBANCE = 0.5  # relative size of errors in states that show whether anything depends on them


@dataclass(frozen=True)
class Judge:
    """Comparison of pruned modules with the given module.

    The reference is the given module, run with its hidden states replaced, step by step, by those
    that the kept nodes of the pruned module rebuild. Modules whose layers are given initial states
    run twice, the second time from the states of the first. Every output must be the same as that
    of the pruned module, and each step of the pruned module must follow from the states before it
    by the weights of the given layer.

    Parameters
    ----------
    given : nn.Module
        The module as users wrote it.
    layers : tuple of RecurrentLayer
        Its layers.
    readers : Readers
        The readers of their hidden states.
    passes : sequence of ForwardPass
        Forward passes to compare on.
    """

    given: nn.Module
    layers: tuple[RecurrentLayer, ...]
    readers: Readers
    passes: Sequence[ForwardPass]
    _second_calls: dict[int, SecondCall | None] = field(default_factory=dict, init=False)

    @torch.no_grad()
    def objection(self, small: nn.Module, reductions: Mapping[str, LayerReduction]) -> str | None:
        """Return what is wrong with the hidden states of a pruned module; None if nothing is."""
        unseen = {layer.host for layer in self.layers if reductions[layer.name].is_smaller}
        try:
            for number in self._possible:
                unseen -= self._compare(number, small, reductions)
            for host in sorted(unseen):
                self._check_matters(host, small, reductions)
        except Misfit as misfit:
            return str(misfit)
        return None

    @torch.no_grad()
    def agree(self, one: nn.Module, other: nn.Module | None = None) -> bool:
        """Return whether two modules, by default a module and the given one, have equal outputs."""
        return all(
            same_outputs(one, other or self.given, forward, self._again(number))
            for number, forward in self._possible.items()
        )

    @cached_property
    def _possible(self) -> dict[int, ForwardPass]:
        """Passes that the given module can run; in training mode some modules require targets."""
        every = enumerate(self.passes)
        return {i: each for i, each in every if not each.training or runs(self.given, each)}

    def _compare(
        self, number: int, small: nn.Module, reductions: Mapping[str, LayerReduction]
    ) -> set[str]:
        """Compare both modules on one pass; return the hosts whose states were covered.

        Raises
        ------
        Misfit
            If the modules differ by more than rounding.
        """
        forward = self.passes[number]
        ran, found, found_parts = self._run_small(number, small)

        def theirs_of(**options: Any) -> list[Tensor]:
            outputs, parts = self._replaced(number, ran, reductions, **options)
            return flat(self._with_kept(number, outputs, found, reductions), parts)

        if self.layers[0].host == "":
            self._replaced(number, ran, reductions)  # the steps are checked; outputs are states
            return {""}
        ours, theirs = flat(found, found_parts), theirs_of()
        eps = ran.eps or torch.finfo(torch.get_default_dtype()).eps
        objection = columns_apart(ours, theirs, None, eps)
        if objection:
            rounding = theirs_of(noise=ROUNDINGS * eps)
            objection = columns_apart(ours, theirs, rounding, eps)
        if objection and forward.training:
            if columns_apart(theirs_of(seed=1), theirs, None, eps):
                return set()  # the outputs are random, as by dropout
            if self._trains_as_it_evaluates(number, small):
                return set()
        if objection:
            raise Misfit(objection)
        return self._hosts_read(ran.ran, found_parts)

    def _trains_as_it_evaluates(self, number: int, small: nn.Module) -> bool:
        """Return whether no layer runs in training, and the outputs are those of evaluation.

        A module with a recurrence of its own for training is one whose states cannot be replaced.
        """
        forward = self.passes[number]
        for module in (self.given, small):
            training = SmallRun(names_of(module, self.layers))
            evaluation = SmallRun(training.names)
            found, _ = forward.run(module, training, [])
            expected, _ = replace(forward, training=False).run(module, evaluation, [])
            apart = columns_apart(found, expected, None, evaluation.eps)
            if apart or any(training.ran.values()) or not any(evaluation.ran.values()):
                return False
        return True

    def _with_kept(
        self,
        number: int,
        outputs: list[Tensor],
        found: list[Tensor],
        reductions: Mapping[str, LayerReduction],
    ) -> list[Tensor]:
        """Return outputs in which states that the small module returns have its size."""
        supports = {i: reductions[layer.name].support for i, layer in enumerate(self.layers)}
        returned, n_calls = self._returned(number), 1 + (self._again(number) is not None)
        calls = zip(halves(outputs, n_calls), halves(found, n_calls), strict=True)
        kept = (kept_outputs(theirs, ours, returned, supports) for theirs, ours in calls)
        return list(chain.from_iterable(kept))

    def _returned(self, number: int) -> dict[int, ReturnedState]:
        every = self.readers.returned
        return every[number] if number < len(every) else {}

    def _again(self, number: int) -> Again | None:
        """Return what a second call gets; None if no layer goes on from an earlier call."""
        if number not in self._second_calls:
            starts = bool(self.readers.started or self.readers.startable)
            forward, returned = self.passes[number], self._returned(number)
            second = SecondCall.find(self.given, forward, returned, starts)
            self._second_calls[number] = second
        found = self._second_calls[number]
        return None if found is None else found.arguments

    def _run_small(
        self, number: int, small: nn.Module
    ) -> tuple[SmallRun, list[Tensor], dict[str, list[Tensor]]]:
        ran, forward = SmallRun(names_of(small, self.layers)), self.passes[number]
        try:
            return ran, *forward.run(small, ran, self._paths, again=self._again(number))
        except Misfit:
            raise
        except Exception as error:  # whatever the user's forward raises
            text = str(error).strip().partition("\n")[0]
            raise Misfit(f"does not fit where its reconstruction is folded ({text})") from error

    def _replaced(
        self,
        number: int,
        ran: SmallRun,
        reductions: Mapping[str, LayerReduction],
        *,
        noise: float = 0.0,
        of: str | None = None,
        seed: int = 0,
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Run the given module with its states replaced and, if ``noise`` > 0, disturbed."""
        disturbed = {
            layer.name: noise for layer in self.layers if noise and of in (None, layer.host)
        }
        run = ReplacedRun(names_of(self.given, self.layers), ran.ran, reductions, disturbed)
        forward, again = self.passes[number], self._again(number)
        outputs, parts = forward.run(self.given, run, self._paths, seed, again)
        run.check_finished()
        read = {
            layer.name: run.read[layer.name]
            for layer in self.layers
            if of not in (None, layer.host)
        }
        return outputs, parts | read

    @property
    def _paths(self) -> list[str]:
        """Paths of the readers that are not layers themselves."""
        inside = {layer.path for layer in self.layers}
        return [reader.path for reader in self.readers.called if reader.path not in inside]

    def _hosts_read(
        self, ran: Mapping[str, list[Ran]], parts: Mapping[str, list[Tensor]]
    ) -> set[str]:
        """Return the hosts of which a reader outside the host has run."""
        hosts = self.readers.by_name({layer.name: layer.host for layer in self.layers})
        names = {layer.path: layer.name for layer in self.layers}
        running = {path for path, outputs in parts.items() if any(out.numel() for out in outputs)}
        running |= {path for path, name in names.items() if ran[name]}
        return {
            hosts[name]
            for reader in self.readers.readers
            if reader.path in running
            for name, _ in reader.runs
            if name is not None and hosts[name] != hosts.get(names.get(reader.path, ""))
        }

    def _check_matters(
        self, host: str, small: nn.Module, reductions: Mapping[str, LayerReduction]
    ) -> None:
        """Raise if nothing that can be compared depends on the states of a host.

        Compared are the outputs, the inputs of other layers and their initial states.
        """
        for number in self._possible:
            ran, _, _ = self._run_small(number, small)
            calm, disturbed = (
                flat(*self._replaced(number, ran, reductions, noise=noise, of=host))
                for noise in (0.0, DISTURBANCE)
            )
            if columns_apart(disturbed, calm, None, 0.0):
                return
        raise Misfit("leads to no output that could be compared")


def runs(module: nn.Module, forward: ForwardPass) -> bool:
    """Return whether a module can run a pass."""
    try:
        forward.run(module, PlainRun(), [])
    except Exception:  # whatever the user's forward raises
        return False
    return True


def flat(outputs: list[Tensor], parts: Mapping[str, list[Tensor]]) -> list[Tensor]:
    """Return the outputs of a module and of its parts in one list."""
    return [*outputs, *(output for each in parts.values() for output in each)]


def names_of(module: nn.Module, layers: Sequence[RecurrentLayer]) -> dict[int, str]:
    """Return the names of layers by the id of their ``weight_hh``, before or after pruning."""
    return {id(layer.recurrent_weight(module)): layer.name for layer in layers}


@torch.no_grad()
def halves(values: list[Tensor], n: int) -> list[list[Tensor]]:
    """Return the outputs of each of one or two calls."""
    size = len(values) // n
    return [values[i * size : (i + 1) * size] for i in range(n)]


def kept_outputs(
    outputs: list[Tensor],
    found: list[Tensor],
    returned: Mapping[int, ReturnedState],
    supports: Mapping[int, Tensor],
) -> list[Tensor]:
    """Return outputs of a call in which returned states have the size that was found.

    Levels of different sizes return a tuple of states, where the given module returns one tensor.
    """
    states: list[ReturnedState | None] = [returned.get(i) for i in range(len(outputs))]
    if len(found) != len(outputs):
        levels = [
            [*zip(output, state.levels, strict=True)]
            if state is not None and state.layers.shape == output.shape
            else [(output, None)]
            for output, state in zip(outputs, states, strict=True)
        ]
        if sum(map(len, levels)) != len(found):
            return outputs
        outputs, states = map(list, zip(*chain.from_iterable(levels), strict=True))
    kept = [*outputs]
    for place, (state, small) in enumerate(zip(states, found, strict=True)):
        if state is not None and kept[place].shape != small.shape:
            entries = kept[place].cpu()[state.kept(supports)]
            if entries.numel() == small.numel():
                kept[place] = entries.view(small.shape)
    return kept


def same_outputs(
    one: nn.Module, other: nn.Module, forward: ForwardPass, again: Again | None = None
) -> bool:
    """Return whether two modules have the same outputs up to rounding."""
    expected, _ = forward.run(other, PlainRun(), [], again=again)
    try:
        found, _ = forward.run(one, PlainRun(), [], again=again)
    except FORWARD_ERRORS:
        return False
    eps = torch.finfo(next(other.parameters()).dtype).eps
    return columns_apart(found, expected, None, eps) is None
