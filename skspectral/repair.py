"""The distillation itself, done by skorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import Dataset

from .distillation import Distillation
from .rnn.imitation import Imitation
from .sampling import count
from .training import EpochBar


class Numbers(Dataset[tuple[Tensor, Tensor]]):
    """Batches by their numbers; each is repeated for every sequence, which skorch weighs by."""

    def __init__(self, batches: list[Any], first: int) -> None:
        self._numbers = [torch.full((count(b),), first + i) for i, b in enumerate(batches)]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self._numbers[i], self._numbers[i]


class Imitator(NeuralNet):
    """A net whose batches are numbers, and whose loss is that of an imitation."""

    def __init__(self, *args: Any, imitation: Imitation, **options: Any) -> None:
        self.imitation = imitation
        super().__init__(*args, **options)

    def infer(self, x: Tensor, **_: Any) -> Tensor:
        """The loss of a batch."""
        return self.imitation.loss(self.module_, int(x[0]))

    def get_loss(self, y_pred: Tensor, *_: Any, **__: Any) -> Tensor:
        """The same."""
        return y_pred

    def _set_training(self, training: bool = True) -> None:
        """Leave dropout and batch norm as they are in use; cuDNN wants to know of its layers."""
        for part in self.module_.modules():
            part.train(training and isinstance(part, nn.RNNBase))


class KeepBest(Callback):
    """Keeps the weights of least held-out loss, those at the start among them."""

    def on_train_begin(self, net: Imitator, X: Any = None, y: Any = None, **_: Any) -> None:
        """Look at what training starts from."""
        held_out = net.get_split_datasets(X, y)[1]
        sizes = [len(numbers) for numbers, _ in held_out]
        losses = [float(net.validation_step(batch)["loss"]) for batch in held_out]
        total = sum(size * loss for size, loss in zip(sizes, losses, strict=True))
        self.best_ = self.start_ = total / sum(sizes)
        self.weights_ = copy.deepcopy(net.module_.state_dict())

    def on_epoch_end(self, net: Imitator, **_: Any) -> None:
        """Keep what is better."""
        if net.history[-1, "valid_loss"] < self.best_:
            self.best_ = net.history[-1, "valid_loss"]
            self.weights_ = copy.deepcopy(net.module_.state_dict())

    def on_train_end(self, net: Imitator, **_: Any) -> None:
        """Go back to it."""
        net.module_.load_state_dict(self.weights_)


@contextmanager
def only_these_train(module: nn.Module, parts: list[nn.Module]) -> Iterator[None]:
    """Let gradients reach some parts alone; of what is frozen in them, nothing unless all is."""
    flags = {parameter: parameter.requires_grad for parameter in module.parameters()}
    chosen = [parameter for part in parts for parameter in part.parameters()]
    free = [parameter for parameter in chosen if flags[parameter]] or chosen
    module.requires_grad_(False)
    for parameter in free:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def distil(
    module: nn.Module,
    changed: list[nn.Module],
    imitation: Imitation,
    batches: list[Any],
    held_out: list[Any],
    settings: Distillation,
    seed: int,
    verbose: int,
) -> dict[str, list[float]]:
    """Train some parts of a module in place; returns its loss before and after every epoch.

    The imitation's batches are those to train on followed by those held out.
    """
    n_steps = settings.max_epochs * len(batches)
    decay = LRScheduler("LambdaLR", lr_lambda=lambda step: 1.0 - step / n_steps, step_every="batch")
    best = KeepBest()
    callbacks: list[tuple[str, Callback]] = [
        ("best", best),
        ("clip", GradientNormClipping(1.0)),
        ("decay", decay),
        ("stop", EarlyStopping(patience=settings.patience, threshold=0.0)),
    ]
    if verbose:
        callbacks.append(("bar", EpochBar("distillation", "valid_loss")))
    train = Numbers(batches, 0)
    test = Numbers(held_out, len(batches)) if held_out else train
    generator = torch.Generator().manual_seed(seed)
    net = Imitator(
        module,
        nn.Identity,
        imitation=imitation,
        optimizer=torch.optim.Adam,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        iterator_train__batch_size=None,
        iterator_train__shuffle=True,
        iterator_train__generator=generator,
        iterator_valid__batch_size=None,
        train_split=predefined_split(test),
        callbacks=callbacks,
        device=None,
        verbose=0,
    )
    with only_these_train(module, changed):
        net.fit(train, None)
    module.eval()
    return {
        "train": [float("nan"), *map(float, net.history[:, "train_loss"])],
        "held_out": [best.start_, *map(float, net.history[:, "valid_loss"])],
    }
