"""The network to prune: a torch module, or an estimator that trains one."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import type_of_target
from torch import nn

from ..data.batches import Batches, n_classes_in
from ..data.dask_sequences import DaskSequences
from ..data.labeled import Encoding, LabeledSequences, targets_of
from ..data.memory import cached
from ..data.sequences import Sequences
from ..rnn.layers.weights import copied, copied_estimator, in_one_piece
from ..training.rnn_estimators import RNNClassifier, RNNRegressor
from ..utils.doc_hints import refer_to_docs
from ..utils.interrupts import interruptible
from ..utils.validation import name_of_kind

OURS = (RNNClassifier, RNNRegressor)


@refer_to_docs("Whole models")
def fit_or_copy(pruner: Any, X: Any, y: Any, memory: Any = None) -> Any:
    """Return a trained copy of the network given to a pruner, in evaluation mode, on its device.

    What has to be trained is taken from memory where that is the same as training it.

    Raises
    ------
    ValueError
        If there is neither an estimator nor a target to train one on.
    TypeError
        If it is neither a torch module nor an estimator around one.
    """
    estimator = pruner.estimator
    if estimator is None:
        seed, verbose = pruner._drawn, pruner.verbose
        estimator = default_estimator(y).set_params(random_state=seed, verbose=verbose)
    estimator = unwrapped(estimator)
    if isinstance(estimator, nn.Module) or hasattr(estimator, "module_"):
        is_module = isinstance(estimator, nn.Module)
        dense = copied(estimator, {}) if is_module else copied_estimator(estimator)
    elif hasattr(estimator, "fit"):
        dense = clone(estimator)
        train = cached(fitted, memory if is_seeded(dense) else None, (dense, X, y))
        dense = train(dense, cast_input(dense, X), y)
    else:
        dense = estimator
    if not isinstance(dense, nn.Module) and not hasattr(dense, "module_"):
        raise no_network(estimator)
    module = in_one_piece(get_module(dense)).eval()
    if pruner.device is not None:
        module.to(pruner.device)
    return dense


def unwrapped(estimator: Any) -> Any:
    """Return the estimator that a FrozenEstimator freezes, or the module that was compiled."""
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if isinstance(estimator, nn.Module):  # a compiled one hides the module that it was made of
        estimator = getattr(estimator, "_orig_mod", estimator)
    return estimator


@refer_to_docs("Whole models")
def check_estimator(estimator: Any) -> None:
    """Raise if it is known before anything is trained that an estimator holds no torch module."""
    estimator = unwrapped(estimator)
    if isinstance(estimator, nn.Module) or hasattr(estimator, "module_") or estimator is None:
        return
    is_sklearn = type(estimator).__module__.partition(".")[0] == "sklearn"
    if isinstance(estimator, type) or is_sklearn or not hasattr(estimator, "fit"):
        raise no_network(estimator)


def no_network(estimator: Any) -> TypeError:
    """Return the error for an estimator that holds no torch module."""
    return TypeError(
        "estimator must be a torch module, an estimator that holds one as module_ once it is "
        f"fitted, or None; got {name_of_kind(estimator)}."
    )


def fitted(estimator: Any, X: Any, y: Any) -> Any:
    """Fit an estimator and return it."""
    with interruptible(estimator):
        return estimator.fit(X, y)


def is_seeded(estimator: Any) -> bool:
    """Return whether training an estimator again gives the same network."""
    seed = estimator.get_params(deep=False).get("random_state")
    return isinstance(seed, (Integral, np.random.RandomState))


def planned_size(estimator: Any) -> int | None:
    """Return the hidden size that one of our estimators will train; None for others."""
    if estimator is None:
        return RNNClassifier().hidden_size
    size: Any = estimator.hidden_size if isinstance(estimator, OURS) else None
    is_count = isinstance(size, Integral) and int(size) > 0
    return int(size) if is_count and not hasattr(estimator, "module_") else None


def default_estimator(y: Any) -> RNNClassifier | RNNRegressor:
    """Return the estimator that ``estimator=None`` stands for, depending on y."""
    if y is None:
        raise ValueError(
            "estimator=None trains a network and requires y to be passed, but the target y is "
            "None; give y, or an estimator or module that is trained already."
        )
    return RNNClassifier() if is_discrete(y) else RNNRegressor()


def n_classes_of(estimator: Any, y: Any) -> int | None:
    """Return the number of classes, at least, by estimator and targets; None if unknown.

    It is 0 if outputs are numbers.
    """
    if isinstance(estimator, nn.Module):
        return None if y is None else holds_labels(y) and n_classes_in(targets_of(y))
    known = is_classifier(estimator) or is_regressor(estimator)
    return 2 * is_classifier(estimator) if known else None


def encoding_of(estimator: Any) -> Encoding | None:
    """Return the function from labels to class numbers that an estimator has been trained with.

    Numbers are class numbers already, unless it is our classifier.
    """
    if not hasattr(estimator, "classes_"):
        return None
    classes = np.asarray(estimator.classes_)

    def encode(labels: NDArray[Any]) -> NDArray[Any]:
        if not isinstance(estimator, RNNClassifier) and labels.dtype.kind in "biuf":
            return labels
        known = np.isin(labels, classes)
        if not known.all():
            raise ValueError(
                f"y must hold labels that estimator was trained on, {classes.tolist()}; got "
                f"{labels[~known].tolist()[0]!r}."
            )
        return np.searchsorted(classes, labels)

    return encode


def memory_for(memory: Any, sequences: Sequences | Batches) -> Any:
    """Return the cache; None for data that cannot be hashed by content."""
    return None if isinstance(sequences, Batches | DaskSequences) else memory


def labeled_data(
    estimator: Any, sequences: Sequences | Batches, y: Any
) -> tuple[Sequences | Batches, LabeledSequences]:
    """Return sequences, batches of them in memory, and the same with their targets."""
    if isinstance(sequences, Batches):
        sequences = sequences.in_memory()
    module, encoding = get_module(estimator), encoding_of(estimator)
    labeled = LabeledSequences.of(sequences, y, module, encoding)
    if isinstance(sequences, Batches):  # without targets, which a tuple does not tell from inputs
        sequences = replace(sequences, source=cast(list[Any], labeled.data))
    return sequences, labeled


def is_discrete(y: Any) -> bool:
    """Return whether targets are labels rather than numbers."""
    return type_of_target(y, input_name="y") in ("binary", "multiclass")


def holds_labels(y: Any) -> bool:
    """Return whether targets, possibly several per sequence, are class labels."""
    targets = targets_of(y)
    if isinstance(targets, list):
        return np.asarray(targets[0]).dtype.kind in "iub"
    targets = np.asarray(targets)
    return targets.dtype.kind in "iub" if targets.ndim > 1 else is_discrete(targets)


def get_module(estimator: Any) -> nn.Module:
    """Return the torch module of an estimator, or the module itself."""
    return estimator if isinstance(estimator, nn.Module) else estimator.module_


def replace_module(estimator: Any, module: nn.Module) -> Any:
    """Return a copy of an estimator with another module; for a module, the other module."""
    if isinstance(estimator, nn.Module):
        return module
    other = copied_estimator(estimator, module)
    other.module_ = module
    if hasattr(other, "initialize_optimizer"):  # skorch: train the new parameters from now on
        other.initialize_optimizer()
    return other


def cast_input(estimator: Any, X: Any) -> Any:
    """Return X as float32 if a torch module reads it."""
    is_double = isinstance(X, np.ndarray) and X.dtype == np.float64
    return X.astype(np.float32) if is_double and not isinstance(estimator, OURS) else X
