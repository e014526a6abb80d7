"""Find the readers of hidden states by tracing the states through the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

from ..forward_pass import ForwardPass
from ..kernels import KERNELS, seeded
from ..layers.find import RecurrentLayer, find_layers
from ..layers.weights import independent_copy
from ..outputs import tensors
from .methods import methods_running
from .readers import Reader, Readers

# Functions that only rearrange entries, so that they can be applied to node numbers too.
MOVES = frozenset(
    "__getitem__ T alpha_dropout chunk clone contiguous detach data dropout expand expand_as "
    "flatten flip gather index_select mT movedim narrow permute repeat reshape select split "
    "squeeze swapaxes swapdims take_along_dim transpose unbind unflatten unsqueeze view view_as "
    "_pack_padded_sequence _pad_packed_sequence".split()
)
JOINS = frozenset("cat concat concatenate stack hstack vstack".split())
# Moves that select steps for each sequence separately, and so can leave out padding.
PICKS = frozenset("gather take_along_dim _pack_padded_sequence".split())
CASTS = frozenset("bfloat16 cpu cuda double float half to type type_as".split())
# Functions that are linear in each entry.
SCALINGS = frozenset(
    "mul __mul__ __rmul__ multiply div __truediv__ divide true_divide neg __neg__ negative".split()
)
SUMS = frozenset("add __add__ __radd__ sub __sub__ subtract lerp where".split())
# Functions whose results do not depend on the entries, or are not traced further.
QUERIES = frozenset(
    "__len__ __hash__ __repr__ __format__ device dim dtype element_size empty_like get_device "
    "grad_fn full_like is_complex is_contiguous is_cpu is_cuda is_floating_point is_inference "
    "is_leaf is_mps is_sparse is_nested is_quantized isfinite isinf isnan layout names ndim "
    "ndimension nelement new_empty new_full new_ones new_tensor new_zeros numel ones_like "
    "rand_like randn_like requires_grad requires_grad_ retain_grad shape size storage_offset "
    "stride zeros_like".split()
)
OTHER = -1  # number of an entry that is no node
PAD = -2  # number of a zero that pads the states
PADDED = "is padded with zeros"


class Followed(NamedTuple):
    """Tensor of hidden states that is being traced.

    Parameters
    ----------
    tensor : Tensor
        The tensor; a reference keeps its id from being reused.
    numbers : Tensor of int
        Node number of every entry.
    linear_only : str
        Reason, in words, why the constant part of a reconstruction cannot be folded into its
        reader; empty if it can.
    """

    tensor: Tensor
    numbers: Tensor
    linear_only: str = ""


def find_readers(
    module: nn.Module, layers: Iterable[RecurrentLayer], passes: Sequence[ForwardPass]
) -> Readers:
    """Return the readers found by tracing the hidden states through forward passes.

    Passes in training mode find the readers that run only there. If such a pass fails, for example
    because it requires targets, it is ignored.

    Raises
    ------
    ValueError
        If the module reads the cell state of an LSTM, which cannot be rebuilt for its readers, or
        if a layer runs in any other way than by calling it with its own weights.
    """
    tracker = StateTracker(module, tuple(layers))
    for forward in passes:
        try:
            tracker.follow(forward)
        except Exception:  # whatever the user's forward raises
            if not forward.training:
                raise
    return tracker.readers()


class StateTracker(TorchFunctionMode):
    """Function mode that tracks the node number of every entry of the hidden states.

    Parameters
    ----------
    module : nn.Module
        The module with split layers; it is not changed.
    layers : tuple of RecurrentLayer
        Its layers.
    """

    def __init__(self, module: nn.Module, layers: tuple[RecurrentLayer, ...]) -> None:
        super().__init__()
        self._module, self._layers = module, layers
        self._linears = {
            id(part.weight): path
            for path, part in module.named_modules()
            if isinstance(part, nn.Linear) and isinstance(part.weight, nn.Parameter)
        }
        self._idle = {id(each) for each in module.parameters()}
        self._recurrent = {
            id(each.recurrent_weight(module)): each.name for each in find_layers(module)
        }
        sizes = [layer.of(module).hidden_size for layer in layers]
        self._owners = [i for i, size in enumerate(sizes) for _ in range(size)]
        self._first = dict(zip((layer.name for layer in layers), running(sizes), strict=True))
        self._reading: dict[str, set[tuple[tuple[str | None, int], ...]]] = {}
        self._used_elsewhere: set[int] = set()
        self._obstacles: dict[str, str] = {}
        self._linear_only: dict[str, str] = {}
        self._starts: dict[str, set[str]] = {}
        self._cell_starts: set[str] = set()
        self._kept: dict[str, str] = {}
        self._callers: dict[str, set[str]] = {}
        self._clear()

    def _clear(self) -> None:
        self._nodes: dict[int, Followed] = {}
        self._cells: dict[int, tuple[Tensor, set[str]]] = {}
        self._running: list[str] = []

    @torch.no_grad()
    def follow(self, forward: ForwardPass) -> None:
        """Trace the states through a forward pass of a copy of the module."""
        self._clear()
        self._lenient = forward.training
        module = independent_copy(self._module).train(forward.training)
        for layer in self._layers:
            self._watch(layer, module)
        for host, owner in {layer.host: layer.owner for layer in self._layers}.items():
            self._watch_start(host, module.get_submodule(owner))
        with seeded():
            with self:
                output = module(*forward.args, **forward.kwargs)
            self._inspect(output, module)

    def _watch(self, layer: RecurrentLayer, module: nn.Module) -> None:
        part, holder = layer.of(module), module.get_submodule(layer.owner.rpartition(".")[0])

        def before(_part: nn.Module, args: Any, kwargs: Any) -> None:
            if methods := methods_running(holder):
                self._callers.setdefault(layer.host, set()).update(methods)
            self._running.append(layer.name)
            self._enter(layer, *args, **kwargs)

        def after(_part: nn.Module, _args: Any, output: Any) -> None:
            self._leave(layer, part, output)
            self._running.pop()

        part.register_forward_pre_hook(before, with_kwargs=True)
        part.register_forward_hook(after)

    def _watch_start(self, host: str, owner: nn.Module) -> None:
        def before(_owner: nn.Module, args: Any, kwargs: Any) -> None:
            start = (
                args[1:] if len(args) > 1 else [kwargs[name] for name in ("hx",) if name in kwargs]
            )
            given = {"absent"} if not len(start) else {"none" if start[0] is None else "state"}
            self._starts.setdefault(host, set()).update(given)

        owner.register_forward_pre_hook(before, with_kwargs=True)

    def _enter(self, layer: RecurrentLayer, input: Any, hx: Any = None) -> None:  # noqa: A002
        """Record which traced states are the input or initial states of a layer."""
        states = _tensors(input)[0]
        if id(states) in self._nodes:
            self._read(layer.path, self._nodes[id(states)])
        else:
            self._reading.setdefault(layer.path, set()).add(((None, states.shape[-1]),))
        for state in _tensors(hx):
            if id(state) in self._nodes:
                others = self._hosts(self._nodes[id(state)].numbers) - {layer.host}
                self._block(others, "starts another layer")
            elif id(state) in self._cells:
                others = self._cells[id(state)][1] - {layer.host}
                self._block(others, "starts another layer")
                self._cell_starts |= others

    def _leave(self, layer: RecurrentLayer, part: nn.Module, output: Any) -> None:
        """Start to trace the states that a layer returns."""
        if isinstance(part, nn.RNNCellBase):
            hidden, cell = output if isinstance(output, tuple) else (output, None)
            states = hidden
        else:
            states, final = output
            hidden, cell = final if isinstance(final, tuple) else (final, None)
        first = self._first[layer.name]
        for tensor in {id(each): each for each in (*_tensors(states)[:1], hidden)}.values():
            numbers = torch.arange(first, first + tensor.shape[-1], device=tensor.device)
            same_strides = torch.empty_like(tensor, dtype=torch.long)
            self._nodes[id(tensor)] = Followed(tensor, same_strides.copy_(numbers))
        if cell is not None:
            self._cells[id(cell)] = cell, {layer.host}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
        if name in KERNELS:
            self._check_kernel(args)
        result = func(*args, **kwargs)
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        self._idle.difference_update(map(id, given))
        if self._running or name in QUERIES:
            return result
        self._follow_cells(name, given, args, result)
        followed = [self._nodes[id(tensor)] for tensor in given if id(tensor) in self._nodes]
        if func is F.linear and len(followed) == 1 and followed[0].tensor is given[0]:
            self._read_by_linear(followed[0], given[1])
            return result
        self._used_elsewhere.update(id(tensor) for tensor in given if id(tensor) in self._linears)
        if followed and not self._follow(func, name, args, kwargs, result, followed):
            for each in followed:
                self._block(self._hosts(each.numbers), f"is used by {name}")
        return result

    def _check_kernel(self, args: Any) -> None:
        """Raise if a layer does not run by calling it with its own weights."""
        weights = [each for each in tree_iter(args[1:]) if isinstance(each, Tensor)]
        known = [self._recurrent[id(each)] for each in weights if id(each) in self._recurrent]
        if self._running and not known:
            raise ValueError(
                f"layer {self._running[-1]!r} runs with weights that are not its own, as where "
                "they are set before each call; give a module whose layer holds its weights."
            )
        if not self._running and known:
            raise ValueError(
                f"layer {known[0]!r} runs by its forward() and not by a call; write self.rnn(x) in "
                "place of self.rnn.forward(x)."
            )
        if not known:
            raise ValueError(
                f"forward of {type(self._module).__name__} runs a recurrent layer that is not "
                "among its modules, as where a closure or a global holds it; make it an attribute "
                "of the module that calls it."
            )

    def _follow(
        self, func: Any, name: str, args: Any, kwargs: Any, result: Any, followed: list[Followed]
    ) -> bool:
        """Trace states through a function; return whether this is possible."""
        reason = next((each.linear_only for each in followed if each.linear_only), "")
        if name in CASTS:
            self._keep(result, followed[0].numbers, reason)
        elif name in MOVES | JOINS:
            self._move(func, name, args, kwargs, result, reason)
        elif name in ("mean", "sum"):
            return self._reduce(name, result, reason, *args, **kwargs)
        elif name in SCALINGS and len(followed) == 1:
            return self._scale(name, result, args, kwargs, followed[0])
        elif name in SUMS:
            return self._sum(name, result, args, kwargs, followed, reason)
        elif name == "masked_fill":
            return self._mask(result, followed[0], *args[1:], **kwargs)
        else:
            return False
        return True

    def _keep(self, tensor: Any, numbers: Tensor, linear_only: str) -> None:
        self._nodes[id(tensor)] = Followed(tensor, numbers, linear_only)

    def _move(self, func: Any, name: str, args: Any, kwargs: Any, result: Any, reason: str) -> None:
        """Rearrange the node numbers as a function rearranged the states."""
        if func is F.dropout or name == "alpha_dropout":
            numbers = self._nodes[id(args[0] if args else kwargs["input"])].numbers
        elif name == "_pad_packed_sequence":
            data, batch_sizes, batch_first, value, total = args
            filling = PAD if value == 0.0 else OTHER
            own = self._nodes[id(data)].numbers
            numbers = func(own, batch_sizes, batch_first, filling, total)
            reason = reason or PADDED
        else:
            numbers = func(*tree_map(self._numbers_of, args), **tree_map(self._numbers_of, kwargs))
            reason = "" if reason == PADDED and is_pick(name, args) else reason
        for tensor, moved in zip(_tensors(result), _tensors(numbers), strict=True):
            if tensor.is_floating_point():
                self._keep(tensor, moved.long(), reason)

    def _reduce(
        self,
        name: str,
        result: Tensor,
        reason: str,
        input: Tensor,  # noqa: A002  as in torch
        dim: Any = None,
        keepdim: bool = False,
        **_options: Any,
    ) -> bool:
        """Trace a sum or mean over entries of the same nodes, such as over steps."""
        if dim is None:
            return False
        numbers = self._nodes[id(input)].numbers
        most = torch.amax(numbers, dim, keepdim)
        least = torch.amin(torch.where(numbers == PAD, len(self._owners), numbers), dim, keepdim)
        if not torch.where(most == PAD, PAD, least).equal(most):
            return False
        padded = PADDED if bool((numbers == PAD).any()) else ""
        self._keep(result, most, reason or padded or ("is summed" if name == "sum" else ""))
        return True

    def _scale(self, name: str, result: Tensor, args: Any, kwargs: Any, states: Followed) -> bool:
        """Trace states multiplied by a factor that is the same for all nodes."""
        others = [value for value in tree_iter((args, kwargs)) if value is not states.tensor]
        inverse = name in ("div", "__truediv__", "divide", "true_divide")
        if (inverse and args[0] is not states.tensor) or not self._is_even(states, others, result):
            return False
        numbers = states.numbers.expand(result.shape)
        self._keep(result, numbers, states.linear_only or "is scaled")
        return True

    def _sum(
        self,
        name: str,
        result: Tensor,
        args: Any,
        kwargs: Any,
        followed: list[Followed],
        reason: str,
    ) -> bool:
        """Trace a sum of states of the same nodes, weighted by factors that all nodes share."""
        terms = {id(each.tensor) for each in followed}
        others = [value for value in tree_iter((args, kwargs)) if id(value) not in terms]
        n_terms = len([value for value in tree_iter((args, kwargs)) if id(value) in terms])
        zeros = [value for value in others if is_zero(value)]  # such as an initial state
        if n_terms + len(zeros) < 2:
            return False
        numbers = [each.numbers.expand(result.shape) for each in followed]
        same = all(each.equal(numbers[0]) for each in numbers)
        rest = [value for value in others if not is_zero(value)]
        if not same or not self._is_even(followed[0], rest, result):
            return False
        mixes = name in ("lerp", "where") and n_terms > 1
        self._keep(result, numbers[0], reason or ("" if mixes else "is added up"))
        return True

    def _mask(self, result: Tensor, states: Followed, mask: Any, value: Any) -> bool:
        """Trace states of which some steps are set to zero, all nodes at once."""
        if not isinstance(value, Real) or value != 0 or not self._is_even(states, [mask], result):
            return False
        self._keep(result, states.numbers.expand(result.shape), states.linear_only or "is masked")
        return True

    def _is_even(self, states: Followed, others: list[Any], result: Tensor) -> bool:
        """Return whether other operands have the same value for all nodes of a state."""
        numbers = states.numbers.expand(result.shape)
        varying = [
            axis - numbers.ndim
            for axis in range(numbers.ndim)
            if numbers.shape[axis] > 1 and not numbers.amin(axis).equal(numbers.amax(axis))
        ]
        return all(
            other.ndim < -axis or other.shape[axis] == 1
            for other in others
            if isinstance(other, Tensor)
            for axis in varying
        )

    def _follow_cells(self, name: str, given: list[Tensor], args: Any, result: Any) -> None:
        """Trace cell states, which may be moved, masked and passed on, but not read."""
        hosts = {host for tensor in given for host in self._cells.get(id(tensor), ((), ()))[1]}
        if not hosts:
            return
        others = [tensor for tensor in given if id(tensor) not in self._cells]
        even = all(each.ndim == 0 or each.shape[-1] == 1 or is_zero(each) for each in others)
        mixed = name in SCALINGS | SUMS | {"masked_fill"} and even and len(hosts) == 1
        inverted = name in ("div", "__truediv__") and id(args[0]) not in self._cells
        if name in MOVES | JOINS | CASTS or (mixed and not inverted):
            self._cells.update((id(tensor), (tensor, hosts)) for tensor in _tensors(result))
        elif not self._lenient:
            names = [layer.name for layer in self._layers if layer.host in hosts]
            raise ValueError(
                f"the cell state of layer {names[0]!r} is read by {name}, and only "
                "hidden states can be rebuilt from fewer nodes; give a module that reads h, not c."
            )

    def _numbers_of(self, value: Any) -> Any:
        if id(value) in self._nodes:
            return self._nodes[id(value)].numbers
        if isinstance(value, Tensor) and value.is_floating_point():
            return torch.full_like(value, OTHER, dtype=torch.long)
        return value

    def _read_by_linear(self, states: Followed, weight: Tensor) -> None:
        if id(weight) in self._linears:
            self._read(self._linears[id(weight)], states)
        else:
            hosts = self._hosts(states.numbers)
            self._block(hosts, "is read by a linear map that is no nn.Linear")

    def _read(self, path: str, states: Followed) -> None:
        """Record a reader, or an obstacle if it does not read all nodes of layers in order."""
        numbers = states.numbers
        rows = numbers.reshape(-1, numbers.shape[-1])
        padding = (rows == PAD).all(1)
        rows = rows[~padding]
        if not len(rows):
            return
        hosts = self._hosts(numbers)
        runs = self._runs(rows[0].tolist()) if bool((rows == rows[0]).all()) else None
        if runs is None:
            self._block(hosts, f"reaches {path!r} in another order or in part")
        else:
            self._reading.setdefault(path, set()).add(runs)
        if reason := states.linear_only or (PADDED if bool(padding.any()) else ""):
            for host in hosts:
                self._linear_only.setdefault(host, reason)

    def _runs(self, numbers: list[int]) -> tuple[tuple[str | None, int], ...] | None:
        """Return the blocks of a row as in ``Reader.runs``; None if nodes are not in order."""
        runs: list[tuple[str | None, int]] = []
        place = 0
        while place < len(numbers):
            if numbers[place] == PAD:
                return None
            if numbers[place] == OTHER:
                width = len(list(next(groupby(numbers[place:]))[1]))
                runs.append((None, width))
            else:
                owner = self._owners[numbers[place]]
                width = self._owners.count(owner)
                first = self._first[self._layers[owner].name]
                if numbers[place : place + width] != list(range(first, first + width)):
                    return None
                runs.append((self._layers[owner].name, width))
            place += width
        return tuple(runs)

    def _hosts(self, numbers: Tensor) -> set[str]:
        """Return the hosts of the layers whose nodes are among the numbers."""
        nodes = numbers[numbers >= 0].unique().tolist()
        return {self._layers[self._owners[node]].host for node in nodes}

    def _inspect(self, output: Any, module: nn.Module) -> None:
        """Look for states in the output of the module and in its attributes."""
        for tensor in tensors(output):
            if id(tensor) in self._nodes:
                self._block(self._hosts(self._nodes[id(tensor)].numbers), "is returned by forward")
            elif id(tensor) in self._cells:
                self._block(self._cells[id(tensor)][1], "is returned by forward")
                # A caller may start any layer from them; a bare layer gets back its own.
                self._cell_starts |= self._cells[id(tensor)][1] - {""}
        for path, part in module.named_modules():
            for name, value in vars(part).items():
                for tensor in tensors(value):
                    if id(tensor) in self._nodes:
                        for host in self._hosts(self._nodes[id(tensor)].numbers):
                            self._kept[f"{path}.{name}".strip(".")] = host

    def _block(self, hosts: Iterable[str], obstacle: str) -> None:
        for host in hosts if not self._lenient else ():
            self._obstacles.setdefault(host, obstacle)

    def readers(self) -> Readers:
        """Return the readers and other uses of states that were found."""
        self._lenient = False
        hosts = {layer.name: layer.host for layer in self._layers}
        paths = {path: weight for weight, path in self._linears.items()}
        for path, readings in self._reading.items():
            read = {hosts[name] for runs in readings for name, _ in runs if name is not None}
            if len(readings) > 1:
                self._block(read, f"reaches {path!r} beside other inputs at different times")
            elif paths.get(path) in self._used_elsewhere:
                self._block(read, f"shares {path!r} with another use")
        found = tuple(
            Reader(path, *readings)
            for path, readings in self._reading.items()
            if len(readings) == 1 and any(name for runs in readings for name, _ in runs)
        )
        idle = dict(self._idle_parts())
        for reader in found:
            for sibling in set(siblings(self._module, reader.path)) & idle.keys():
                read = {hosts[name] for name, _ in reader.runs if name is not None}
                self._block(
                    read,
                    f"is not seen to reach {sibling!r}, which stands beside its reader "
                    f"{reader.path!r} and did not run on X",
                )
        started = {host for host, given in self._starts.items() if "state" in given}
        startable = {host for host, given in self._starts.items() if given == {"none"}}
        return Readers(
            found,
            self._obstacles,
            frozenset(started),
            frozenset(self._cell_starts),
            self._linear_only,
            frozenset(startable),
            self._kept,
            self._callers,
            idle,
        )

    def _idle_parts(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield parts whose weight no pass used, with the sizes of their inputs."""
        for path, part in self._module.named_modules():
            weight = part._parameters.get("weight")
            if (
                weight is not None
                and id(weight) in self._idle
                and not isinstance(part, nn.Embedding)
            ):
                yield path, tuple(weight.shape[min(1, weight.ndim - 1) :])


def is_pick(name: str, args: Any) -> bool:
    """Return whether a function selects steps for each sequence separately, as by its length."""
    index = args[1] if name == "__getitem__" else None
    by_tensors = isinstance(index, tuple) and sum(isinstance(each, Tensor) for each in index) > 1
    return name in PICKS or by_tensors


def is_zero(operand: Any) -> bool:
    """Return whether an operand is zero, so that it does not change a sum."""
    if isinstance(operand, Tensor):
        return operand.is_floating_point() and not operand.any()
    return isinstance(operand, Real) and operand == 0


def siblings(module: nn.Module, path: str) -> Iterator[str]:
    """Yield the paths of the other parts in the ``ModuleList`` or ``ModuleDict`` of a part."""
    outer, _, name = path.rpartition(".")
    holder = module.get_submodule(outer)
    if isinstance(holder, (nn.ModuleList, nn.ModuleDict)):
        yield from (f"{outer}.{other}" for other in holder._modules if other != name)


def running(sizes: list[int]) -> list[int]:
    """Return the start of each of some consecutive ranges, given their sizes."""
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _tensors(tree: Any) -> list[Tensor]:
    return [value for value in tree_iter(tree) if isinstance(value, Tensor)]
