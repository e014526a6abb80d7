"""Training of dense networks with skorch."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from tqdm.auto import tqdm

from ..rnn.layers.weights import n_parameters
from ..utils.interrupts import interruptible
from ..utils.threads import enough_threads


class EpochBar(Callback):
    """Callback that shows one progress bar for the whole training."""

    def __init__(self, what: str, monitor: str = "train_loss") -> None:
        self.what = what
        self.monitor = monitor

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        """Open the progress bar."""
        self.bar_ = tqdm(total=net.max_epochs, desc=self.what, unit=" epochs")

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        """Advance the progress bar."""
        self.bar_.set_postfix(loss=f"{net.history[-1, self.monitor]:.3g}")
        self.bar_.update()

    def on_train_end(self, net: NeuralNet, **_: Any) -> None:
        """Close the progress bar."""
        self.bar_.close()


def train(
    module: nn.Module,
    inputs: dict[str, Any],
    target: Any,
    criterion: type[nn.Module],
    *,
    max_epochs: int,
    lr: float,
    batch_size: int,
    device: str,
    seed: int,
    validation_fraction: float | None = None,
    patience: int = 10,
    verbose: int = 0,
) -> NeuralNet:
    """Train a module with Adam, cosine decay and clipped gradients.

    The fitted net is returned. With a ``validation_fraction``, training stops if the loss on that
    part has not improved for ``patience`` epochs, and the best weights are restored.
    """
    callbacks: list[tuple[str, Callback]] = [
        ("clip", GradientNormClipping(1.0)),
        ("decay", LRScheduler("CosineAnnealingLR", T_max=max_epochs)),
    ]
    split = None
    if validation_fraction is not None:
        split = ValidSplit(validation_fraction, random_state=seed)
        callbacks.append(("stop", EarlyStopping(patience=patience, load_best=True, sink=silent)))
    if verbose:
        callbacks.append(("bar", EpochBar(f"training {type(module.rnn).__name__}")))
    net = NeuralNet(
        module,
        criterion,
        optimizer=torch.optim.Adam,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=split,
        callbacks=callbacks,
        device=device,
        verbose=0,
    )
    with interruptible(net), enough_threads(n_parameters(module)):
        return net.fit(inputs, target)


def silent(_text: str) -> None:
    """Print nothing; replaces ``print`` in skorch callbacks."""
