"""Methods of a pruner that are delegated to the pruned estimator."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from types import MethodType
from typing import Any, cast

from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..training.rnn_estimators import RNNClassifier
from .dense_network import cast_input


def estimator_has(name: str) -> Callable[[Any], bool]:
    """Return a check for ``available_if``: whether the wrapped estimator has a method."""

    def check(pruner: Any) -> bool:
        wrapped = wrapped_by(pruner)
        return not isinstance(wrapped, nn.Module) and hasattr(wrapped, name)

    return check


def wrapped_by(pruner: Any) -> Any:
    """Return what a pruner wraps: pruned once it is fitted, before that as it was given."""
    wrapped = getattr(pruner, "pruned_estimator_", pruner.estimator)
    return RNNClassifier() if wrapped is None else wrapped


def missing(pruner: Any, name: str) -> AttributeError:
    """Return the error for an attribute that the wrapped estimator does not have."""
    kind, wrapped = type(pruner).__name__, wrapped_by(pruner)
    if isinstance(wrapped, nn.Module):
        return AttributeError(
            f"{kind} has no {name} around a torch module; call pruned_module_ on tensors, or give "
            f"as estimator one that holds the {type(wrapped).__name__} as module_ and has {name}."
        )
    return AttributeError(f"{kind} has no {name}, since its {type(wrapped).__name__} has none.")


def check_targets(pruner: Any, y: Any) -> None:
    """Raise if the wrapped classifier or regressor cannot be scored, since there are no targets."""
    wrapped = wrapped_by(pruner)
    if y is not None or isinstance(wrapped, nn.Module):
        return
    if is_classifier(wrapped) or is_regressor(wrapped):
        raise ValueError(
            f"The score of {type(wrapped).__name__} requires y to be passed, but the target y is "
            "None; give y, or as estimator the torch module, whose score needs none."
        )


class Delegated:
    """Method that exists if the wrapped estimator has it; otherwise, the error says why not.

    ``available_if`` of scikit-learn does the same with an error message of its own.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.is_available = estimator_has(method.__name__)
        update_wrapper(cast(Any, self), method)

    def __get__(self, pruner: Any, owner: Any = None) -> Callable[..., Any]:
        if pruner is None:
            return self.method
        if not self.is_available(pruner):
            raise missing(pruner, self.method.__name__)
        return MethodType(self.method, pruner)


class PredictorMixin:
    """Methods delegated to the pruned estimator, available if it has them."""

    estimator: Any
    pruned_estimator_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]  # of the estimator mixed into
        # Once fitted, that of estimator=None is known to be a classifier or a regressor.
        estimator = getattr(self, "estimator_", self.estimator)
        if isinstance(estimator, BaseEstimator):
            inner = get_tags(estimator)
            tags.estimator_type = inner.estimator_type
            tags.classifier_tags = inner.classifier_tags
            tags.regressor_tags = inner.regressor_tags
            tags.target_tags = inner.target_tags
        tags.target_tags.required |= self.estimator is None
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @Delegated
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict with the smaller network.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray
            What the wrapped estimator predicts.
        """
        return self._delegate("predict", X)

    @Delegated
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict class probabilities with the smaller network.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes)
            Probabilities in the order of ``classes_``.
        """
        return self._delegate("predict_proba", X)

    @Delegated
    def score(self, X: Any, y: Any = None) -> float:
        """Return the score of the smaller network.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``.
        y : array-like, default=None
            Targets.

        Returns
        -------
        float
            The score of the wrapped estimator.
        """
        check_is_fitted(self)
        check_targets(self, y)
        return self._delegate("score", X, y)

    def _delegate(self, method: str, X: Any, *args: Any) -> Any:
        check_is_fitted(self)
        return getattr(self.pruned_estimator_, method)(cast_input(self.pruned_estimator_, X), *args)

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels, if the wrapped estimator has any."""
        check_is_fitted(self)
        if not estimator_has("classes_")(self):
            raise missing(self, "classes_")
        return self.pruned_estimator_.classes_
