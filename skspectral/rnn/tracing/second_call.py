"""A second call of a module, which goes on from the states of the first."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..forward_pass import ForwardPass
from ..kernels import seeded
from ..layers.weights import independent_copy
from ..outputs import leaves, tensors
from .readers import ReturnedState


@dataclass(frozen=True)
class SecondCall:
    """Where the states that a module returns go in a second call.

    Parameters
    ----------
    places : dict of int
        Position of a returned state among the outputs, by its position among the arguments.
    elements : dict
        Index or key of an element of the outputs, by the name of the parameter that takes it.
    """

    places: dict[int, int] = field(default_factory=dict)
    elements: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        module: nn.Module,
        forward: ForwardPass,
        returned: Mapping[int, ReturnedState],
        starts: bool,
    ) -> SecondCall | None:
        """Return the second call that a module can run; None if it goes on from no earlier one.

        It does if its layers are given initial states (``starts``) or a pass changes what it holds.
        """
        fresh = independent_copy(module).train(forward.training)
        before = remembered(fresh)
        try:
            with seeded():
                output = forward.call(fresh)
        except Exception:  # whatever the user's forward raises
            return None
        if not starts and remembered(fresh) == before:
            return None
        every = cls.candidates(module, forward, output, returned)
        return next((each for each in every if each.runs(module, forward)), None)

    def runs(self, module: nn.Module, forward: ForwardPass) -> bool:
        """Return whether a module can run both calls."""
        module = independent_copy(module).train(forward.training)
        try:
            with seeded():
                args, kwargs = self.arguments(forward, forward.call(module))
                module(*args, **kwargs)
        except Exception:  # whatever the user's forward raises on arguments that do not fit
            return False
        return True

    @classmethod
    def candidates(
        cls,
        module: nn.Module,
        forward: ForwardPass,
        output: Any,
        returned: Mapping[int, ReturnedState],
    ) -> Iterator[SecondCall]:
        """Yield where the states in an output may go, the likeliest first.

        They go into arguments of their shape or, if there is none, to parameters that were left
        out. Nothing goes anywhere if no state is returned, as where attributes hold them.
        """
        flat, _ = tree_flatten((forward.args, forward.kwargs))
        left, found = list(returned), {}
        for i, leaf in enumerate(flat):
            shape = leaf.shape if isinstance(leaf, Tensor) else None
            fits = [place for place in left if returned[place].layers.shape == shape]
            if fits:
                found[i] = fits[0]
                left.remove(fits[0])
        keys = [] if found else elements_of_states(output, returned)
        free = parameters_left_out(module, forward)
        if not keys:
            yield cls(found)
            return
        if set(keys) <= set(free):
            yield cls(elements={key: key for key in keys})
        for names in permutations(sorted(free, key=looks_like_no_state), min(len(keys), len(free))):
            yield cls(elements=dict(zip(names, keys, strict=False)))

    def arguments(self, forward: ForwardPass, output: Any) -> tuple[Any, Any]:
        """Return the arguments of the second call, given the output of the first."""
        flat, spec = tree_flatten((forward.args, forward.kwargs))
        outputs = list(leaves(output))
        for i, place in self.places.items():
            flat[i] = outputs[place]
        args, kwargs = tree_unflatten(flat, spec)
        return args, {**kwargs, **{name: output[key] for name, key in self.elements.items()}}


def elements_of_states(output: Any, returned: Mapping[int, ReturnedState]) -> list[Any]:
    """Return the indices or keys of the elements of an output that hold nothing but states."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(output, Mapping):
        pairs = list(output.items())
    elif isinstance(output, (tuple, list)):
        pairs = list(enumerate(output))
    found, place = [], 0
    for key, element in pairs:
        inner = range(place, place + len(list(leaves(element))))
        place = inner.stop
        if inner and set(inner) <= returned.keys():
            found.append(key)
    return found


def looks_like_no_state(name: str) -> bool:
    """Return whether a parameter has none of the usual names of states."""
    return not any(word in name.lower() for word in ("state", "hid", "mem", "cache", "carry", "hx"))


def parameters_left_out(module: nn.Module, forward: ForwardPass) -> list[str]:
    """Return the optional parameters of ``forward`` that a pass does not give."""
    signature = inspect.signature(module.forward)
    given = signature.bind_partial(*forward.args, **forward.kwargs).arguments
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty and name not in given
    ]


def remembered(module: nn.Module) -> list[Any]:
    """Return what a module may remember of calls, so that a change can be seen."""
    found: list[Any] = []
    for part in module.modules():
        for name, value in vars(part).items():
            if name not in ("_parameters", "_modules", "training"):
                found += [value] if isinstance(value, (int, float, str)) else []
                found += [(name, id(each), version_of(each)) for each in tensors(value)]
    return found


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was written into, as far as torch knows."""
    return 0 if tensor.is_inference() else tensor._version
