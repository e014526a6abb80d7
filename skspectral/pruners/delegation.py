"""Methods of a pruner that are delegated to the pruned estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..training.rnn_estimators import RNNClassifier
from .dense_network import cast_input


def estimator_has(name: str) -> Callable[[Any], bool]:
    """Return a check for ``available_if``: whether the wrapped estimator has a method."""

    def check(pruner: Any) -> bool:
        wrapped = getattr(pruner, "pruned_estimator_", pruner.estimator)
        wrapped = RNNClassifier if wrapped is None else wrapped
        return not isinstance(wrapped, nn.Module) and hasattr(wrapped, name)

    return check


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

    @available_if(estimator_has("predict"))
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

    @available_if(estimator_has("predict_proba"))
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

    @available_if(estimator_has("score"))
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
        return self._delegate("score", X, y)

    def _delegate(self, method: str, X: Any, *args: Any) -> Any:
        check_is_fitted(self)
        return getattr(self.pruned_estimator_, method)(cast_input(self.pruned_estimator_, X), *args)

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels, if the wrapped estimator has any."""
        check_is_fitted(self)
        return self.pruned_estimator_.classes_
