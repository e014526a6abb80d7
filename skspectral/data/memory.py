"""Results kept on disk, found again by the content of what they were made from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from pickle import PicklingError
from types import FunctionType
from typing import Any

import torch
from joblib.hashing import NumpyHasher
from sklearn.utils.validation import check_memory
from torch import Tensor

import skspectral

from .sequences import READ, LazySequences


def as_memory(memory: Any) -> Any:
    """A ``joblib.Memory`` from None, a path or one that is there already."""
    return check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)


def cached(function: Callable[..., Any], memory: Any, key: Any) -> Callable[..., Any]:
    """A function that takes its result from memory where one is kept under the key.

    Parameters
    ----------
    function : callable
        What to call where nothing is kept.
    memory : None, path or joblib.Memory
        Where results are kept; None calls the function every time.
    key : object
        All that the result depends on.

    Returns
    -------
    callable
        Takes the arguments of ``function``.

    Raises
    ------
    TypeError
        If the key holds something that cannot be known again, such as a lambda.
    """
    store = as_memory(memory)
    if getattr(store, "location", memory) is None:
        return function
    digest = content_hash((skspectral.__version__, function.__qualname__, key))
    call = store.cache(_call, ignore=["function", "args"])
    return lambda *args: call(digest, function, args)


def checkpoint_path(memory: Any, digest: str) -> Path | None:
    """Where to keep what a function has found when it is stopped; nowhere without memory."""
    location = getattr(as_memory(memory), "location", None)
    if location is None:
        return None
    folder = Path(location) / "skspectral"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest}.safetensors"


def _call(
    digest: str,  # noqa: ARG001  by which the result is found again
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> Any:
    return function(*args)


def content_hash(value: Any) -> str:
    """A hash that equal contents share, be they copies, loaded from disk or in another process."""
    try:
        return ContentHasher(coerce_mmap=True).hash(value)
    except (PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            "memory keeps results by the content of estimator, X and y, which must be such as "
            f"pickle can write; got one that it cannot ({error.args[0]}). Leave memory=None for it."
        ) from error


class ContentHasher(NumpyHasher):
    """The hash of joblib, with tensors hashed by what they hold.

    Pickled tensors name their place in memory, so ``joblib.hash`` tells a module from its copy.
    """

    def save(self, obj: Any) -> None:
        """Write an object to the hash."""
        if isinstance(obj, LazySequences):
            size = obj.arrays.shape
            obj = size, [content_hash(obj.read(i, i + READ)) for i in range(0, len(obj), READ)]
        elif isinstance(obj, Tensor):
            obj = hashable(obj)
        elif isinstance(obj, (FunctionType, type)) and "<" in obj.__qualname__:
            # joblib would go by the name, which is <lambda> for every lambda of a notebook.
            raise PicklingError(f"{obj.__qualname__} is not to be found by its name")
        super().save(obj)


def hashable(tensor: Tensor) -> tuple[Any, ...]:
    """What tells a tensor from others."""
    content = tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy()
    return type(tensor), str(tensor.dtype), str(tensor.device), tuple(tensor.shape), content
