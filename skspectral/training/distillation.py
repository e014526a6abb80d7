"""Label-free training of a pruned network on the outputs of the dense one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..calibration.calibrator import Calibration
from ..data.sampling import HANDFUL, count_sequences, hold_out_fraction, take_sequences
from ..rnn.layers.find import FORWARD_ERRORS
from ..rnn.losses.distillation_loss import DistillationLoss
from ..rnn.states.collector import StateCollector
from ..utils.doc_hints import refer_to_docs
from ..utils.validation import is_number
from .settings import TrainingSettings

N_STEPS = 40  # minimum number of training steps in an epoch
WINDOW = 1000  # maximum number of steps of a sequence in training


class Distillation(TrainingSettings):
    """Settings for training a pruned network to match the outputs of the dense one.

    Training starts from the fitted weights and uses only calibration sequences, without labels. The
    loss is the divergence of the outputs from those of the dense network, plus a weighted error of
    the states. Only the parts that pruning changed, the layers and their readers, are trained.
    Training is done by skorch, with Adam, a learning rate that decays to zero and clipped
    gradients. The weights with the least loss on held-out sequences are kept. The initial weights
    are among the candidates, so this loss never increases. Sequences of more than 1000 steps are
    split into windows of at most 1000 steps if the module accepts them; each window is a separate
    sequence for both networks. Held-out sequences are not split.

    Parameters
    ----------
    max_epochs : int, default=10
        Number of passes over the calibration sequences. If they make fewer than 40 training steps,
        each pass repeats them.
    lr : float, default=1e-3
        Initial learning rate of Adam. After an epoch that raises the held-out loss, the rate is
        halved. After an epoch that ends with more than twice the initial held-out loss, the best
        weights are restored and the rate is divided by ten.
    batch_size : int, default=32
        Number of sequences in a training step. Batches that the user made are not changed.
    states : float, default=0.3
        Weight of the relative squared error of the kept nodes' states, added to the divergence. The
        divergence is relative to the variance of the outputs if they are numbers.
    n_sequences : int, default=4096
        Maximum number of calibration sequences to train on, including held-out ones.
    validation_fraction : float, default=0.1
        Fraction of the sequences that is held out. If there are no more than three batches, all are
        used both for training and as held-out sequences.
    patience : int, default=5
        Number of epochs without improvement before training stops.

    References
    ----------
    .. [1] G. Hinton, O. Vinyals and J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
       arXiv:1503.02531.

    Examples
    --------
    >>> import torch
    >>> from skspectral import Distillation, SpectralRNNPruner
    >>> _ = torch.manual_seed(0)
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8, distill=Distillation(max_epochs=3, lr=1e-3))
    >>> history = pruner.fit(torch.randn(200, 20, 3)).distillation_history_
    >>> min(history["held_out"]) < history["held_out"][0]
    True
    """

    counts = (*TrainingSettings.counts, "n_sequences")

    def __init__(
        self,
        max_epochs: int = 10,
        *,
        lr: float = 1e-3,
        batch_size: int = 32,
        states: float = 0.3,
        n_sequences: int = 4096,
        validation_fraction: float = 0.1,
        patience: int = 5,
    ) -> None:
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.states = states
        self.n_sequences = n_sequences
        self.validation_fraction = validation_fraction
        self.patience = patience

    def check_params(self) -> None:
        """Raise if a parameter is not valid.

        Raises
        ------
        ValueError
            If a value is out of range.
        TypeError
            If a count is not an int.
        """
        super().check_params()
        if not (is_number(self.states) and 0.0 <= self.states < np.inf):
            raise ValueError(
                f"states of Distillation must be a number of at least 0; got {self.states!r}."
            )

    def cut(self, batches: list[Any]) -> list[Any]:
        """Split arrays into training steps.

        Parameters
        ----------
        batches : list
            Arrays of sequences, or batches for ``forward``, which are not changed.

        Returns
        -------
        list
            Batches; those from arrays have at most ``batch_size`` sequences.
        """
        size = self.batch_size
        return [
            part
            for batch in batches
            for part in (
                [batch[i : i + size] for i in range(0, len(batch), size)]
                if isinstance(batch, np.ndarray)
                else [batch]
            )
        ]


def windows_of(batch: Any, collector: StateCollector) -> list[Any]:
    """Return windows of a batch of long sequences, or the batch if the module rejects windows."""
    n_windows = math.ceil(batch.shape[1] / WINDOW) if isinstance(batch, np.ndarray) else 1
    if n_windows == 1:
        return [batch]
    windows = np.array_split(batch, n_windows, axis=1)
    with suppress(*FORWARD_ERRORS):
        for window in (windows[0], windows[-1]):  # the last may be one step shorter
            collector.copy().run(window)
        return windows
    return [batch]


@refer_to_docs("Repair and fine-tuning")
def as_distillation(distill: Any) -> Distillation | None:
    """Return a Distillation, made from a number of epochs if needed; None for zero epochs."""
    if isinstance(distill, Distillation):
        distill.check_params()
        return distill
    if not is_number(distill, int) or distill < 0:
        raise ValueError(
            f"distill must be a number of epochs of at least 0, or a Distillation; got {distill!r}."
        )
    return Distillation(int(distill)) if distill else None


def distilled(
    module: nn.Module,
    supports: Mapping[str, Tensor],
    calibration: Calibration,
    distill: Any,
    seed: int,
    verbose: int,
) -> dict[str, list[float]]:
    """Train a pruned module in place if ``distill`` asks for it; return its loss per epoch."""
    settings = as_distillation(distill)
    if settings is None:
        return {"train": [], "held_out": []}
    from .trainer import IndexBatches, train_in_place  # noqa: PLC0415  skorch is loaded when it trains

    collector = calibration.collector
    whole = settings.cut(take_sequences(calibration.sample, settings.n_sequences))
    few = len(whole) <= HANDFUL
    seen, held_out = (
        (whole, whole) if few else hold_out_fraction(whole, settings.validation_fraction)
    )
    windows = [window for batch in seen for window in windows_of(batch, collector)]
    batches = [*windows, *held_out]
    imitation = DistillationLoss(
        collector, supports, calibration.likelihood, batches, settings.states
    )
    # Each number is repeated for every sequence of its batch, since skorch weighs by length.
    numbers = [np.full(count_sequences(batch), number) for number, batch in enumerate(batches)]
    steps = (
        IndexBatches(numbers[: len(windows)], settings.n_sequences, N_STEPS),
        IndexBatches(numbers[len(windows) :], settings.n_sequences),
    )
    surgery = calibration.surgery
    inside = {layer.path for layer in surgery.layers}
    hosts = dict.fromkeys(layer.host for layer in surgery.layers)
    readers = (each.path for each in surgery.readers.readers if each.path not in inside)
    changed = [module.get_submodule(path) for path in dict.fromkeys((*hosts, *readers))]
    return train_in_place(
        module,
        changed,
        imitation,
        steps,
        settings,
        what="distillation",
        careful=True,
        frozen=True,
        seed=seed,
        verbose=verbose,
    )
