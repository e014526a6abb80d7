"""Recurrent classifier and regressor: thin estimators, trained by skorch."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted
from torch import nn

from .parameters import check_choice, check_count, is_number
from .rnn.network import CELLS, RecurrentNet
from .rnn.states import whole_blocks
from .sequences import Batches, Sequences, check_sequences


class _RNNEstimator(BaseEstimator):
    """Parameters, training and forward pass, whatever the target."""

    def __init__(
        self,
        hidden_size: int = 128,
        cell: str = "gru",
        *,
        max_epochs: int = 50,
        lr: float = 5e-3,
        batch_size: int = 32,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_size = hidden_size
        self.cell = cell
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _check_params(self) -> None:
        check_choice("cell", self.cell, CELLS)
        for name in ("hidden_size", "max_epochs", "batch_size", "patience"):
            check_count(name, getattr(self, name))
        for name in ("lr", "validation_fraction"):
            value = getattr(self, name)
            if not (is_number(value) and 0.0 < value < 1.0):
                raise ValueError(f"{name} must be a number between 0 and 1; got {value!r}.")

    def _check_input(self, X: Any, *, reset: bool) -> Sequences:
        sequences = check_sequences(X, self, reset=reset)
        if isinstance(sequences, Batches):
            raise TypeError(
                f"X is an iterable of batches, which {type(self).__name__} cannot read; "
                "give an array or a list of sequences."
            )
        return sequences

    def _train(
        self, sequences: Sequences, target: NDArray[Any], n_outputs: int, criterion: type[nn.Module]
    ) -> None:
        """Train a new network; the global random state stays as it was."""
        from .training import train  # noqa: PLC0415  skorch is loaded when it trains, not before

        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            n_features = 1 if sequences.arrays[0].ndim == 1 else sequences.n_features
            net = train(
                RecurrentNet(self.cell, n_features, self.hidden_size, n_outputs),
                as_padded(sequences),
                target,
                criterion,
                max_epochs=self.max_epochs,
                lr=self.lr,
                batch_size=self.batch_size,
                device=self.device,
                seed=seed,
                validation_fraction=self.validation_fraction if self.early_stopping else None,
                patience=self.patience,
                verbose=self.verbose,
            )
        self.module_ = net.module_.eval()
        self.n_iter_ = len(net.history)
        self.history_ = {
            key: net.history[:, key]
            for key in ("train_loss", "valid_loss")
            if key in net.history[0]
        }

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """What the network answers, shape (n_sequences, n_outputs)."""
        check_is_fitted(self)
        sequences = self._check_input(X, reset=False)
        parameter = next(self.module_.parameters())
        outputs = np.empty((len(sequences), self.module_.head.out_features))
        for index, batch in sequences.batches(256):
            x = torch.as_tensor(batch).to(parameter).reshape(*batch.shape[:2], -1)
            with torch.inference_mode():
                outputs[index] = self.module_(whole_blocks(x))[: len(x)].numpy(force=True)
        return outputs


def as_padded(sequences: Sequences) -> dict[str, NDArray[Any]]:
    """Sequences padded with zeros to one length, and their lengths."""
    lengths = sequences.lengths
    width = 1 if sequences.arrays[0].ndim == 1 else sequences.arrays[0].shape[1]
    x = np.zeros((len(sequences), lengths.max(), width), dtype=np.float32)
    for row, sequence in zip(x, sequences.arrays, strict=True):
        row[: len(sequence)] = sequence.reshape(-1, width)
    return {"x": x, "lengths": lengths}


class RNNClassifier(ClassifierMixin, _RNNEstimator):
    """Recurrent network classifier: one layer, a linear head on its last state.

    Parameters
    ----------
    hidden_size : int, default=128
        Hidden nodes.
    cell : {"gru", "irnn", "lstm", "tanh"}, default="gru"
        Kind of layer. An IRNN is a relu network whose recurrence starts as the identity.
    max_epochs : int, default=50
        Passes over the training sequences.
    lr : float, default=5e-3
        First learning rate of Adam; it decays to zero along a cosine.
    batch_size : int, default=32
        Sequences in a training step.
    early_stopping : bool, default=False
        Stop when the loss on held-out sequences has not improved for ``patience``
        epochs, and keep the best weights.
    validation_fraction : float, default=0.1
        Part of the sequences held out for early stopping.
    patience : int, default=10
        Epochs without improvement before stopping.
    device : str, default="cpu"
        Where to train.
    random_state : int, RandomState or None, default=None
        Seed of the first weights and of the shuffling.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    module_ : nn.Module
        The trained network: ``rnn`` and ``head``.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Size of the last axis of X.
    feature_names_in_ : ndarray of str
        Column names, when X has some.
    n_iter_ : int
        Epochs trained.
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
        """Train on labelled sequences.

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
        self._check_params()
        sequences = self._check_input(X, reset=True)
        y = column_or_1d(_given(self, y), warn=True)
        assert_all_finite(y, input_name="y", estimator_name=type(self).__name__)
        check_classification_targets(y)
        check_consistent_length(sequences.arrays, y)
        encoder = LabelEncoder()
        labels = encoder.fit_transform(y)
        self._train(sequences, labels.astype(np.int64), len(encoder.classes_), nn.CrossEntropyLoss)
        self.classes_ = encoder.classes_
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Class probabilities.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes)
            Probabilities in the order of ``classes_``.
        """
        return softmax(self._outputs(X), axis=1)

    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable class of each sequence.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_sequences,)
            Class labels.
        """
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]


class RNNRegressor(RegressorMixin, _RNNEstimator):
    """Recurrent network regressor: one layer, a linear head on its last state.

    Parameters
    ----------
    hidden_size : int, default=128
        Hidden nodes.
    cell : {"gru", "irnn", "lstm", "tanh"}, default="gru"
        Kind of layer. An IRNN is a relu network whose recurrence starts as the identity.
    max_epochs : int, default=50
        Passes over the training sequences.
    lr : float, default=5e-3
        First learning rate of Adam; it decays to zero along a cosine.
    batch_size : int, default=32
        Sequences in a training step.
    early_stopping : bool, default=False
        Stop when the loss on held-out sequences has not improved for ``patience``
        epochs, and keep the best weights.
    validation_fraction : float, default=0.1
        Part of the sequences held out for early stopping.
    patience : int, default=10
        Epochs without improvement before stopping.
    device : str, default="cpu"
        Where to train.
    random_state : int, RandomState or None, default=None
        Seed of the first weights and of the shuffling.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    module_ : nn.Module
        The trained network: ``rnn`` and ``head``, in the units of the target.
    n_features_in_ : int
        Size of the last axis of X.
    feature_names_in_ : ndarray of str
        Column names, when X has some.
    n_iter_ : int
        Epochs trained.
    history_ : dict of list
        Training loss of each epoch, and the held-out loss with early stopping.

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
        """Train on sequences with numeric targets.

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
        self._check_params()
        sequences = self._check_input(X, reset=True)
        y = check_array(
            _given(self, y), ensure_2d=False, dtype=np.float64, input_name="y", estimator=self
        )
        check_consistent_length(sequences.arrays, y)
        target = y.reshape(len(y), -1)
        # Trained on standardised targets; the scale goes into the head afterwards.
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
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predicted targets.

        Parameters
        ----------
        X : array-like or list of array-like
            Sequences, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_sequences,) or (n_sequences, n_targets)
            Predictions, shaped like the y of ``fit``.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self._single else outputs


def _given(estimator: BaseEstimator, y: Any) -> Any:
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None."
        )
    return y
