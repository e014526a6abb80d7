"""Every accepted form of X, checked and cut into batches. Input errors are worded here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data
from torch.utils.data import DataLoader, Dataset

FORMS = (
    "X must be an array of shape (n_sequences, n_steps) or (n_sequences, n_steps, n_features), "
    "a list of arrays of shape (n_steps, n_features), or an iterable of batches"
)
INTEGERS = frozenset(np.dtype(kind) for kind in np.typecodes["AllInteger"])


@dataclass(frozen=True)
class Sequences:
    """Sequences in memory.

    Parameters
    ----------
    arrays : ndarray or list of ndarray
        One array of shape (n_sequences, n_steps[, n_features]), or one of shape
        (n_steps[, n_features]) per sequence.
    n_features : int
        Size of the last axis of X.
    """

    arrays: NDArray[Any] | list[NDArray[Any]]
    n_features: int

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Steps of each sequence."""
        return np.array([len(sequence) for sequence in self.arrays])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating type that results should have."""
        given = np.result_type(*{sequence.dtype for sequence in self.arrays})
        return given if given in (np.float32, np.float64) else np.dtype(np.float64)

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        """Batches of sequences of one length, so that nothing is ever padded.

        Parameters
        ----------
        batch_size : int
            Most sequences in a batch.

        Yields
        ------
        index : ndarray of int
            Which sequences are in the batch.
        batch : ndarray of shape (n_sequences, n_steps[, n_features])
            The sequences.
        """
        lengths = self.lengths
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length)
            for start in range(0, len(same), batch_size):
                index = same[start : start + batch_size]
                yield index, self._take(index)

    def take(self, index: NDArray[np.intp]) -> Sequences:
        """Some of the sequences."""
        if isinstance(self.arrays, np.ndarray):
            return Sequences(self.arrays[index], self.n_features)
        return Sequences([self.arrays[i] for i in index], self.n_features)

    def _take(self, index: NDArray[np.intp]) -> NDArray[Any]:
        if isinstance(self.arrays, np.ndarray):
            return self.arrays[index]
        return np.stack([self.arrays[i] for i in index])


@dataclass(frozen=True)
class Batches:
    """Batches as somebody else made them, each what the module's ``forward`` takes.

    Parameters
    ----------
    source : iterable
        Yields tensors, tuples for ``module(*batch)`` or dicts for ``module(**batch)``;
        of a list, as a ``DataLoader`` over labelled data yields, the first entry is used.
    """

    source: Iterable[Any]
    dtype = np.dtype(np.float32)

    def batches(self, batch_size: int) -> Iterator[tuple[None, Any]]:
        """The batches in their order; their size is the source's own."""
        empty = True
        for number, batch in enumerate(self.source):
            empty = False
            yield None, read_batch(batch, number)
        if empty:
            raise ValueError("X yields no batches; give an iterable with at least one.")

    @staticmethod
    def n_features(batch: tuple[Any, ...] | dict[str, Any]) -> int:
        """Size of the last axis of the first tensor of a batch."""
        values = batch.values() if isinstance(batch, dict) else batch
        return next(value for value in values if isinstance(value, torch.Tensor)).shape[-1]


def read_batch(batch: Any, number: int) -> tuple[Any, ...] | dict[str, Any]:
    """Arguments of ``forward`` from one batch of an iterable."""
    if isinstance(batch, list) and batch:
        batch = batch[0]
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    if isinstance(batch, torch.Tensor):
        return (batch,)
    named = isinstance(batch, Mapping)
    values = batch.values() if named else batch if isinstance(batch, tuple) else ()
    words = not named or all(isinstance(name, str) for name in batch)
    if words and any(isinstance(value, torch.Tensor) for value in values):
        return dict(batch) if named else batch
    raise TypeError(
        f"X yields {type(batch).__name__} as batch {number}; each batch must be a tensor, a tuple "
        "of tensors for module(*batch), or a dict for module(**batch)."
    )


def check_sequences(
    X: Any, estimator: BaseEstimator | None = None, *, reset: bool = True
) -> Sequences | Batches:
    """Bring any accepted X into one of two forms.

    Parameters
    ----------
    X : array-like, list of array-like, torch.Tensor, Dataset, DataLoader or iterable
        Sequences of shape (n_sequences, n_steps, n_features); (n_sequences, n_steps) is
        univariate; a list for unequal lengths; or batches for the module's ``forward``.
    estimator : estimator, optional
        Gets ``n_features_in_`` and ``feature_names_in_``, or is checked against them.
    reset : bool, default=True
        Whether the estimator's attributes are set or checked.

    Returns
    -------
    Sequences or Batches
        What can be cut into batches.

    Raises
    ------
    ValueError
        If a value of X cannot be used.
    TypeError
        If X is of a type that cannot be read.
    """
    if isinstance(X, Dataset) and not isinstance(X, Iterable):
        X = DataLoader(X, batch_size=256)
    if is_iterable_of_batches(X):
        return Batches(X)
    X = _as_arrays(_from_torch(X))
    if isinstance(X, list):
        return _remember(_check_ragged(X), estimator, reset)
    if getattr(X, "ndim", 2) > 2:
        return _remember(_check_3d(X), estimator, reset)
    # Integers may be token ids, and then any number of steps is as good as another.
    named = estimator is not None and (reset or getattr(X, "dtype", None) not in INTEGERS)
    X = validate_data(estimator, X, reset=reset) if named else check_array(X, input_name="X")
    return Sequences(X, X.shape[1])


def is_iterable_of_batches(X: Any) -> bool:
    """Whether X is walked through batch by batch rather than held in memory."""
    held = isinstance(X, (list, tuple, str, bytes, Mapping, set, torch.Tensor))
    return isinstance(X, Iterable) and not held and not hasattr(X, "shape")


def _as_arrays(X: Any) -> Any:
    """A list for sequences of unequal length, an array for equal ones; other X as it is."""
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
    # Rows of numbers of one length are a table; arrays of one axis are sequences of any length.
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
            raise ValueError(
                f"X[{i}] has {array.shape[1]} features, X[0] has {arrays[0].shape[1]}; "
                "give sequences of one number of features."
            )
    checked = [
        check_array(array, ensure_2d=False, input_name=f"X[{i}]") for i, array in enumerate(arrays)
    ]
    return Sequences(checked, 1 if checked[0].ndim == 1 else checked[0].shape[1])


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
    """Set ``n_features_in_``, or compare with it; token ids have no features to compare."""
    if estimator is None:
        return checked
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        estimator.n_features_in_ = checked.n_features
    elif checked.arrays[0].ndim == 2 and checked.n_features != estimator.n_features_in_:
        raise ValueError(
            f"X has {checked.n_features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return checked


def in_order(found: list[tuple[Any, NDArray[Any]]]) -> Any:
    """Results of batches put back in the order of X; a list when their shapes differ."""
    if found[0][0] is None:
        return np.concatenate([result for _, result in found])
    places = np.argsort(np.concatenate([index for index, _ in found]))
    if len({result.shape[1:] for _, result in found}) == 1:
        return np.concatenate([result for _, result in found])[places]
    rows = [row for _, result in found for row in result]
    return [rows[place] for place in places]
