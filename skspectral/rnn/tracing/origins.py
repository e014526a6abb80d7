"""Trace whether the outputs of a network come from a sigmoid or softmax, or a linear map."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

PROBABILITIES, LINEAR, BLANK, OTHER = "probabilities", "linear map", "blank", "other"
# Torch functions whose results are probabilities, and those whose results are unbounded.
MAKERS = dict.fromkeys(
    "sigmoid sigmoid_ special_expit hardsigmoid softmax special_softmax softmin "
    "gumbel_softmax".split(),
    PROBABILITIES,
) | dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm"), LINEAR)
# Functions that preserve the origin of a linear map; others may turn logits into probabilities.
ARRANGING = frozenset(
    "__get__ __getitem__ __setitem__ cat chunk clone contiguous detach double dropout flatten "
    "float gather index_select mean movedim narrow permute reshape select split squeeze stack "
    "swapaxes t to transpose unbind unflatten unsqueeze view".split()
)


class Origins(TorchFunctionMode):
    """Function mode that records which kind of function each tensor comes from.

    The result of a function of probabilities only, such as a view, selection, stack, mean or
    ``1 - p``, counts as probabilities too. Operands of zeros and ones, such as masks, are ignored.
    """

    def __init__(self) -> None:
        super().__init__()
        self._origins = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function and record the origin of its results."""
        name = getattr(func, "__name__", "")
        origin = self._origin(name, [*floating((args, kwargs))])
        found = func(*args, **(kwargs or {}))
        for made in floating(args[0] if name == "__setitem__" else found):
            self._origins[made] = origin
        return found

    def _origin(self, name: str, given: list[Tensor]) -> str:
        if name in MAKERS:
            return MAKERS[name]
        if not given or name.startswith("new_") or name.endswith("_like"):
            return BLANK
        known = [self._origins.get(tensor, OTHER) for tensor in given]
        kinds = set(known) - {BLANK}
        if len(kinds) > 1:
            pairs = zip(given, known, strict=True)
            kinds = {kind for tensor, kind in pairs if kind != BLANK and not is_mask(tensor, kind)}
        if kinds == {LINEAR} and name not in ARRANGING:
            return OTHER
        return BLANK if not kinds else kinds.pop() if len(kinds) == 1 else OTHER

    def of(self, tensor: Tensor) -> str | None:
        """Return the origin of a tensor, or None if no recorded function computed it."""
        found: str | None = self._origins.get(tensor)
        return found


def floating(values: Any) -> Any:
    """Return the floating-point tensors in nested values."""
    return (
        each for each in tree_iter(values) if isinstance(each, Tensor) and each.is_floating_point()
    )


def is_mask(tensor: Tensor, kind: str) -> bool:
    """Return whether a tensor of unknown origin holds only zeros and ones."""
    return kind == OTHER and bool(((tensor == 0.0) | (tensor == 1.0)).all())
