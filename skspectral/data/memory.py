"""Cache of results on disk, with keys that depend on the content of the inputs."""

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
    """Return a ``joblib.Memory`` made from None or a path, or the given one."""
    return check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)


def cached(function: Callable[..., Any], memory: Any, key: Any) -> Callable[..., Any]:
    """Return a function that takes its result from the cache if there is one for the key.

    Parameters
    ----------
    function : callable
        Function to call if no result is cached.
    memory : None, path or joblib.Memory
        Cache; None calls the function every time.
    key : object
        All values that the result depends on.

    Returns
    -------
    callable
        Function of the arguments of ``function``.

    Raises
    ------
    TypeError
        If the key contains an object that cannot be hashed by content, such as a lambda.
    """
    store = as_memory(memory)
    if getattr(store, "location", memory) is None:
        return function
    digest = content_hash((skspectral.__version__, function.__qualname__, key))
    call = store.cache(_call, ignore=["function", "args"])
    return lambda *args: call(digest, function, args)


def checkpoint_path(memory: Any, digest: str) -> Path | None:
    """Return the path of the checkpoint of a stopped pass; None without a cache."""
    location = getattr(as_memory(memory), "location", None)
    if location is None:
        return None
    folder = Path(location) / "skspectral"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest}.safetensors"


def _call(
    digest: str,  # noqa: ARG001  the key of the cached result
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> Any:
    return function(*args)


def content_hash(value: Any) -> str:
    """Return a hash that is equal for equal contents: copies, reloaded objects, other processes."""
    try:
        return ContentHasher(coerce_mmap=True).hash(value)
    except (PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            "memory keeps results by the content of estimator, X and y, which must be such as "
            f"pickle can write; got one that it cannot ({error.args[0]}). Leave memory=None for it."
        ) from error


class ContentHasher(NumpyHasher):
    """Hasher of joblib that hashes tensors by their values.

    Pickled tensors contain their memory address, so ``joblib.hash`` of a module and of its copy
    differ.
    """

    def save(self, obj: Any) -> None:
        """Add an object to the hash."""
        if isinstance(obj, LazySequences):
            size = obj.arrays.shape
            obj = size, [content_hash(obj.read(i, i + READ)) for i in range(0, len(obj), READ)]
        elif isinstance(obj, Tensor):
            obj = hashable(obj)
        elif isinstance(obj, (FunctionType, type)) and "<" in obj.__qualname__:
            # joblib would hash the name, which is <lambda> for every lambda of a notebook.
            raise PicklingError(f"{obj.__qualname__} is not to be found by its name")
        super().save(obj)


def hashable(tensor: Tensor) -> tuple[Any, ...]:
    """Return the type, dtype, device, shape and bytes of a tensor."""
    content = tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy()
    return type(tensor), str(tensor.dtype), str(tensor.device), tuple(tensor.shape), content
