"""What a module computes before its layer runs, computed once and given out again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map


class Recorder(TorchFunctionMode):
    """Writes down the results of all torch functions until the first of some layers is called.

    Parameters
    ----------
    layers : iterable of nn.Module
        The layers.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self._layers = list(layers)
        self._results: list[Any] = []
        self._used: dict[int, Any] = {}  # tensors by id, and kept alive so that the id is theirs
        self._records = True

    def __enter__(self) -> Recorder:
        self._hooks = [
            layer.register_forward_pre_hook(self._stop, with_kwargs=True) for layer in self._layers
        ]
        super().__enter__()  # type: ignore[no-untyped-call]  # torch has no types for it
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # nor for this
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._records:
            self._results.append(result)
        else:
            self.use((args, kwargs))
        return result

    def _stop(self, _layer: nn.Module, args: Any, kwargs: Any) -> None:
        self._records = False
        self.use((args, kwargs))

    def use(self, values: Any) -> None:
        """Take note of the tensors that are needed later."""
        self._used.update(
            (id(each), each) for each in tree_iter(values) if isinstance(each, Tensor)
        )

    def replay(self) -> AbstractContextManager[Any]:
        """A context in which the functions before the layer are not run again."""
        if self._records or not self._results:
            return nullcontext()
        return Replay(tree_map(self._kept, self._results))

    def _kept(self, value: Any) -> Any:
        """A value; an empty tensor in the place of one that only went from one to the next."""
        idle = isinstance(value, Tensor) and id(value) not in self._used
        return value.new_empty(0) if idle else value


class Replay(TorchFunctionMode):
    """Gives out results instead of running functions, until there are no more.

    Parameters
    ----------
    results : list
        Results, in the order of the calls.
    """

    def __init__(self, results: list[Any]) -> None:
        super().__init__()
        self._results = results
        self._next = 0

    def __enter__(self) -> Replay:
        self._next = 0
        super().__enter__()  # type: ignore[no-untyped-call]  # torch has no types for it
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._next == len(self._results):
            return func(*args, **(kwargs or {}))
        self._next += 1
        return self._results[self._next - 1]
