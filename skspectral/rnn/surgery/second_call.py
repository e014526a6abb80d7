"""A second call of a module, which goes on from the states of the first."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..forward_pass import ForwardPass
from ..outputs import leaves
from ..tracing.readers import ReturnedState


@dataclass(frozen=True)
class SecondCall:
    """Where the states that a module returns go in a second call.

    Parameters
    ----------
    leaves : dict of int
        Position of a returned state among the outputs, by its position among the arguments.
    elements : dict of int
        Position of an element of the outputs, by the name of the parameter that takes it.
    """

    leaves: dict[int, int]
    elements: dict[str, int]

    @classmethod
    def of(
        cls, module: nn.Module, forward: ForwardPass, returned: dict[int, ReturnedState]
    ) -> SecondCall:
        """Find where states go: into arguments of their shape, or parameters that are None."""
        flat, _ = tree_flatten((forward.args, forward.kwargs))
        places = list(returned)
        found: dict[int, int] = {}
        for i, leaf in enumerate(flat):
            shape = leaf.shape if isinstance(leaf, Tensor) else None
            fits = [place for place in places if returned[place].layers.shape == shape]
            if fits:
                found[i] = fits[0]
                places.remove(fits[0])
        return cls(found, {} if found or not places else elements_for(module, forward))

    def arguments(self, forward: ForwardPass, output: Any) -> tuple[Any, Any]:
        """Return the arguments of the second call, given the output of the first."""
        flat, spec = tree_flatten((forward.args, forward.kwargs))
        outputs = list(leaves(output))
        for i, place in self.leaves.items():
            flat[i] = outputs[place]
        args, kwargs = tree_unflatten(flat, spec)
        return args, {**kwargs, **{name: output[i] for name, i in self.elements.items()}}


def elements_for(module: nn.Module, forward: ForwardPass) -> dict[str, int]:
    """Return the elements of a tuple of outputs that go to parameters which were None.

    These are the elements after the first, if there are as many parameters.
    """
    signature = inspect.signature(module.forward)
    given = signature.bind_partial(*forward.args, **forward.kwargs).arguments
    free = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is None and given.get(name) is None and name not in given
    ]
    return {name: i for i, name in enumerate(free, start=1)}
