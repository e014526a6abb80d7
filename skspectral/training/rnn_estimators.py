"""Recurrent classifier and regressor, trained by skorch."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length
from torch import nn

from .recurrent_base import RecurrentEstimator, given


class RNNClassifier(ClassifierMixin, RecurrentEstimator):
    """Recurrent network classifier with one layer and a linear head on its last state.

    Parameters
    ----------
    hidden_size : int, default=128
        Number of hidden nodes.
    cell : {"gru", "irnn", "lstm", "tanh"}, default="gru"
        Kind of layer. An IRNN is a relu RNN whose recurrent weight starts as the identity.
    max_epochs : int, default=50
        Number of passes over the training sequences.
    lr : float, default=5e-3
        Initial learning rate of Adam; it decays to zero along a cosine.
    batch_size : int, default=32
        Number of sequences in a training step.
    early_stopping : bool, default=False
        Whether to stop if the loss on held-out sequences has not improved for ``patience``
        epochs, and keep the best weights.
    validation_fraction : float, default=0.1
        Fraction of the sequences that is held out for early stopping.
    patience : int, default=10
        Number of epochs without improvement before training stops.
    device : str, default="cpu"
        Device to train on.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights and of the shuffling.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    module_ : nn.Module
        The trained network, with the parts ``rnn`` and ``head``.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Size of the last axis of X; the number of steps if X has two axes.
    feature_names_in_ : ndarray of str
        Column names, if X has any.
    n_iter_ : int
        Number of epochs trained.
    history_ : dict of list
        Training loss of each epoch, and the held-out loss with early stopping.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral import RNNClassifier
    >>> X = np.random.default_rng(0).normal(size=(60, 5, 1))
    >>> y = np.where(X.sum(axis=(1, 2)) > 0, "up", "down")
    >>> model = RNNClassifier(hidden_size=16, max_epochs=60, lr=1e-2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the classifier to labeled sequences.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences of shape (n_sequences, n_steps[, n_features]), or a list of
            (n_steps, n_features).
        y : array-like of shape (n_sequences,)
            Class labels.

        Returns
        -------
        RNNClassifier
            Itself.
        """
        return super().fit(X, y)

    def _fit(self, X: Any, y: Any) -> None:
        sequences = self._check_input(X, reset=True)
        y = column_or_1d(given(self, y), warn=True)
        assert_all_finite(y, input_name="y", estimator_name=type(self).__name__)
        check_classification_targets(y)
        check_consistent_length(sequences.arrays, y)
        encoder = LabelEncoder()
        labels = encoder.fit_transform(y)
        self._train(sequences, labels.astype(np.int64), len(encoder.classes_), nn.CrossEntropyLoss)
        self.classes_ = encoder.classes_

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``; with an axis of features or in a list, of any length.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes)
            Probabilities in the order of ``classes_``.
        """
        return softmax(self._outputs(X), axis=1)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class of each sequence.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``; with an axis of features or in a list, of any length.

        Returns
        -------
        ndarray of shape (n_sequences,)
            Class labels.
        """
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]


class RNNRegressor(RegressorMixin, RecurrentEstimator):
    """Recurrent network regressor with one layer and a linear head on its last state.

    Parameters
    ----------
    hidden_size : int, default=128
        Number of hidden nodes.
    cell : {"gru", "irnn", "lstm", "tanh"}, default="gru"
        Kind of layer. An IRNN is a relu RNN whose recurrent weight starts as the identity.
    max_epochs : int, default=50
        Number of passes over the training sequences.
    lr : float, default=5e-3
        Initial learning rate of Adam; it decays to zero along a cosine.
    batch_size : int, default=32
        Number of sequences in a training step.
    early_stopping : bool, default=False
        Whether to stop if the loss on held-out sequences has not improved for ``patience``
        epochs, and keep the best weights.
    validation_fraction : float, default=0.1
        Fraction of the sequences that is held out for early stopping.
    patience : int, default=10
        Number of epochs without improvement before training stops.
    device : str, default="cpu"
        Device to train on.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights and of the shuffling.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    module_ : nn.Module
        The trained network, with the parts ``rnn`` and ``head``; its outputs are in the units of
        the target.
    n_features_in_ : int
        Size of the last axis of X; the number of steps if X has two axes.
    feature_names_in_ : ndarray of str
        Column names, if X has any.
    n_iter_ : int
        Number of epochs trained.
    history_ : dict of list
        Training loss of each epoch, and the held-out loss with early stopping, both for
        standardized targets.

    Examples
    --------
    >>> import numpy as np
    >>> from skspectral import RNNRegressor
    >>> X = np.random.default_rng(0).normal(size=(60, 5, 1))
    >>> y = X.sum(axis=(1, 2))
    >>> model = RNNRegressor(hidden_size=16, max_epochs=60, lr=1e-2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the regressor to sequences with numeric targets.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences of shape (n_sequences, n_steps[, n_features]), or a list of
            (n_steps, n_features).
        y : array-like of shape (n_sequences,) or (n_sequences, n_targets)
            Targets.

        Returns
        -------
        RNNRegressor
            Itself.
        """
        return super().fit(X, y)

    def _fit(self, X: Any, y: Any) -> None:
        sequences = self._check_input(X, reset=True)
        y = check_array(
            given(self, y), ensure_2d=False, dtype=np.float64, input_name="y", estimator=self
        )
        check_consistent_length(sequences.arrays, y)
        target = y.reshape(len(y), -1)
        # Training uses standardized targets; the head is rescaled afterwards.
        mean, scale = target.mean(axis=0), target.std(axis=0)
        scale[scale == 0.0] = 1.0
        standard = ((target - mean) / scale).astype(np.float32)
        self._train(sequences, standard, target.shape[1], nn.MSELoss)
        head = self.module_.head
        with torch.no_grad():
            head.weight *= torch.as_tensor(scale).to(head.weight)[:, None]
            head.bias *= torch.as_tensor(scale).to(head.bias)
            head.bias += torch.as_tensor(mean).to(head.bias)
        self._single = y.ndim == 1

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the target of each sequence.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``; with an axis of features or in a list, of any length.

        Returns
        -------
        ndarray of shape (n_sequences,) or (n_sequences, n_targets)
            Predictions, with as many axes as the y of ``fit``.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self._single else outputs
