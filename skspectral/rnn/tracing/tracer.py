"""Find the readers of hidden states by tracing the states through the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

from ..forward_pass import ForwardPass
from ..kernels import DROPOUTS, KERNELS, as_in_evaluation, seeded
from ..layers.find import RecurrentLayer, find_layers
from ..layers.weights import independent_copy
from ..outputs import leaves, tensors
from .findings import PADDED, Findings
from .methods import methods_running, users_line
from .nodes import OTHER, PAD, Followed, Nodes, grown
from .probe import ParameterView, Passed, Probe, composed
from .readers import NodeParameter, Readers
from .second_call import SecondCall

# Functions that only rearrange entries, so that they can be applied to node numbers too. All that
# is not in these lists is called on random states to find out what it does.
MOVES = frozenset(
    "__getitem__ T chunk clone contiguous detach data expand expand_as "
    "flatten flip gather index_select mT movedim narrow permute repeat reshape select split "
    "squeeze swapaxes swapdims t take_along_dim transpose unbind unflatten unsqueeze view view_as "
    "_pack_padded_sequence _pad_packed_sequence".split()
)
JOINS = frozenset("cat concat concatenate stack hstack vstack".split())
# Moves that select steps for each sequence separately, and so can leave out padding.
PICKS = frozenset("gather take_along_dim _pack_padded_sequence".split())
CASTS = frozenset("bfloat16 cpu cuda detach_ double float half to type type_as".split())
ZEROS = frozenset("zeros new_zeros zeros_like".split())
# Functions whose results do not depend on the entries, or are not traced further.
QUERIES = frozenset(
    "__len__ __hash__ __repr__ __format__ device dim dtype element_size empty_like get_device "
    "grad_fn full_like is_complex is_contiguous is_cpu is_cuda is_floating_point is_inference "
    "is_leaf is_mps is_sparse is_nested is_quantized isfinite isinf isnan layout names ndim "
    "ndimension nelement new_empty new_full new_ones new_tensor new_zeros numel ones_like "
    "rand_like randn_like requires_grad requires_grad_ retain_grad shape size storage_offset "
    "stride zeros_like".split()
)
HELD_BY_TORCH = frozenset(("_parameters", "_buffers", "_modules"))
# Why some functions can never be folded into; of others, a linear map in front of them would be.
NEVER = {
    "layer_norm": "it divides by the spread of all nodes, which the kept ones do not have",
    "group_norm": "it divides by the spread of many nodes, which the kept ones do not have",
}
PRODUCTS = frozenset("matmul __matmul__ bmm mm baddbmm einsum mul __mul__ dot".split())
LINEAR_FIRST = "a linear map in front of it would be folded"
PRODUCT = "a product of states needs a matrix between them, for which forward has no place"


def find_readers(
    module: nn.Module,
    layers: Iterable[RecurrentLayer],
    passes: Sequence[ForwardPass],
    keeps_size: bool = False,
) -> Readers:
    """Return the readers found by tracing the hidden states through forward passes.

    Passes in training mode find the readers that run only there. If such a pass fails, for example
    because it requires targets, it is ignored.

    Parameters
    ----------
    module : nn.Module
        The module with split layers.
    layers : iterable of RecurrentLayer
        Its layers.
    passes : sequence of ForwardPass
        The passes.
    keeps_size : bool
        Whether last states that ``forward`` returns have to keep their size.

    Raises
    ------
    ValueError
        If the module reads the cell state of an LSTM, which cannot be rebuilt for its readers, or
        if a layer runs in any other way than by calling it with its own weights.
    """
    tracker = StateTracker(module, tuple(layers), keeps_size)
    for forward in passes:
        try:
            tracker.follow(forward)
        except Exception:  # whatever the user's forward raises
            if not forward.training:
                raise
    return tracker.found.readers()


class StateTracker(TorchFunctionMode):
    """Function mode that tracks the node number of every entry of the hidden states.

    Parameters
    ----------
    module : nn.Module
        The module with split layers; it is not changed.
    layers : tuple of RecurrentLayer
        Its layers.
    keeps_size : bool
        Whether last states that ``forward`` returns have to keep their size.
    """

    def __init__(
        self, module: nn.Module, layers: tuple[RecurrentLayer, ...], keeps_size: bool = False
    ) -> None:
        super().__init__()
        self._module, self._layers, self._keeps_size = module, layers, keeps_size
        self._linears = {
            id(part.weight): path
            for path, part in module.named_modules()
            if isinstance(part, nn.Linear) and isinstance(part.weight, nn.Parameter)
        }
        self._recurrent = {
            id(each.recurrent_weight(module)): each.name for each in find_layers(module)
        }
        self._blocks = Nodes()
        for i, layer in enumerate(layers):
            self._blocks.add(layer.name, (i,), layer.of(module).hidden_size)
        for i, layer in enumerate(layers):
            self._blocks.add(layer.name, (i,), layer.of(module).hidden_size, is_cell=True)
        self.found = Findings(module, layers, self._blocks)

    @torch.no_grad()
    def follow(self, forward: ForwardPass) -> None:
        """Trace the states through a forward pass of a copy of the module."""
        self._nodes: dict[int, Followed] = {}
        self._held: list[Tensor] = []  # so that no id is reused
        self._zeros: set[int] = set()
        self._running: list[str] = []
        self._blocks.forget()
        self._lenient = forward.training
        self.found.begin(lenient=forward.training)
        module = independent_copy(self._module).train(forward.training)
        self._views = {
            id(each): ParameterView(path, each, lambda tensor: tensor)
            for path, each in (*module.named_parameters(), *module.named_buffers())
            if each.is_floating_point()
        }
        for layer in self._layers:
            self._watch(layer, module)
        for host, owner in {layer.host: layer.owner for layer in self._layers}.items():
            self._watch_start(host, module.get_submodule(owner))
        with seeded():
            with self:
                output = forward.call(module)
            self._inspect(output, module)
            starts, returned = bool(self.found.startable), self.found.returned_last
            if second := SecondCall.find(self._module, forward, returned, starts):
                args, kwargs = second.arguments(forward, output)
                self.found.begin_again()
                with self:
                    output = module(*args, **kwargs)
                self._inspect(output, module)

    def _watch(self, layer: RecurrentLayer, module: nn.Module) -> None:
        part, holder = layer.of(module), module.get_submodule(layer.owner.rpartition(".")[0])

        def before(_part: nn.Module, args: Any, kwargs: Any) -> None:
            if methods := methods_running(holder):
                self.found.callers.setdefault(layer.host, set()).update(methods)
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
            given = "absent" if not len(start) else "none" if start[0] is None else "state"
            self.found.note_start(host, given)

        owner.register_forward_pre_hook(before, with_kwargs=True)

    def _enter(self, layer: RecurrentLayer, input: Any, hx: Any = None) -> None:  # noqa: A002
        """Record which traced states are the input or initial states of a layer."""
        states = _tensors(input)[0]
        if id(states) in self._nodes:
            self._read(self._nodes[id(states)], layer.path)
        else:
            self.found.read_other_inputs(layer.path, states)
        for state in _tensors(hx):
            if followed := self._nodes.get(id(state)):
                others = self.found.hosts(followed.numbers) - {layer.host}
                self.found.block(others, "starts another layer")
                if any(block.is_cell for block in self._blocks.blocks_in(followed.numbers)):
                    self.found.cell_starts |= others
                if followed.scale is not None:
                    self.found.block({layer.host}, "starts from states that are scaled")

    def _leave(self, layer: RecurrentLayer, part: nn.Module, output: Any) -> None:
        """Start to trace the states that a layer returns."""
        is_cell = isinstance(part, nn.RNNCellBase)
        states, last = (None, output) if is_cell else output
        last = last if isinstance(last, tuple) else (last,)
        for each in _tensors(states)[:1]:
            self._start(each, layer, is_cell=False, is_last=False)
        for i, each in enumerate(last):
            self._start(each, layer, is_cell=i == 1, is_last=True)

    def _start(
        self, tensor: Tensor, layer: RecurrentLayer, *, is_cell: bool, is_last: bool
    ) -> None:
        block = self._blocks.add(layer.name, (), tensor.shape[-1], is_cell)
        numbers = torch.arange(block.first, block.first + block.size, device=tensor.device)
        same_strides = torch.empty_like(tensor, dtype=torch.long)
        self._nodes[id(tensor)] = Followed(tensor, same_strides.copy_(numbers), is_last=is_last)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
        args, kwargs = as_in_evaluation(name, args, kwargs or {})
        if name in KERNELS:
            self._check_kernel(args)
        result = func(*args, **kwargs)
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        self.found.idle.difference_update(map(id, given))
        if name in ZEROS or (given and self._zeros.issuperset(map(id, given))):
            zeros = [each for each in _tensors(result) if not each.any()]
            self._zeros.update(map(id, zeros))
            self._held += zeros
        if self._running or name in QUERIES:
            return result
        followed = [self._nodes[id(tensor)] for tensor in given if id(tensor) in self._nodes]
        if not followed:
            if func is F.linear and len(given) > 1 and id(given[1]) in self._linears:
                self.found.read_other_inputs(self._linears[id(given[1])], given[0])
            else:
                self._move_parameter(func, name, args, kwargs, result, given)
            return result
        reads = func is F.linear and len(followed) == 1 and followed[0].tensor is given[0]
        if reads and id(given[1]) in self._linears:
            self._read(followed[0], self._linears[id(given[1])])
            return result
        if name in CASTS:
            if followed[0].tensor is args[0]:  # and not the tensor to whose dtype another is cast
                self._keep(result, followed[0].numbers, followed[0])
        elif name in MOVES | JOINS | DROPOUTS:
            self._move(func, name, args, kwargs, result, followed)
        elif name == "__setitem__":
            self._write(followed, *args)
        else:
            self._try(func, name, args, kwargs, result, followed)
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

    def _move_parameter(
        self, func: Any, name: str, args: Any, kwargs: Any, result: Any, given: list[Tensor]
    ) -> None:
        """Trace a parameter through a function of nothing else, or note that it is used."""
        views = [self._views[id(tensor)] for tensor in given if id(tensor) in self._views]
        if len(given) > 1 or not views or not isinstance(result, Tensor) or result is given[0]:
            self.found.note_uses(views)
            return
        before, place = views[0], id(given[0])

        def view(other: Tensor) -> Tensor:
            moved = before.view(other)
            new_args, new_kwargs = tree_map(
                lambda value: moved if id(value) == place else value, (args, kwargs)
            )
            found: Tensor = func(*new_args, **new_kwargs)
            return found

        self._views[id(result)] = ParameterView(before.path, before.base, view)
        self._held.append(result)

    def _keep(self, tensor: Tensor, numbers: Tensor, like: Followed) -> None:
        """Trace a tensor further, with the properties of the states that it comes from."""
        self._nodes[id(tensor)] = replace(like, tensor=tensor, numbers=numbers)

    def _move(
        self, func: Any, name: str, args: Any, kwargs: Any, result: Any, followed: list[Followed]
    ) -> None:
        """Rearrange the node numbers as a function rearranged the states."""
        like = self._together(followed)
        if like is None:
            self._stop(followed, name)
            return
        padded = like.linear_only
        if name in DROPOUTS:
            numbers = self._nodes[id(args[0] if args else kwargs["input"])].numbers
        elif name == "_pad_packed_sequence":
            data, batch_sizes, batch_first, value, total = args
            filling = PAD if value == 0.0 else OTHER
            if value != 0.0:
                self._stop(followed, "pad_packed_sequence")
            own = self._nodes[id(data)].numbers
            numbers = func(own, batch_sizes, batch_first, filling, total)
            padded = padded or PADDED
        else:
            numbers = func(*tree_map(self._numbers_of, args), **tree_map(self._numbers_of, kwargs))
            padded = "" if padded == PADDED and is_pick(name, args) else padded
        like = replace(like, linear_only=padded)
        for tensor, moved in zip(_tensors(result), _tensors(numbers), strict=True):
            if tensor.is_floating_point():
                self._keep(tensor, moved.long(), like)

    def _write(
        self, followed: list[Followed], target: Tensor, index: Any, value: Any = None
    ) -> None:
        """Trace states that are written into a tensor, or into which something is written."""
        like = self._together(followed)
        if like is None or not isinstance(value, (Tensor, Real)):
            self._stop(followed, "__setitem__")
            return
        before = self._nodes.get(id(target))
        numbers = before.numbers.clone() if before else blank_numbers(target)
        written = self._nodes.get(id(value))
        if written is None and bool(torch.as_tensor(value).any()):
            self._stop(followed, "__setitem__")  # other numbers in the place of states
            return
        numbers[index] = written.numbers if written else PAD
        reason = like.linear_only or ("" if written else "is set to zero")
        self._keep(target, numbers, replace(like, linear_only=reason, is_last=False))
        self._note_buffer(target)

    def _note_buffer(self, tensor: Tensor) -> None:
        """Record a buffer into which states have been written, whose size follows theirs."""
        written, view = self._nodes.get(id(tensor)), self._views.get(id(tensor))
        if written is not None and view is not None and not isinstance(view.base, nn.Parameter):
            numbers = torch.full(view.base.shape, PAD)
            view.view(numbers).copy_(written.numbers)  # nothing where the view is a copy
            self.found.hold(view.path, numbers)

    def _try(
        self, func: Any, name: str, args: Any, kwargs: Any, result: Any, followed: list[Followed]
    ) -> None:
        """Trace states through any other function, or record that it reads them."""
        probe = Probe(func, args, kwargs, self._nodes, self._views, self._blocks, self._zeros)
        results = [*tree_iter(result)]
        floating = all(isinstance(each, Tensor) and each.is_floating_point() for each in results)
        like = self._together(followed) if floating else None
        if like is None:
            self.found.note_uses(probe.views.values())
            self._stop(followed, name)
            return
        passed = probe.passed()
        if passed is None and len(self.found.hosts_of(followed)) == 1:
            passed = probe.tied()
        if passed is not None:
            self._pass_on(name, results, passed, probe, like)
            for tensor in results:
                self._note_buffer(tensor)
        elif found := probe.reader():
            parameter, axis, row = found
            self.found.note_uses(probe.views.values(), [parameter.path])
            owner, _, weight = parameter.path.rpartition(".")
            self.found.record(like, followed, owner, weight, axis, row)
        else:
            self.found.note_uses(probe.views.values())
            self._stop(followed, name)

    def _pass_on(
        self, name: str, results: list[Tensor], passed: Passed, probe: Probe, like: Followed
    ) -> None:
        """Trace states that a function passes on."""
        scaled = passed.scale is not None or passed.shift is not None
        is_cell = any(block.is_cell for block in probe.blocks)
        tied = any(len(block.layers) > 1 for block in probe.blocks)
        n_blocks = {block for each in passed.numbers for block in self._blocks.blocks_in(each)}
        changed = like.scale is not None or like.shift is not None
        lost_shift = like.shift is not None and not passed.is_affine
        new_tie = not n_blocks <= set(probe.blocks)
        null = passed.scale is not None and bool((passed.scale == 0.0).any())
        if lost_shift or null or (scaled and is_cell) or (new_tie and changed and not tied):
            self.found.note_uses(probe.views.values())
            self._stop([*probe.states.values()], name)
            return
        own: list[str] = []
        for parameter, axis, row in probe.node_parameters() if passed.per_node else ():
            if runs := self._blocks.runs(row):
                own.append(parameter.path)
                self.found.node_parameters[NodeParameter(parameter.path, runs, axis)] = None
        self.found.note_uses(probe.views.values(), own)
        scale, shift = composed(like, passed, len(self._blocks))
        reason = like.linear_only or ("" if passed.is_affine else f"is used by {name}")
        like = replace(
            like,
            linear_only=reason,
            scale=scale,
            shift=shift,
            is_last=like.is_last and not new_tie and not scaled,
        )
        for tensor, numbers in zip(results, passed.numbers, strict=True):
            self._keep(tensor, numbers, like)

    def _together(self, followed: list[Followed]) -> Followed | None:
        """Return the common properties of states; None if one node is scaled in several ways."""
        reason = next((each.linear_only for each in followed if each.linear_only), "")
        blocks = [block for each in followed for block in self._blocks.blocks_in(each.numbers)]
        is_last = all(each.is_last for each in followed) and len(set(blocks)) == len(blocks)
        like = replace(followed[0], linear_only=reason, is_last=is_last)
        if all(each.scale is None and each.shift is None for each in followed):
            return like
        n_nodes = len(self._blocks)
        vectors = [torch.full((n_nodes,), torch.nan).double() for _ in range(2)]
        for each in followed:
            nodes = each.numbers[each.numbers >= 0].unique()
            for vector, own, filling in zip(
                vectors, (each.scale, each.shift), (1.0, 0.0), strict=True
            ):
                value = grown(own, n_nodes, filling)[nodes]
                known = vector[nodes]
                if not bool((known.isnan() | (known == value)).all()):
                    return None
                vector[nodes] = value
        scale, shift = (vector.nan_to_num(i) for vector, i in zip(vectors, (1.0, 0.0), strict=True))
        return replace(like, scale=scale, shift=shift if bool(shift.any()) else None)

    def _numbers_of(self, value: Any) -> Any:
        if id(value) in self._nodes:
            return self._nodes[id(value)].numbers
        if isinstance(value, Tensor) and value.is_floating_point():
            zeros = not value.any()  # such as new steps among those of the states
            return torch.full_like(value, PAD if zeros else OTHER, dtype=torch.long)
        return value

    def _read(self, states: Followed, path: str) -> None:
        """Record a linear map or layer that reads states, or what stands in its way."""
        rows = states.numbers.reshape(-1, states.numbers.shape[-1])
        rows = rows[~(rows == PAD).all(1)]
        if not len(rows):
            return
        if any(block.is_cell for block in self._blocks.blocks_in(states.numbers)):
            self._stop([states], "linear")
        row = rows[0].tolist() if bool((rows == rows[0]).all()) else None
        self.found.record(states, [states], path, None, 1, row)

    def _inspect(self, output: Any, module: nn.Module) -> None:
        """Look for states in the output of the module and in its attributes."""
        found = [*leaves(output)]
        numbers = [each for each in found if each.is_floating_point()]
        nothing_else = all(id(each) in self._nodes for each in numbers)
        for place, tensor in enumerate(found):
            if followed := self._nodes.get(id(tensor)):
                # The first output is what networks are compared by, and so keeps its size.
                goes_on = followed.is_last and followed.scale is None and not nothing_else
                goes_on &= tensor is not numbers[0]
                self.found.leave_module(place, followed, goes_on and not self._keeps_size)
        for path, part in module.named_modules():
            for name, value in attributes_of(part):
                for tensor in tensors(value):
                    followed = self._nodes.get(id(tensor))
                    if followed and not self._goes_on(followed):
                        for host in self.found.hosts(followed.numbers):
                            self.found.kept[f"{path}.{name}".strip(".")] = host

    def _goes_on(self, followed: Followed) -> bool:
        """Return whether states are the last ones of layers that are given initial states."""
        return followed.is_last and self.found.hosts(followed.numbers) <= self.found.startable

    def _stop(self, followed: list[Followed], name: str) -> None:
        """Record that states go no further."""
        blocks = [block for each in followed for block in self._blocks.blocks_in(each.numbers)]
        if any(block.is_cell for block in blocks) and not self._lenient:
            names = [
                self._layers[i].name for block in blocks if block.is_cell for i in block.layers
            ]
            raise ValueError(
                f"the cell state of layer {names[0]!r} is read by {name}, and only "
                "hidden states can be rebuilt from fewer nodes; give a module that reads h, not c."
            )
        # Nothing is known of states of which none were selected.
        hosts = self.found.hosts_of(followed) or {layer.host for layer in self._layers}
        self.found.last_read |= self.found.hosts_of(each for each in followed if each.is_last)
        several = len({each.tensor for each in followed}) > 1
        hint = NEVER.get(name, PRODUCT if several and name in PRODUCTS else LINEAR_FIRST)
        self.found.block(hosts, f"is used by {name}{users_line()}; {hint}")


def attributes_of(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a module but its parameters, buffers and submodules."""
    return ((name, value) for name, value in vars(part).items() if name not in HELD_BY_TORCH)


def blank_numbers(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor without states."""
    return torch.where(tensor == 0.0, PAD, OTHER)


def is_pick(name: str, args: Any) -> bool:
    """Return whether a function selects steps for each sequence separately, as by its length."""
    index = args[1] if name == "__getitem__" else None
    by_tensors = isinstance(index, tuple) and sum(isinstance(each, Tensor) for each in index) > 1
    return name in PICKS or by_tensors


def _tensors(tree: Any) -> list[Tensor]:
    return [value for value in tree_iter(tree) if isinstance(value, Tensor)]
