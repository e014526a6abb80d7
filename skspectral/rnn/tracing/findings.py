"""Record the readers of hidden states, and obstacles to folding, while states are traced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..layers.find import RecurrentLayer
from .nodes import OTHER, PAD, Followed, Nodes, columns, without_padding
from .probe import ParameterView, at
from .readers import NodeParameter, Reader, Readers, ReturnedState

PADDED = "is padded with zeros"
RETURN_LESS = "return its last state, or what a linear map reads from it"


class Findings:
    """Readers of the states of a module's layers, and obstacles to folding, as they are found.

    Parameters
    ----------
    module : nn.Module
        The module with split layers.
    layers : tuple of RecurrentLayer
        Its layers.
    nodes : Nodes
        Blocks of node numbers.
    """

    def __init__(self, module: nn.Module, layers: tuple[RecurrentLayer, ...], nodes: Nodes) -> None:
        self._module, self._layers, self._nodes = module, layers, nodes
        self._paths = {id(each): path for path, each in module.named_parameters()}
        self._reading: dict[tuple[str, str | None], set[Reader]] = {}
        self._used_elsewhere: set[str] = set()
        self._obstacles: dict[str, str] = {}
        self._linear_only: dict[str, str] = {}
        self._returned: list[dict[int, ReturnedState]] = []
        self._returning: set[str] = set()
        self._lenient, self._records = False, True
        self.idle = {id(each) for each in module.parameters()}
        self.node_parameters: dict[NodeParameter, None] = {}
        self.starts: dict[str, set[str]] = {}
        self.cell_starts: set[str] = set()
        self.last_read: set[str] = set()
        self.kept: dict[str, str] = {}
        self.buffers: dict[str, Tensor] = {}  # node numbers of those that hold states
        self._other_inputs: dict[str, Tensor] = {}  # columns that are not zero
        self.callers: dict[str, set[str]] = {}

    def begin(self, lenient: bool) -> None:
        """Begin a pass; a lenient one finds no obstacles."""
        self._lenient, self._records = lenient, True
        self._returned.append({})

    @property
    def returned_last(self) -> dict[int, ReturnedState]:
        """States that the present pass has returned."""
        return self._returned[-1]

    def begin_again(self) -> None:
        """Begin a second call in the same pass, whose outputs are not recorded."""
        self._records = False

    def note_start(self, host: str, given: str) -> None:
        """Record what a host is given as its initial state in the first call of a pass."""
        if self._records:
            self.starts.setdefault(host, set()).add(given)

    def read_other_inputs(self, path: str, inputs: Tensor) -> None:
        """Record that a layer or linear map reads inputs that are no states."""
        if self._lenient:
            return
        columns_used = inputs.reshape(-1, inputs.shape[-1]).ne(0.0).any(0)
        before = self._other_inputs.get(path, columns_used)
        self._other_inputs[path] = before | columns_used

    def note_uses(self, views: Iterable[ParameterView], read: Iterable[str] = ()) -> None:
        """Note parameters that are used other than to read states or to scale them."""
        if not self._lenient:
            self._used_elsewhere.update({view.path for view in views} - {*read})

    def record(
        self,
        like: Followed,
        followed: list[Followed],
        path: str,
        weight: str | None,
        axis: int,
        row: list[int] | None,
    ) -> None:
        """Record a weight that reads states along an axis, or what stands in its way.

        Parameters
        ----------
        like : Followed
            The common properties of the states.
        followed : list of Followed
            The states.
        path, weight, axis
            As in ``Reader``.
        row : list of int or None
            Numbers of the nodes along the axis; None if they are not the same in all steps.
        """
        hosts = self.hosts_of(followed)
        self.last_read |= self.hosts_of(each for each in followed if each.is_last)
        runs = None if row is None else self._nodes.runs(row)
        padded = any(bool((each.numbers == PAD).any()) for each in followed)
        where = f"{path}.{weight}".strip(".")
        if row is None or runs is None:
            self.block(hosts, f"reaches {path!r} in another order or in part")
        elif weight is not None and not self._is_saved(path, weight):
            self.block(hosts, f"is read by the buffer {where!r}, which is not saved")
        elif like.shift is not None and (padded or weight is not None):
            self.block(hosts, f"reaches {path!r} shifted, and padded or where there is no bias")
        else:
            scale, shift = columns(like.scale, row, 1.0), columns(like.shift, row, 0.0)
            reader = Reader(path, runs, weight, axis, scale, shift)
            self._reading.setdefault((path, weight), set()).add(reader)
        without_bias = f"is read by {where!r}, which has no bias" if weight is not None else ""
        if reason := like.linear_only or without_bias or (PADDED if padded else ""):
            for host in hosts:
                self._linear_only.setdefault(host, reason)

    def _is_saved(self, path: str, name: str) -> bool:
        return name not in self._module.get_submodule(path)._non_persistent_buffers_set

    def hosts(self, numbers: Tensor) -> set[str]:
        """Return the hosts of the layers whose nodes are among the numbers."""
        found = self._nodes.blocks_in(numbers)
        return {self._layers[i].host for block in found for i in block.layers}

    def hosts_of(self, followed: Iterable[Followed]) -> set[str]:
        """Return the hosts of the layers whose nodes are in some tensors."""
        return {host for each in followed for host in self.hosts(each.numbers)}

    @property
    def startable(self) -> set[str]:
        """Hosts that are called with an initial state, or None in its place."""
        return {host for host, given in self.starts.items() if given - {"absent"}}

    def leave_module(self, place: int, followed: Followed, goes_on: bool) -> None:
        """Record states that are an output of the module."""
        hosts, blocks = self.hosts(followed.numbers), self._nodes.blocks_in(followed.numbers)
        if goes_on and all(len(block.layers) == 1 for block in blocks):
            if self._records:
                self._returned[-1][place] = self._state(followed.numbers)
            self._returning |= hosts
            return
        self.block(hosts, f"is returned by forward; {RETURN_LESS}")
        if any(block.is_cell for block in blocks):
            # A caller may start any layer from them; a bare layer gets back its own.
            self.cell_starts |= hosts - {""}

    def _state(self, numbers: Tensor) -> ReturnedState:
        """Return the layer and the node of every number."""
        numbers = without_padding(numbers)
        layers = torch.full_like(numbers, OTHER)
        for block in self._nodes.blocks_in(numbers):
            inside = (numbers >= block.first) & (numbers < block.first + block.size)
            layers[inside] = block.layers[0]
        nodes = torch.where(numbers >= 0, at(self._nodes.local, numbers.clamp(min=0)), numbers)
        return ReturnedState(layers.cpu(), nodes.cpu())

    def hold(self, path: str, numbers: Tensor) -> None:
        """Record a buffer into which states are written."""
        before = self.buffers.get(path, numbers)
        self.buffers[path] = torch.where(numbers >= 0, numbers, before)

    def block(self, hosts: Iterable[str], obstacle: str) -> None:
        """Record what stands in the way of folding, in words; the first obstacle is kept."""
        for host in hosts if not self._lenient else ():
            self._obstacles.setdefault(host, obstacle)

    def readers(self) -> Readers:
        """Return the readers and other uses of states that were found."""
        self._lenient = False
        for (path, weight), readings in self._reading.items():
            read = self._hosts_read(readings)
            if len(readings) > 1 or self._reads_others(path, weight, readings):
                self.block(read, f"reaches {path!r} beside other inputs at different times")
            elif self._weight_path(path, weight) in self._used_elsewhere:
                self.block(read, f"shares {path!r} with another use")
        found = tuple(
            next(iter(readings))
            for readings in self._reading.values()
            if len(readings) == 1 and any(name for each in readings for name, _ in each.runs)
        )
        idle = dict(self._idle_parts())
        for reader in found:
            for sibling in set(siblings(self._module, reader.path)) & idle.keys():
                self.block(
                    self._hosts_read([reader]),
                    f"is not seen to reach {sibling!r}, which stands beside its reader "
                    f"{reader.path!r} and did not run on X",
                )
        elsewhere = self._returning - self.startable if self.startable else set()
        self.block(elsewhere, "is returned by forward and may start another layer")
        return Readers(
            found,
            self._obstacles,
            frozenset(host for host, given in self.starts.items() if "state" in given),
            frozenset(self.cell_starts),
            self._linear_only,
            frozenset(host for host, given in self.starts.items() if given == {"none"}),
            self.kept,
            self.callers,
            idle,
            tuple(self.node_parameters),
            self._ties(found),
            tuple(self._returned),
            frozenset(self._returning - self.last_read - elsewhere),
            {path: self._state(numbers) for path, numbers in self.buffers.items()},
        )

    def _reads_others(self, path: str, weight: str | None, readings: set[Reader]) -> bool:
        """Return whether a part reads other inputs than states in the columns of nodes.

        Where such inputs are always zero, as before the first state, they are padding.
        """
        used = self._other_inputs.get(path)
        if used is None or weight is not None:
            return used is not None
        read = {name: reader for reader in readings for name, _ in reader.runs if name is not None}
        if any(
            used[columns].any() for name, each in read.items() for columns in each.columns(name)
        ):
            return True
        for host in self._hosts_read(readings):
            self._linear_only.setdefault(host, PADDED)
        return False

    def _hosts_read(self, readings: Iterable[Reader]) -> set[str]:
        """Return the hosts of the layers that some readers read."""
        names = {name for reader in readings for name, _ in reader.runs}
        every = (block for block in self._nodes.blocks if block.name in names)
        return {self._layers[i].host for block in every for i in block.layers}

    def _weight_path(self, path: str, weight: str | None) -> str | None:
        """Return the path of a reader's weight; None for a layer, which is called as a whole."""
        part = self._module.get_submodule(path)
        if weight is None and not isinstance(part, nn.Linear):
            return None
        tensor = getattr(part, weight or "weight")
        return self._paths.get(id(tensor), f"{path}.{weight}".strip("."))

    def _ties(self, readers: Iterable[Reader]) -> dict[str, tuple[str, ...]]:
        """Return the names of the layers in every tie that is read."""
        every = [each.runs for each in readers] + [each.runs for each in self.node_parameters]
        read = {name for runs in every for name, _ in runs}
        return {
            block.name: tuple(self._layers[i].name for i in block.layers)
            for block in self._nodes.blocks
            if block.name in read and len(block.layers) > 1
        }

    def _idle_parts(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield parts whose weight no pass used, with the sizes of their inputs."""
        for path, part in self._module.named_modules():
            weight = part._parameters.get("weight")
            if (
                weight is not None
                and id(weight) in self.idle
                and not isinstance(part, nn.Embedding)
            ):
                yield path, tuple(weight.shape[min(1, weight.ndim - 1) :])


def siblings(module: nn.Module, path: str) -> Iterator[str]:
    """Yield the paths of the other parts in the ``ModuleList`` or ``ModuleDict`` of a part."""
    outer, _, name = path.rpartition(".")
    holder = module.get_submodule(outer)
    if isinstance(holder, (nn.ModuleList, nn.ModuleDict)):
        yield from (f"{outer}.{other}" for other in holder._modules if other != name)
