"""Inputs and states of dense layers on calibration sequences, cut into windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..kernels import KernelMode, LayerCall
from ..surgery.reduction import LayerReduction


@dataclass(frozen=True)
class DenseCall:
    """Call of a dense layer, and the states that it returned.

    Parameters
    ----------
    call : LayerCall
        The call.
    states : Tensor
        Hidden states of all steps.
    last : tuple of Tensor
        The last hidden state, and the last cell state of an LSTM.
    """

    call: LayerCall
    states: Tensor
    last: tuple[Tensor, ...]


class DenseRun(KernelMode):
    """Kernel mode that records the calls of every layer of the dense network.

    Parameters
    ----------
    names : dict of str
        Names of layers, by the id of their ``weight_hh``.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self.calls: dict[str, list[DenseCall]] = {}

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the layer and record its call."""
        states, last = call.run()
        # The module's forward may write into these tensors.
        own = DenseCall(copied(call), states.clone(), tuple(each.clone() for each in last))
        self.calls.setdefault(self._names[id(call.weights[1])], []).append(own)
        return states, last


class PartlySmallRun(KernelMode):
    """Kernel mode that runs some layers at their small size and returns the rebuilt states.

    The rest of the network is dense. If recorded calls are given, the other layers return their
    recorded states instead of running. A network that feeds its outputs back then continues from
    the outputs of the dense one.

    Parameters
    ----------
    names : dict of str
        Names of layers, by the id of their ``weight_hh``.
    reductions : dict of LayerReduction
        Fitted reductions of the layers to run at their small size, by name.
    dense : dict of list of DenseCall, optional
        Recorded calls of the layers of the dense network, by name.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        reductions: Mapping[str, LayerReduction],
        dense: Mapping[str, Sequence[DenseCall]] | None = None,
    ) -> None:
        super().__init__()
        self._names, self._reductions, self._dense = names, reductions, dense
        self.calls: dict[str, list[LayerCall]] = {name: [] for name in names.values()}
        self.cells: dict[str, list[Tensor]] = {name: [] for name in names.values()}

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the small layer, or return the recorded states of the dense one."""
        name = self._names[id(call.weights[1])]
        number = len(self.calls[name])
        self.calls[name].append(copied(call))
        if name in self._reductions:
            reduction = self._reductions[name]
            states, last = reduction.small_call(call).run()
            self.cells[name] += last[1:]
            cells = (reduction.rebuild_cells(cell) for cell in last[1:])
            return reduction.rebuild(states), (reduction.rebuild(last[0]), *cells)
        known = () if self._dense is None else self._dense.get(name, ())
        if len(known) <= number or known[number].call.input.shape != call.input.shape:
            return call.run()
        own = known[number]
        return own.states.clone(), tuple(each.clone() for each in own.last)

    def follows(self, name: str) -> bool:
        """Return whether the calls of a layer had the same input shapes as in the dense network."""
        dense = (self._dense or {}).get(name, ())
        shapes = [own.call.input.shape for own in dense]
        return shapes == [call.input.shape for call in self.calls[name]]


def copied(call: LayerCall) -> LayerCall:
    """Return a call with copies of its input and initial states."""
    start = tuple(each.clone() for each in call.start)
    return replace(call, input=call.input.clone(), start=start)


@dataclass(frozen=True)
class Windows:
    """Windows of sequences that a small layer is fitted on.

    Parameters
    ----------
    input : Tensor of shape (n_steps, n_windows, n_features)
        Inputs of the layer.
    states : Tensor of shape (n_steps, n_windows, n_nodes)
        Hidden states of the dense layer.
    start : tuple of Tensor, each (n_windows, n_nodes)
        Its hidden state before the window, and its cell state if it is an LSTM.
    lengths : Tensor of int, shape (n_windows,)
        Number of valid steps of each window; the others are padding.
    """

    input: Tensor
    states: Tensor
    start: tuple[Tensor, ...]
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def valid(self) -> Tensor:
        """Mask of the steps that are no padding, shape (n_steps, n_windows, 1)."""
        steps = torch.arange(len(self.input), device=self.lengths.device)
        return (steps[:, None] < self.lengths)[:, :, None]

    def take(self, index: Tensor) -> Windows:
        """Return the windows at some indices."""
        lengths = self.lengths[index]
        end = int(lengths.max())
        start = tuple(each[index] for each in self.start)
        return Windows(self.input[:end, index], self.states[:end, index], start, lengths)

    def seen_by(self, factor: Tensor) -> Windows:
        """Return the windows with their states multiplied by a matrix, in its dtype."""
        start = tuple(each.to(factor) for each in self.start)
        states = self.states.to(factor) @ factor.T
        return Windows(self.input.to(factor), states, start, self.lengths)

    @classmethod
    def joined(cls, parts: Sequence[Windows]) -> Windows:
        """Return the windows of several parts in one, padded to the longest."""
        end = max(len(part.input) for part in parts)
        return cls(
            torch.cat([filled_up(part.input, end) for part in parts], 1),
            torch.cat([filled_up(part.states, end) for part in parts], 1),
            tuple(map(torch.cat, zip(*(part.start for part in parts), strict=True))),
            torch.cat([part.lengths for part in parts]),
        )


def windows_of(dense: Sequence[DenseCall], calls: Sequence[LayerCall], size: int) -> Windows:
    """Cut the calls of a layer in a forward pass into windows.

    Parameters
    ----------
    dense : sequence of DenseCall
        Calls of the dense layer.
    calls : sequence of LayerCall
        The same calls with the inputs of the small layer.
    size : int
        Maximum number of steps of a window.
    """
    parts = []
    for chain in chains(dense):
        wide = joined_call([dense[i].call for i in chain])
        read = joined_call([calls[i] for i in chain])
        states = torch.cat([by_steps(dense[i].states, dense[i].call.batch_sizes) for i in chain])
        parts += cut_up(wide, read.input, states, size)
    return Windows.joined(parts)


def chains(dense: Sequence[DenseCall]) -> list[list[int]]:
    """Return the indices of calls in chains that continue each other, as cells in a loop do."""
    found: list[list[int]] = []
    for i, own in enumerate(dense):
        chain = next((each for each in found if goes_on(dense[each[-1]], own.call)), None)
        if chain is None:
            found.append([i])
        else:
            chain.append(i)
    return found


def goes_on(before: DenseCall, call: LayerCall) -> bool:
    """Return whether a call starts from the last states of another call."""
    if before.call.batch_sizes is not None or call.batch_sizes is not None:
        return False
    pairs = zip(before.last, call.start, strict=True)
    return all(one.shape == other.shape and one.equal(other) for one, other in pairs)


def joined_call(calls: Sequence[LayerCall]) -> LayerCall:
    """Return one call over the steps of several; packed sequences form chains of one call."""
    first = calls[0]
    if first.batch_sizes is not None:
        return replace(first, input=by_steps(first.input, first.batch_sizes))
    return replace(first, input=torch.cat([call.input for call in calls]))


def by_steps(rows: Tensor, batch_sizes: Tensor | None) -> Tensor:
    """Return rows as (n_steps, n_sequences, ...); packed sequences are padded with zeros."""
    if batch_sizes is None:
        return rows
    steps = rows.new_zeros(len(batch_sizes), int(batch_sizes[0]), rows.shape[-1])
    for step, own in zip(steps, rows.split(batch_sizes.tolist()), strict=True):
        step[: len(own)] = own
    return steps


def cut_up(call: LayerCall, read: Tensor, states: Tensor, size: int) -> list[Windows]:
    """Cut sequences into windows, each with the dense states before it as initial states."""
    n_steps, n_sequences = states.shape[:2]
    lengths = torch.full((n_sequences,), n_steps)
    if call.batch_sizes is not None:
        lengths = (call.batch_sizes[:, None] > torch.arange(n_sequences)).sum(0)
    lengths = lengths.to(states.device)
    size = -(-n_steps // -(-n_steps // size))  # all windows of about the same size
    start, found = call.start, []
    for begin in range(0, n_steps, size):
        end = min(begin + size, n_steps)
        going = lengths > begin
        found.append(
            Windows(
                read[begin:end, going],
                states[begin:end, going],
                tuple(each[going] for each in start),
                (lengths[going] - begin).clamp_max(end - begin),
            )
        )
        if len(start) == 1:
            start = (states[end - 1],)
        elif end < n_steps:  # only running the layer gives the cell states within a call
            part = replace(call, input=call.input[begin:end], batch_sizes=None, start=start)
            start = (states[end - 1], *part.run()[1][1:])
    return found


def filled_up(steps: Tensor, n_steps: int) -> Tensor:
    """Return steps padded with zeros to ``n_steps``."""
    return pad(steps, (0, 0, 0, 0, 0, n_steps - len(steps)))
