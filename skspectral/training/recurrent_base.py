"""Base of the recurrent classifier and regressor."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..data.batches import Batches
from ..data.checks import check_sequences
from ..data.sequences import Sequences
from ..rnn.states.collector import whole_blocks
from ..utils.atomic_fit import AtomicFitMixin, same_random_numbers, unfitted_copy
from ..utils.validation import check_choice, check_count, check_device, is_number
from .network import CELLS, RecurrentNet


class RecurrentEstimator(AtomicFitMixin):
    """Base of estimators that train a ``RecurrentNet``, independent of the kind of target."""

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

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the estimator; a fit that fails or is interrupted does not change it."""
        with self._commit_on_success(unfitted_copy(self)) as new:
            new._fit(X, y)
        return self

    @abstractmethod
    def _fit(self, X: Any, y: Any) -> None:
        """Fit this estimator in place."""

    def _check_params(self) -> None:
        check_choice("cell", self.cell, CELLS)
        for name in ("hidden_size", "max_epochs", "batch_size", "patience"):
            check_count(name, getattr(self, name))
        check_device(self.device)
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
        """Train a new network, without changing torch's global random state."""
        from .callbacks import train  # noqa: PLC0415  skorch is loaded only for training

        seed = int(check_random_state(self._drawn).randint(2**31 - 1))
        with same_random_numbers():
            torch.manual_seed(seed)
            sequences = sequences.in_memory()
            n_features = sequences.n_features if sequences.has_features else 1
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
        """Return the outputs of the network, shape (n_sequences, n_outputs)."""
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
    """Return sequences padded with zeros to one length, and their lengths."""
    lengths = sequences.lengths
    width = 1 if sequences.arrays[0].ndim == 1 else sequences.arrays[0].shape[1]
    x = np.zeros((len(sequences), lengths.max(), width), dtype=np.float32)
    for row, sequence in zip(x, sequences.arrays, strict=True):
        row[: len(sequence)] = sequence.reshape(-1, width)
    return {"x": x, "lengths": lengths}


def given(estimator: BaseEstimator, y: Any) -> Any:
    """Return the target; raise if it is None."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None"
            "; give y, or wrap a trained estimator in FrozenEstimator, which keeps its training."
        )
    return y
