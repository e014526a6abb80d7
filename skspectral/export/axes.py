"""Axes of the inputs that may vary in size, found by trying."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import torch

from .plain_module import Inputs, PlainModule

Axis = tuple[str, int]
# The axes that vary together, as the name of an input and the number of its axis, by a label.
Axes = dict[str, list[Axis]]
Shape = tuple[int | str, ...]


def dynamic_axes(dynamic: Any, module: PlainModule) -> Axes:
    """Return the axes that vary: all that may, none, or those that the user names."""
    inputs = module.example
    if isinstance(dynamic, bool):
        return axes_that_vary(module) if dynamic else {}
    if not is_dict_of_labels(dynamic):
        raise TypeError(
            "dynamic must be True, False or a dict such as {'x': {0: 'batch', 1: 'time'}}; "
            f"got {dynamic!r}."
        )
    named: Axes = {}
    for name, labels in dynamic.items():
        if name not in inputs:
            raise ValueError(f"dynamic must name inputs among {list(inputs)}; got {name!r}.")
        for axis, label in labels.items():
            if axis not in range(inputs[name].ndim):
                raise ValueError(
                    f"dynamic must name axes of {name!r} from 0 to {inputs[name].ndim - 1}; "
                    f"got {axis!r}."
                )
            named.setdefault(label, []).append((name, axis))
    for label, group in named.items():
        if not all(runs(module, other) for other in other_sizes(inputs, group)):
            raise ValueError(
                f"dynamic must name axes along which forward takes other sizes; got {label!r}, "
                f"the axes {group} (input, axis), with which it fails."
            )
    return named


def is_dict_of_labels(dynamic: Any) -> bool:
    """Return whether a value is a dict of dicts of str."""
    return isinstance(dynamic, Mapping) and all(
        isinstance(labels, Mapping) and all(isinstance(label, str) for label in labels.values())
        for labels in dynamic.values()
    )


def axes_that_vary(module: PlainModule) -> Axes:
    """Return the axes that the module takes in larger and smaller sizes.

    Axes of the same size in several inputs, such as the sequences and their initial states, vary
    together where the module runs on that.
    """
    inputs = module.example
    free = [(name, axis) for name, each in inputs.items() for axis in range(each.ndim)]
    found: Axes = {}
    while free:
        name, axis = free.pop(0)
        size = inputs[name].shape[axis]
        mates = [
            [*((mate, i) for mate, i in free if mate == other and each.shape[i] == size), None]
            for other, each in inputs.items()
            if other != name
        ]
        for together in product(*mates):
            group = [(name, axis), *filter(None, together)]
            if all(runs(module, other) for other in other_sizes(inputs, group)):
                found[f"{name}_axis{axis}"] = group
                free = [each for each in free if each not in group]
                break
    return found


def runs(module: PlainModule, inputs: Inputs) -> bool:
    """Return whether a module takes inputs."""
    try:
        module.run(inputs)
    except Exception:  # a forward may raise anything on sizes that it does not take
        return False
    return True


def other_sizes(inputs: Inputs, group: list[Axis]) -> Iterator[Inputs]:
    """Yield inputs that are larger along axes, and smaller ones unless their size is one."""
    name, axis = group[0]
    size = inputs[name].shape[axis]
    taken = {size for each in inputs.values() for size in each.shape}
    yield resized(inputs, group, next(new for new in range(size + 1, 2**31) if new not in taken))
    if size > 1:
        yield resized(inputs, group, size - 1)


def resized(inputs: Inputs, group: list[Axis], size: int) -> Inputs:
    """Return inputs cut to a size along axes, or with the last entry repeated.

    Values stay those of the example, since not any number is a word or a length.
    """
    new = dict(inputs)
    for name, axis in group:
        entries = torch.arange(size).clamp(max=new[name].shape[axis] - 1)
        new[name] = new[name].index_select(axis, entries)
    return new


def input_shapes(module: PlainModule, axes: Axes) -> dict[str, Shape]:
    """Return the shapes of the inputs, with labels for the sizes that vary."""
    labels = {axis: label for label, group in axes.items() for axis in group}
    return {
        name: tuple(labels.get((name, i), size) for i, size in enumerate(each.shape))
        for name, each in module.example.items()
    }


def output_shapes(module: PlainModule, axes: Axes) -> list[Shape]:
    """Return the shapes of the outputs, with labels for the sizes that vary."""
    before = module.run(module.example)
    labels: list[dict[int, str]] = [{} for _ in before]
    for label, group in axes.items():
        larger = next(other_sizes(module.example, group))
        name, axis = group[0]
        for found, old, new in zip(labels, before, module.run(larger), strict=False):
            for i, (was, size) in enumerate(zip(old.shape, new.shape, strict=False)):
                if was != size:
                    found[i] = label if size == larger[name].shape[axis] else f"{label}_out"
    return [
        tuple(found.get(i, size) for i, size in enumerate(each.shape))
        for found, each in zip(labels, before, strict=True)
    ]
