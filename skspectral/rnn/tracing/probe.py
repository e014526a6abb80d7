"""Find out what a torch function does to hidden states, by calling it on random ones.

A reconstruction can be moved behind a function that commutes with every linear map of the nodes: if
the states are mixed by a matrix before, the results are mixed by the same matrix. This holds for
masks, sums and means over steps, products with attention weights and much else, whatever its name.
A parameter reads the states if mixing the states has the same effect as mixing the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .nodes import OTHER, PAD, Block, Followed, Nodes, grown, node_axis, without_padding

TOLERANCE = 1e-7  # of results in float64
ROUNDING = 1e-13  # of the largest result
# States are also tried in other sizes, where thresholds as those of a clamp would show.
SMALL, LARGE = 1e-3, 1e6


class ParameterView(NamedTuple):
    """Parameter or buffer, as it is or rearranged.

    Parameters
    ----------
    path : str
        Its path.
    base : Tensor
        The parameter or buffer itself.
    view : callable
        Function that rearranges another tensor in the same way.
    """

    path: str
    base: Tensor
    view: Callable[[Tensor], Tensor]


class Passed(NamedTuple):
    """States that come out of a function of states.

    Parameters
    ----------
    numbers : list of Tensor of int
        Node numbers of every tensor in its result.
    is_affine : bool
        Whether states shifted by one vector come out shifted by it, up to the scale.
    scale, shift : Tensor or None
        Factor and summand that every node gets, by number.
    per_node : bool
        Whether parameters or other tensors with an entry for each node may be involved.
    """

    numbers: list[Tensor]
    is_affine: bool
    scale: Tensor | None = None
    shift: Tensor | None = None
    per_node: bool = False


class Probe:
    """Call of a torch function, to be repeated on other states.

    Parameters
    ----------
    func : callable
        The function.
    args, kwargs : tuple and dict
        Its arguments.
    followed : dict of Followed
        Tensors of states, by id.
    views : dict of ParameterView
        Parameters and buffers, by the ids of tensors.
    nodes : Nodes
        Blocks of node numbers.
    zeros : collection of int
        Ids of tensors that are made as zeros.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        followed: Mapping[int, Followed],
        views: Mapping[int, ParameterView],
        nodes: Nodes,
        zeros: Collection[int] = (),
    ) -> None:
        self._func, self._nodes = func, nodes
        self._leaves, self._spec = tree_flatten((args, kwargs))
        self._generator = torch.Generator().manual_seed(0)
        given = {id(leaf): leaf for leaf in self._leaves if isinstance(leaf, Tensor)}
        self.states = {key: followed[key] for key in given if key in followed}
        self.views = {key: views[key] for key in given if key in views}
        self._values = {
            key: self._random(each.tensor).masked_fill(each.numbers == PAD, 0.0)
            for key, each in self.states.items()
        }
        floating = {key: each for key, each in given.items() if each.is_floating_point()}
        real = {key: each.double() for key, each in floating.items() if key not in followed}
        # Positive, since some functions divide by them or take their root.
        self._other = {key: self._random(each).sigmoid() + 0.5 for key, each in real.items()}
        known = self.views.keys() | set(zeros)
        self._real = self._other | {key: each for key, each in real.items() if key in known}
        masks = {key: each for key, each in given.items() if each.dtype == torch.bool}
        self._masked = self._real | {key: self._random(each) > 0.0 for key, each in masks.items()}
        self._has_masks = bool(masks)
        self._responses: dict[int, tuple[list[Tensor], list[Tensor]] | None] = {}

    def passed(self) -> Passed | None:
        """Return the states that come out of the function; None if other things do."""
        places = torch.arange(len(self._nodes))
        numbers = self._depending(places)
        if numbers is None or not any(bool((each >= 0).any()) for each in numbers):
            return None
        if self._commutes(numbers, self._other):
            is_affine = self._is_affine(numbers, self._other)
            if self._has_masks:
                masked = self._depending(places, self._masked)
                if masked is None or not self._commutes(masked, self._masked):
                    return None
                if any(bool((each == OTHER).any()) for each in masked):
                    return None  # a mask puts other numbers in the place of states
                is_affine &= all(
                    one.equal(other) for one, other in zip(numbers, masked, strict=True)
                )
            constants = self._constants(self._real) or self._constants(self._other)
            pairs = zip(numbers, constants, strict=True)
            return Passed([padded(number, zero) for number, zero in pairs], is_affine)
        return self._scaled(numbers)

    def tied(self) -> Passed | None:
        """Return sums of the states of several layers of one size, node by node, as a new block."""
        blocks = self.blocks
        if len({block.size for block in blocks}) != 1 or any(block.is_cell for block in blocks):
            return None
        local = self._nodes.local
        places = self._depending(local)
        if places is None or len(blocks) < 2:
            return None
        name = "+".join(block.name for block in blocks)
        layers = tuple(dict.fromkeys(layer for block in blocks for layer in block.layers))
        tie = self._nodes.add(name, layers, blocks[0].size)
        numbers = [
            torch.where(each >= 0, tie.first + at(local, each.clamp(min=0)), each)
            for each in places
        ]
        if not self._commutes(numbers, self._other) or not self._has_all(blocks, numbers):
            return None
        return Passed(numbers, self._is_affine(numbers, self._other))

    def reader(self) -> tuple[ParameterView, int, list[int]] | None:
        """Return the parameter that reads the states, its axis, and the node numbers along it."""
        rows = [self._nodes.axis_and_row(each.numbers)[1] for each in self.states.values()]
        row, mixed = rows[0], self._mixed_states()
        matrix = None if row is None or rows.count(row) < len(rows) else self._along(row)
        if row is None or matrix is None or mixed is None:
            return None
        for key, parameter in self.views.items():
            base = self._random(parameter.base)
            expected = self._call(mixed, self._other | {key: parameter.view(base)})
            for axis in range(base.ndim) if expected else ():
                if base.shape[axis] == len(row):
                    product = base.movedim(axis, -1) @ matrix.to(base.device)
                    product = product.movedim(-1, axis)
                    others = self._other | {key: parameter.view(product)}
                    if same(self._call(self._values, others), expected):
                        return parameter, axis, row
        return None

    def node_parameters(self) -> Iterator[tuple[ParameterView, int, list[int]]]:
        """Yield parameters with one entry for each node, their axis, and the numbers along it."""
        rows = [self._nodes.axis_and_row(each.numbers)[1] for each in self.states.values()]
        for parameter in self.views.values():
            for axis, size in enumerate(parameter.base.shape):
                if rows[0] is not None and size == len(rows[0]) == parameter.base.numel():
                    yield parameter, axis, rows[0]

    @property
    def blocks(self) -> list[Block]:
        """Blocks whose numbers are in the states."""
        found = (self._nodes.blocks_in(each.numbers) for each in self.states.values())
        return list(dict.fromkeys(block for blocks in found for block in blocks))

    def _random(self, like: Tensor) -> Tensor:
        """Return random numbers in the memory layout of a tensor."""
        values = torch.randn(like.shape, generator=self._generator, dtype=torch.float64)
        return torch.empty_like(like, dtype=torch.float64).copy_(values)

    def _call(
        self, states: Mapping[int, Tensor], others: Mapping[int, Tensor]
    ) -> list[Tensor] | None:
        """Return the results of the function on other states; None if they cannot be compared."""
        values = {**others, **states}
        leaves = [
            # A copy, since the function may write into it.
            values.get(id(leaf), leaf).clone() if isinstance(leaf, Tensor) else leaf
            for leaf in self._leaves
        ]
        args, kwargs = tree_unflatten(leaves, self._spec)
        device = next(iter(self._values.values())).device.type
        try:
            with same_draws(), torch.autocast(device, enabled=False):
                results = tree_leaves(self._func(*args, **kwargs))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            return None  # the function does not take these dtypes or values
        floating = all(isinstance(each, Tensor) and each.is_floating_point() for each in results)
        if not floating or not all(bool(each.isfinite().all()) for each in results):
            return None
        return [each.double() for each in results]

    def _response(self, others: Mapping[int, Tensor]) -> tuple[list[Tensor], list[Tensor]] | None:
        """Return the results where all states are zero, and what the states add to them."""
        if id(others) not in self._responses:
            nothing = self._call(self._times(torch.zeros(len(self._nodes))), others)
            whole = self._call(self._values, others)
            self._responses[id(others)] = (
                None
                if nothing is None or whole is None
                else (nothing, [a - b for a, b in zip(whole, nothing, strict=True)])
            )
        return self._responses[id(others)]

    def _times(self, factors: Tensor) -> dict[int, Tensor]:
        """Return the states, each node multiplied by its factor."""
        return {
            key: torch.where(each.numbers >= 0, value * at(factors, each.numbers), value)
            for key, each, value in self._all()
        }

    def _all(self) -> Iterator[tuple[int, Followed, Tensor]]:
        return ((key, each, self._values[key]) for key, each in self.states.items())

    def _with_others_kept(self, states: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return states in which the entries of no node are as they were."""
        return {
            key: torch.where(each.numbers >= 0, states[key], value)
            for key, each, value in self._all()
        }

    def _mixed_states(self) -> dict[int, Tensor] | None:
        mixed = {key: self._mixed(value, each.numbers) for key, each, value in self._all()}
        whole = {key: each for key, each in mixed.items() if each is not None}
        return whole if len(whole) == len(mixed) else None

    def _mixed(self, values: Tensor, numbers: Tensor) -> Tensor | None:
        """Return values whose nodes are mixed; None if they are not whole layers."""
        axis, row = self._nodes.axis_and_row(numbers)
        matrix = None if row is None else self._along(row)
        if axis is not None and matrix is not None:
            matrix = matrix.to(values.device)
            return (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
        flat, order = values.flatten(), numbers.flatten().argsort(stable=True)
        ordered, mixed = numbers.flatten()[order], flat.clone()
        for block in self._nodes.blocks_in(numbers):
            places = order[(ordered >= block.first) & (ordered < block.first + block.size)]
            counts = (numbers.flatten()[places] - block.first).bincount(minlength=block.size)
            if bool((counts != counts[0]).any()):
                return None
            nodes = flat[places].view(block.size, -1)
            mixed[places] = (mixing(block.size).to(nodes.device) @ nodes).flatten()
        return mixed.view(values.shape)

    def _along(self, row: list[int]) -> Tensor | None:
        """Return the matrix that mixes a row of numbers; None if it does not hold whole layers."""
        runs = self._nodes.runs(row)
        if runs is None:
            return None
        parts = [torch.eye(n).double() if name is None else mixing(n) for name, n in runs]
        return torch.block_diag(*parts)

    def _depending(
        self, places: Tensor, others: Mapping[int, Tensor] | None = None
    ) -> list[Tensor] | None:
        """Return the number of a node of the one place that each result linearly depends on.

        None if a result depends on several places.
        """
        n_places = int(places.max()) + 1
        order = torch.randperm(n_places, generator=self._generator)
        distinct = (1.0 + order.double() / n_places)[places]
        others = self._other if others is None else others
        response = self._response(others)
        scaled = self._call(self._times(SMALL * distinct), others)
        if response is None or scaled is None:
            return None
        values, nodes = distinct.sort()
        found = []
        for constant, linear, changed in zip(*response, scaled, strict=True):
            rounding = ROUNDING * linear.abs().amax() if linear.numel() else ROUNDING
            absent = linear.abs() <= rounding
            factor = ((changed - constant) / linear / SMALL).masked_fill(absent, 1.0)
            near = torch.searchsorted(values.to(factor.device), factor - TOLERANCE)
            near = near.clamp(max=len(values) - 1)
            size = constant.abs().amax() if constant.numel() else 0.0
            error = (rounding + ROUNDING * size / SMALL) / linear.abs().clamp(min=rounding)
            if bool(((at(values, near) - factor).abs() > TOLERANCE + error).any()):
                return None
            if bool((absent & ((changed - constant).abs() > rounding)).any()):
                return None
            none = torch.where(constant == 0.0, PAD, OTHER)
            numbers = torch.where(absent, none, at(nodes, near))
            known = (each.numbers for each in self.states.values())
            found.append(next((each for each in known if each.equal(numbers)), numbers))
        return found

    def _commutes(self, numbers: list[Tensor], others: Mapping[int, Tensor]) -> bool:
        """Return whether mixing the states mixes the results, with nothing added."""
        return self._mixes(numbers, others, torch.ones(len(self._nodes))) and all(
            bool((constant[number >= 0] == 0.0).all())
            for constant, number in zip(self._constants(others), numbers, strict=True)
        )

    def _constants(self, others: Mapping[int, Tensor]) -> list[Tensor]:
        response = self._response(others)
        return response[0] if response else []

    def _mixes(self, numbers: list[Tensor], others: Mapping[int, Tensor], scale: Tensor) -> bool:
        """Return whether mixing the states mixes what they add to the results, over the scale."""
        response, states = self._response(others), self._mixed_states()
        large = {key: LARGE * each for key, each in (states or {}).items()}
        found = self._call(self._with_others_kept(large), others) if states else None
        if response is None or found is None:
            return False
        for constant, linear, mixed, number in zip(*response, found, numbers, strict=True):
            factor = torch.where(number >= 0, at(scale, number), 1.0)
            expected = self._mixed(LARGE * linear / factor, number)
            if expected is None or not close((mixed - constant) / factor, expected):
                return False
        return True

    def _scaled(self, numbers: list[Tensor]) -> Passed | None:
        """Return the states that come out with a factor and a summand for each node, if they do."""
        if len(numbers) != 1 or self._has_masks:
            return None
        ones = {key: torch.where(each.numbers >= 0, 1.0, value) for key, each, value in self._all()}
        response, of_ones = self._response(self._real), self._call(ones, self._real)
        if response is None or of_ones is None:
            return None
        constant, number = response[0][0], numbers[0]
        scale = self._by_node(of_ones[0] - constant, number, constant_only=False)
        shift = self._by_node(constant, number, constant_only=True)
        if scale is None or shift is None:
            return None
        number, was_padded = self._with_padding(number, constant, shift)
        numbers = [number]
        if not self._mixes(numbers, self._real, scale):
            return None
        factors = scale[numbers[0][numbers[0] >= 0].cpu()]
        if close(factors, factors[:1].expand_as(factors)):  # one factor, as of all functions above
            scale = torch.ones_like(scale)
        return Passed(
            numbers,
            not was_padded and self._is_affine(numbers, self._real, scale),
            None if bool((scale == 1.0).all()) else scale,
            shift if bool(shift.any()) else None,
            per_node=True,
        )

    def _with_padding(
        self, numbers: Tensor, constant: Tensor, shift: Tensor
    ) -> tuple[Tensor, bool]:
        """Return numbers in which entries of no node are padding or states of zero, if they can be.

        A normalization shifts padding like states of zero, whose nodes then are known.
        """
        padded = torch.where((numbers == OTHER) & (constant == 0.0), PAD, numbers)
        if not bool((padded == OTHER).any()):
            return padded, False
        filled = without_padding(torch.where(padded == OTHER, PAD, padded))
        known = (filled >= 0).all() and close(constant, at(shift, filled))
        return (filled, True) if bool(known) else (padded, False)

    def _by_node(self, values: Tensor, numbers: Tensor, *, constant_only: bool) -> Tensor | None:
        """Return a value for each node, either its only one or one that is not zero."""
        found = torch.full((len(self._nodes),), 0.0 if constant_only else 1.0).double()
        flat, places = numbers.flatten(), numbers.flatten().argsort(stable=True)
        places = places[flat[places] >= 0]
        for block in self._nodes.blocks_in(numbers):
            inside = places[
                (flat[places] >= block.first) & (flat[places] < block.first + block.size)
            ]
            if len(inside) % block.size:
                return None
            each = values.flatten()[inside].view(block.size, -1)
            if constant_only and not close(each, each[:, :1].expand_as(each)):
                return None
            full = (each != 0.0).all(0).nonzero().flatten()
            if not constant_only and not len(full):
                return None
            column = 0 if constant_only else int(full[0])
            found[block.first : block.first + block.size] = each[:, column].cpu()
        return found

    def _is_affine(
        self, numbers: list[Tensor], others: Mapping[int, Tensor], scale: Tensor | None = None
    ) -> bool:
        """Return whether a shift of the states shifts the results by it, times the scale."""
        generator = torch.Generator().manual_seed(0)
        n_nodes = len(self._nodes)
        shift = torch.rand(n_nodes, generator=generator).double()[self._nodes.local]
        moved = self._call(
            {
                key: torch.where(each.numbers >= 0, value + at(shift, each.numbers), value)
                for key, each, value in self._all()
            },
            others,
        )
        response = self._response(others)
        if response is None or moved is None:
            return False
        shift = shift if scale is None else shift * scale
        return all(
            close((new - constant - linear)[number >= 0], at(shift, number)[number >= 0])
            for constant, linear, new, number in zip(*response, moved, numbers, strict=True)
        )

    def _has_all(self, blocks: list[Block], numbers: list[Tensor]) -> bool:
        """Return whether each result that depends on a node depends on those of all blocks."""
        constants = self._constants(self._other)
        for block in blocks:
            factors = torch.zeros(len(self._nodes))
            factors[block.first : block.first + block.size] = 1.0
            alone = self._call(self._times(factors), self._other)
            for one, constant, number in zip(alone or [], constants, numbers, strict=True):
                if bool(((one == constant) & (number >= 0)).any()):
                    return False
        return True


def composed(before: Followed, passed: Passed, n_nodes: int) -> tuple[Tensor | None, Tensor | None]:
    """Return the scale and the shift of states that were scaled before and are scaled again."""
    if all(each is None for each in (before.scale, before.shift, passed.scale, passed.shift)):
        return None, None
    scale = grown(passed.scale, n_nodes, 1.0)
    shift = scale * grown(before.shift, n_nodes, 0.0) + grown(passed.shift, n_nodes, 0.0)
    return scale * grown(before.scale, n_nodes, 1.0), shift if bool(shift.any()) else None


@contextmanager
def same_draws() -> Iterator[None]:
    """Give functions that draw random numbers the same ones each time."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(0)  # torch.manual_seed is slow
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@cache
def mixing(size: int) -> Tensor:
    """Return the matrix that mixes the nodes of layers of a size."""
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5


def padded(numbers: Tensor, constant: Tensor) -> Tensor:
    """Return numbers in which steps of no states are padding where they are zero."""
    axis = node_axis(numbers.masked_fill(numbers == OTHER, PAD))
    if axis is None or not bool((numbers == OTHER).any()):
        return numbers
    blank = ((numbers < 0) & (constant == 0.0)).all(axis, keepdim=True)
    return torch.where(blank, PAD, numbers)


def at(values: Tensor, numbers: Tensor) -> Tensor:
    """Return the values of numbers; those of negative numbers have no meaning."""
    return values.to(numbers.device)[numbers]


def same(found: list[Tensor] | None, expected: list[Tensor] | None) -> bool:
    """Return whether two lists of results agree."""
    if found is None or expected is None or len(found) != len(expected):
        return False
    return all(close(one, other) for one, other in zip(found, expected, strict=True))


def close(found: Tensor, expected: Tensor) -> bool:
    """Return whether results agree up to rounding."""
    if found.shape != expected.shape:
        return False
    size = float(expected.abs().amax()) if expected.numel() else 1.0
    return bool(((found - expected).abs() <= TOLERANCE * (size or 1.0)).all())
