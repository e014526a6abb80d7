"""Record the sequence of torch functions that ``forward`` calls for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from ..kernels import KERNELS
from ..outputs import inside

NOBODY: frozenset[int] = frozenset()


class TokenError(ValueError):
    """Error for token ids that an embedding cannot look up."""


class PathRecorder(TorchFunctionMode):
    """Function mode that records pairs of consecutive torch functions with their arguments.

    Parameters are recorded by their numbers. Tensors computed from states of layers are recorded
    by these layers and their axes, together with the other arguments of the function.

    Parameters
    ----------
    numbers : dict of int
        Numbers of the parameters, by their ids.
    n_sequences : int
        Number of sequences in the batch. Arguments that are multiples of it, such as the sizes in
        ``view``, are recorded as such, so that the path does not depend on the size of the batch.
    embeddings : dict of str, optional
        Names of the embeddings, by the ids of their weights, for errors about token ids.
    """

    def __init__(
        self,
        numbers: Mapping[int, int],
        n_sequences: int = 0,
        embeddings: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__()
        self._embeddings = embeddings or {}
        self._numbers, self._before = numbers, ""
        self._n_sequences = n_sequences
        self._pairs: set[tuple[str, str]] = set()
        self._layers = WeakIdKeyDictionary()  # by tensor, the layers that it was computed from

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name: str = func.__name__
        kwargs = kwargs or {}
        if func is F.embedding:
            self._check_tokens(*args[:2])
        values = [*args, *kwargs.values()] if kwargs else args
        layers, words = NOBODY, [name]
        for value in values:
            first = value[0] if isinstance(value, (list, tuple)) and value else value
            if id(first) in self._numbers:
                words.append(f"{self._numbers[id(first)]}")
            layers = layers.union(*map(self._of, parts(value)))
        if name in KERNELS:
            layers = frozenset((int(words[-1]),)) if len(words) > 1 else NOBODY
        elif layers and name != "__get__":
            words.append(" ".join(self._described(name, value) for value in values))
        self._note(" ".join(words))
        result = func(*args, **kwargs)
        if layers:
            for tensor in parts(result):
                self._layers[tensor] = layers
        return result

    def _check_tokens(self, tokens: Tensor, weight: Tensor) -> None:
        """Raise if token ids cannot be looked up; on a GPU, that would end the process."""
        which = f"the embedding {self._embeddings.get(id(weight), '')!r}".removesuffix(" ''")
        if tokens.dtype not in (torch.int32, torch.int64):
            kind = str(tokens.dtype).removeprefix("torch.")
            kind = "floating-point numbers" if tokens.is_floating_point() else kind
            found = f"{kind}, which X.astype('int64') converts"
            if tokens.ndim > 2 and tokens.shape[-1] > 1:
                found = "sequences with features, so give iter(X) if X is a list of batches"
            raise TokenError(
                "X must hold token ids as integers of shape (n_sequences, n_steps), since "
                f"{which} looks them up; got {found}."
            )
        if not tokens.numel():
            return
        first, last = torch.stack(torch.aminmax(tokens)).tolist()
        if first < 0 or last >= len(weight):
            raise TokenError(
                f"X must hold token ids from 0 to {len(weight) - 1}, since {which} has "
                f"{len(weight)} rows; got ids from {first} to {last}, so encode X by the "
                "vocabulary that the network was trained with."
            )

    def finished(self, output: Any) -> frozenset[tuple[str, str]]:
        """Return the recorded pairs; the last one ends with the output of the module."""
        leaves = inside(output, ())
        self._note(" ".join(self._tensor(each) for each in leaves if isinstance(each, Tensor)))
        return frozenset(self._pairs)

    def _note(self, words: str) -> None:
        self._pairs.add((self._before, words))
        self._before = words

    def _of(self, tensor: Tensor) -> frozenset[int]:
        found: frozenset[int] = self._layers.get(tensor, NOBODY)
        return found

    def _tensor(self, tensor: Tensor) -> str:
        """Return a tensor's layers, its number of axes and whether the last is longer than one."""
        several = tensor.ndim > 0 and tensor.shape[-1] > 1
        return f"{sorted(self._of(tensor))}{tensor.ndim}{several}"

    def _described(self, name: str, value: Any) -> str:
        """Describe an argument of a function in words; of an index, only that of the last axis."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if name in ("__getitem__", "__setitem__"):
            index = value if isinstance(value, tuple) else ()
            of_nodes = index and (len(index) > 2 or index[0] is Ellipsis)
            kinds = [type(each).__name__ for each in index]
            return f"{kinds} {index[-1] if of_nodes and not isinstance(index[-1], Tensor) else ''}"
        if isinstance(value, (list, tuple)):
            return " ".join(self._described(name, each) for each in value)
        n = self._n_sequences
        if type(value) is int and 1 < n <= value and value % n == 0:
            return f"{value // n}n"
        return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else ""


def parts(value: Any) -> Iterable[Tensor]:
    """Return the tensors in an argument or result of a function."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in parts(each)]
    return ()
