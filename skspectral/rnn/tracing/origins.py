"""Where the answers of a network come from: a sigmoid, a softmax, a linear map."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

PROBABILITIES, LINEAR, BLANK, OTHER = "probabilities", "linear map", "blank", "other"
# What gives probabilities, and logits or numbers, by the names of the functions of torch.
MAKERS = dict.fromkeys(
    "sigmoid sigmoid_ special_expit hardsigmoid softmax special_softmax softmin "
    "gumbel_softmax".split(),
    PROBABILITIES,
) | dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm"), LINEAR)
# What a linear map stays one under: other functions may make probabilities of its outcome.
ARRANGING = frozenset(
    "__get__ __getitem__ __setitem__ cat chunk clone contiguous detach double dropout flatten "
    "float gather index_select mean movedim narrow permute reshape select split squeeze stack "
    "swapaxes t to transpose unbind unflatten unsqueeze view".split()
)


class Origins(TorchFunctionMode):
    """Notes where tensors come from, while it is entered.

    What is made of probabilities alone, by views, selections, stacking, means or ``1 - p``, is
    taken for probabilities too; zeros and ones, such as those of a mask, make no difference.
    """

    def __init__(self) -> None:
        super().__init__()
        self._origins = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, and note what it gives."""
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
        """Where a tensor comes from; None of one that no function of torch was seen to make."""
        found: str | None = self._origins.get(tensor)
        return found


def floating(values: Any) -> Any:
    """The floating tensors among values."""
    return (
        each for each in tree_iter(values) if isinstance(each, Tensor) and each.is_floating_point()
    )


def is_mask(tensor: Tensor, kind: str) -> bool:
    """Whether a tensor of no known origin holds zeros and ones alone."""
    return kind == OTHER and bool(((tensor == 0.0) | (tensor == 1.0)).all())
