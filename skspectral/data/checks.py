"""Checks of every accepted form of X, with the texts of input errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from ..utils.doc_hints import refer_to_docs
from .batches import Batches, holds_tensors, is_numbers
from .dask_sequences import DaskSequences
from .sequences import LazySequences, Sequences

FORMS = (
    "X must be an array of shape (n_sequences, n_steps) or (n_sequences, n_steps, n_features), "
    "a list of arrays of shape (n_steps, n_features), or an iterable of batches"
)
STEP = "_n_step_features"  # attribute of an estimator, the number of features of a step in fit
INTEGERS = frozenset(np.dtype(kind) for kind in np.typecodes["AllInteger"])


@refer_to_docs("Sequences and shapes")
def check_sequences(
    X: Any, estimator: BaseEstimator | None = None, *, reset: bool = True
) -> Sequences | Batches:
    """Check X and convert it to one of two forms.

    Parameters
    ----------
    X : array-like, list of array-like, torch.Tensor, Dataset, DataLoader or iterable
        Sequences of shape (n_sequences, n_steps, n_features), or (n_sequences, n_steps) if they are
        univariate; a list of sequences of unequal length; or batches for the module's ``forward``.
    estimator : estimator, optional
        Estimator whose ``n_features_in_`` and ``feature_names_in_`` are set or checked.
    reset : bool, default=True
        Whether these attributes are set rather than checked.

    Returns
    -------
    Sequences or Batches
        The checked X.

    Raises
    ------
    ValueError
        If a value of X cannot be used.
    TypeError
        If X is of a type that cannot be read.
    """
    try:
        return _read(X, estimator, reset)
    except (ValueError, TypeError) as error:
        text = str(error).partition("\n")[0]
        if "contains NaN" in text or "contains infinity" in text:
            raise ValueError(
                f"{text} Give sequences of finite numbers: fill the gaps, or cut sequences there."
            ) from error
        if "X" in text or "feature names" in text:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"X cannot be read: {error} {FORMS}.") from error


def _read(X: Any, estimator: BaseEstimator | None, reset: bool) -> Sequences | Batches:
    if isinstance(X, Dataset) and not isinstance(X, Iterable):
        X = DataLoader(X, batch_size=256)
    if isinstance(X, PackedSequence):
        return Batches([X])
    if is_iterable_of_batches(X) or is_list_of_batches(X):
        return Batches(X)
    if is_sliced(X):
        return _remember(_check_sliced(X), estimator, reset)
    X = _as_arrays(_from_torch(X))
    if isinstance(X, list):
        return _remember(_check_ragged(X), estimator, reset)
    if getattr(X, "ndim", 2) > 2:
        return _remember(_check_3d(X), estimator, reset)
    # Integers may be token ids, whose number of steps may differ from that in fit.
    named = estimator is not None and (reset or getattr(X, "dtype", None) not in INTEGERS)
    if named and not reset:
        check_table(X, estimator)
    X = validate_data(estimator, X, reset=reset) if named else check_array(X, input_name="X")
    if reset and estimator is not None:
        vars(estimator)[STEP] = 1
    return Sequences(X, X.shape[1])


def check_table(X: Any, estimator: BaseEstimator) -> None:
    """Raise if a table cannot hold sequences like those in fit, unless its columns have names.

    Scikit-learn wants tables with other columns refused, so that univariate sequences of other
    lengths need an axis of features.
    """
    shape: tuple[int, ...] = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    n_step_features = vars(estimator).get(STEP)
    if len(shape) != 2 or n_step_features is None or hasattr(estimator, "feature_names_in_"):
        return
    name, expected = type(estimator).__name__, estimator.n_features_in_
    if n_step_features > 1:
        advice = "an array of shape (n_sequences, n_steps, n_features)"
        if shape[1] == n_step_features:
            advice = "X[None] if X is a single sequence"
        elif shape[1] % n_step_features == 0:
            advice = f"X.reshape(len(X), -1, {n_step_features}) if each row is a flat sequence"
        raise ValueError(
            f"X of shape {shape} has 1 feature at every step, but {name} is expecting "
            f"{n_step_features}; give {advice}."
        )
    if shape[1] != expected:
        raise ValueError(
            f"X has {shape[1]} features, but {name} is expecting {expected} features as input; "
            "give X[:, :, None] if these are the steps of univariate sequences, which may have "
            "another length than in fit."
        )


def is_iterable_of_batches(X: Any) -> bool:
    """Return whether X is an iterable of batches rather than data in memory."""
    held = isinstance(X, (list, tuple, str, bytes, Mapping, set, torch.Tensor))
    return isinstance(X, Iterable) and not held and not hasattr(X, "shape")


def is_list_of_batches(X: Any) -> bool:
    """Return whether X is a list of batches for ``forward`` rather than of sequences.

    Sequences have at most two axes, (n_steps, n_features), and may be lists of steps.
    """
    return isinstance(X, list) and len(X) > 0 and all(map(is_batch, X))


def is_batch(entry: Any) -> bool:
    """Return whether an entry of a list cannot be a sequence."""
    if not isinstance(entry, list | tuple | dict):
        return n_axes_of(entry) > 2
    inputs = entry[:1] if isinstance(entry, list) else entry
    several = any(n_axes_of(leaf) > 1 for leaf in tree_leaves(inputs))
    return several or (not isinstance(entry, list) and holds_tensors(entry))


def n_axes_of(value: Any) -> int:
    """Return the number of axes of an array or tensor of numbers, and 0 for anything else."""
    return value.ndim if is_numbers(value) or isinstance(value, torch.Tensor) else 0


def is_sliced(X: Any) -> bool:
    """Return whether X is an array in a file or store, which is read in slices."""
    parts = ("shape", "dtype", "__getitem__")
    here = isinstance(X, (np.ndarray, np.generic, torch.Tensor)) or issparse(X)
    known = any(hasattr(X, name) for name in ("iloc", "__array_namespace__", "to_numpy"))
    return all(hasattr(X, name) for name in parts) and not here and not known


def _as_arrays(X: Any) -> Any:
    """Return sequences as a list if their lengths differ, else as an array; keep other forms."""
    if not isinstance(X, (list, tuple)) and getattr(X, "dtype", None) != np.dtype(object):
        if not hasattr(X, "__array__") and not hasattr(X, "shape"):
            raise TypeError(f"X is of type {type(X).__name__}; {FORMS}.")
        return X
    if len(X) == 0:
        raise ValueError(f"X is empty; {FORMS}.")
    if isinstance(X, np.ndarray) and X.ndim > 1:
        return X
    arrays = [_as_array(_from_torch(sequence), i) for i, sequence in enumerate(X)]
    n_axes = {array.ndim for array in arrays}
    if len(n_axes) > 1 or not n_axes <= {1, 2}:
        raise ValueError(f"X has entries of {sorted(n_axes)} axes; {FORMS}.")
    # Lists of numbers of one length are rows of a table; one-axis arrays are separate sequences.
    table = n_axes != {1} or not any(hasattr(sequence, "ndim") for sequence in X)
    equal = len({array.shape for array in arrays}) == 1
    return np.stack(arrays) if equal and table else arrays


def _from_torch(X: Any) -> Any:
    if not isinstance(X, torch.Tensor):
        return X
    X = X.float() if X.dtype == torch.bfloat16 else X  # which NumPy does not know
    return X.numpy(force=True)


def _as_array(sequence: Any, i: int) -> NDArray[Any]:
    try:
        return np.asarray(sequence)
    except ValueError as error:
        raise ValueError(f"X[{i}] is not a sequence of equal steps ({error}); {FORMS}.") from error


def _check_ragged(arrays: list[NDArray[Any]]) -> Sequences:
    if arrays[0].ndim == 1 and arrays[0].dtype.kind not in "iu":
        arrays = [array[:, None] for array in arrays]
    for i, array in enumerate(arrays):
        if len(array) == 0:
            raise ValueError(f"X[{i}] is an empty sequence; give sequences of at least one step.")
        if array.shape[1:] != arrays[0].shape[1:]:
            advice = "give sequences of one number of features"
            if len({each.shape[0] for each in arrays}) == 1:
                advice += ", as [x.T for x in X] if these are of shape (n_features, n_steps)"
            raise ValueError(
                f"X[{i}] has {array.shape[1]} features, X[0] has {arrays[0].shape[1]}; {advice}."
            )
    with np.errstate(over="ignore", invalid="ignore"):
        sound = [is_finite_fast(array) for array in arrays]
    checked = [
        array if sound[i] else check_array(array, ensure_2d=False, input_name=f"X[{i}]")
        for i, array in enumerate(arrays)
    ]
    return Sequences(checked, 1 if checked[0].ndim == 1 else checked[0].shape[1])


def is_finite_fast(array: NDArray[Any]) -> bool:
    """Return whether a single sum shows that an array is finite; False does not prove otherwise."""
    numbers = array.dtype.kind in "biuf" and type(array) is np.ndarray
    return numbers and math.isfinite(array.sum(dtype=np.float64))


def _check_sliced(X: Any) -> LazySequences:
    shape = tuple(X.shape)
    if len(shape) not in (2, 3):
        raise ValueError(f"X has {len(shape)} axes; {FORMS}.")
    if not all(isinstance(size, Integral) and int(size) > 0 for size in shape):
        raise ValueError(
            f"X is of shape {shape}; give sequences whose number, steps and features are known and "
            "not zero."
        )
    if np.dtype(X.dtype).kind not in "biuf":
        raise ValueError(f"X is of dtype {X.dtype}; give sequences of numbers.")
    in_dask = hasattr(X, "dask") and hasattr(X, "to_delayed")
    return (DaskSequences if in_dask else LazySequences)(X, shape[-1])


def _check_3d(X: Any) -> Sequences:
    if X.ndim > 3:
        raise ValueError(f"X has {X.ndim} axes; {FORMS}.")
    if 0 in X.shape[1:]:
        raise ValueError(
            f"X of shape {X.shape} holds empty sequences; give at least one step and one feature."
        )
    X = check_array(X, allow_nd=True, input_name="X")
    return Sequences(X, X.shape[2])


def _remember(checked: Sequences, estimator: BaseEstimator | None, reset: bool) -> Sequences:
    """Set ``n_features_in_`` or compare the features of a step, unless X are token ids."""
    if estimator is None:
        return checked
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        estimator.n_features_in_ = checked.n_features
        vars(estimator)[STEP] = checked.n_step_features
        return checked
    expected = getattr(estimator, STEP, estimator.n_features_in_)
    array = checked.arrays[0] if isinstance(checked.arrays, list) else checked.arrays
    are_tokens = not checked.has_features and np.dtype(array.dtype).kind in "iu"
    if not are_tokens and checked.n_step_features != expected:
        shape: tuple[int, ...] = getattr(checked.arrays, "shape", ())
        transposed = f"; give X.transpose(0, 2, 1), whose last axis has {expected}"
        raise ValueError(
            f"X has {checked.n_step_features} features, but {type(estimator).__name__} is "
            f"expecting {expected} features as input at every step"
            f"{transposed * (len(shape) == 3 and shape[1] == expected)}."
        )
    return checked
