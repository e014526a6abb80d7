"""What the layers of the dense network do on calibration sequences, cut into windows."""

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
    """A call of a dense layer, and the states that it led to.

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
    """Records what every layer of the dense network does.

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
        """Run the layer."""
        states, last = call.run()
        # Copies, since forward may write into what it is given.
        own = DenseCall(copied(call), states.clone(), tuple(each.clone() for each in last))
        self.calls.setdefault(self._names[id(call.weights[1])], []).append(own)
        return states, last


class PartlySmallRun(KernelMode):
    """Runs some layers at their small size, and gives out the states that they rebuild.

    All else is the dense network. Where the other layers' dense states are given, these take the
    place of what they would make of their input, which then leaves the rest of the network as it
    is: one that goes on from its own outputs goes on from those of the dense one.

    Parameters
    ----------
    names : dict of str
        Names of layers, by the id of their ``weight_hh``.
    cuts : dict of LayerReduction
        The layers to run at their small size.
    dense : dict of list of DenseCall, optional
        What the layers of the dense network do.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        reductions: Mapping[str, LayerReduction],
        dense: Mapping[str, Sequence[DenseCall]] | None = None,
    ) -> None:
        super().__init__()
        self._names, self._cuts, self._dense = names, reductions, dense
        self.calls: dict[str, list[LayerCall]] = {name: [] for name in names.values()}
        self.cells: dict[str, list[Tensor]] = {name: [] for name in names.values()}

    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the small layer, or give out the dense states."""
        name = self._names[id(call.weights[1])]
        number = len(self.calls[name])
        self.calls[name].append(copied(call))
        if name in self._cuts:
            cut = self._cuts[name]
            states, last = cut.small_call(call).run()
            self.cells[name] += last[1:]
            cells = (cut.rebuild_cells(cell) for cell in last[1:])
            return cut.rebuild(states), (cut.rebuild(last[0]), *cells)
        known = () if self._dense is None else self._dense.get(name, ())
        if len(known) <= number or known[number].call.input.shape != call.input.shape:
            return call.run()
        own = known[number]
        return own.states.clone(), tuple(each.clone() for each in own.last)

    def follows(self, name: str) -> bool:
        """Return whether a layer was called as in the dense network."""
        dense = (self._dense or {}).get(name, ())
        shapes = [own.call.input.shape for own in dense]
        return shapes == [call.input.shape for call in self.calls[name]]


def copied(call: LayerCall) -> LayerCall:
    """Return a call whose tensors stay as they are."""
    start = tuple(each.clone() for each in call.start)
    return replace(call, input=call.input.clone(), start=start)


@dataclass(frozen=True)
class Windows:
    """Windows of sequences, for a small layer to run over.

    Parameters
    ----------
    input : Tensor of shape (n_steps, n_windows, n_features)
        What the layer reads.
    states : Tensor of shape (n_steps, n_windows, n_nodes)
        Hidden states of the dense layer.
    start : tuple of Tensor, each (n_windows, n_nodes)
        Its hidden state before the window, and its cell state if it is an LSTM.
    lengths : Tensor of int, shape (n_windows,)
        Steps of each window, behind which there are zeros.
    """

    input: Tensor
    states: Tensor
    start: tuple[Tensor, ...]
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def valid(self) -> Tensor:
        """Which steps are no padding, shape (n_steps, n_windows, 1)."""
        steps = torch.arange(len(self.input), device=self.lengths.device)
        return (steps[:, None] < self.lengths)[:, :, None]

    def take(self, index: Tensor) -> Windows:
        """Return some of them."""
        lengths = self.lengths[index]
        end = int(lengths.max())
        start = tuple(each[index] for each in self.start)
        return Windows(self.input[:end, index], self.states[:end, index], start, lengths)

    def seen_by(self, factor: Tensor) -> Windows:
        """Return them in the dtype of a matrix, with the states multiplied by it."""
        start = tuple(each.to(factor) for each in self.start)
        states = self.states.to(factor) @ factor.T
        return Windows(self.input.to(factor), states, start, self.lengths)

    @classmethod
    def joined(cls, parts: Sequence[Windows]) -> Windows:
        """Return the windows of several parts."""
        end = max(len(part.input) for part in parts)
        return cls(
            torch.cat([filled_up(part.input, end) for part in parts], 1),
            torch.cat([filled_up(part.states, end) for part in parts], 1),
            tuple(map(torch.cat, zip(*(part.start for part in parts), strict=True))),
            torch.cat([part.lengths for part in parts]),
        )


def windows_of(dense: Sequence[DenseCall], calls: Sequence[LayerCall], size: int) -> Windows:
    """Cut what a layer does in a forward pass into windows.

    Parameters
    ----------
    dense : sequence of DenseCall
        Calls of the dense layer.
    calls : sequence of LayerCall
        The same calls, with what the small layer reads in them.
    size : int
        The most steps of a window.
    """
    parts = []
    for chain in chains(dense):
        wide = joined_call([dense[i].call for i in chain])
        read = joined_call([calls[i] for i in chain])
        states = torch.cat([by_steps(dense[i].states, dense[i].call.batch_sizes) for i in chain])
        parts += cut_up(wide, read.input, states, size)
    return Windows.joined(parts)


def chains(dense: Sequence[DenseCall]) -> list[list[int]]:
    """Return the numbers of calls that go on from one another, as those of cells in a loop do."""
    found: list[list[int]] = []
    for i, own in enumerate(dense):
        chain = next((each for each in found if goes_on(dense[each[-1]], own.call)), None)
        if chain is None:
            found.append([i])
        else:
            chain.append(i)
    return found


def goes_on(before: DenseCall, call: LayerCall) -> bool:
    """Return whether a call starts from the states in which another one ended."""
    if before.call.batch_sizes is not None or call.batch_sizes is not None:
        return False
    pairs = zip(before.last, call.start, strict=True)
    return all(one.shape == other.shape and one.equal(other) for one, other in pairs)


def joined_call(calls: Sequence[LayerCall]) -> LayerCall:
    """Return one call over the steps of several; of packed sequences there is only one."""
    first = calls[0]
    if first.batch_sizes is not None:
        return replace(first, input=by_steps(first.input, first.batch_sizes))
    return replace(first, input=torch.cat([call.input for call in calls]))


def by_steps(rows: Tensor, batch_sizes: Tensor | None) -> Tensor:
    """Return rows as (n_steps, n_sequences, ...), those of packed sequences with zeros behind."""
    if batch_sizes is None:
        return rows
    steps = rows.new_zeros(len(batch_sizes), int(batch_sizes[0]), rows.shape[-1])
    for step, own in zip(steps, rows.split(batch_sizes.tolist()), strict=True):
        step[: len(own)] = own
    return steps


def cut_up(call: LayerCall, read: Tensor, states: Tensor, size: int) -> list[Windows]:
    """Cut sequences into windows, each of which starts from the dense states before it."""
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
        elif end < n_steps:  # whose cell states nobody else knows
            part = replace(call, input=call.input[begin:end], batch_sizes=None, start=start)
            start = (states[end - 1], *part.run()[1][1:])
    return found


def filled_up(steps: Tensor, n_steps: int) -> Tensor:
    """Return steps with zeros behind them."""
    return pad(steps, (0, 0, 0, 0, 0, n_steps - len(steps)))
