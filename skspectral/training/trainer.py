"""Training of a pruned network, done by skorch."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..utils.interrupts import interruptible
from .callbacks import EpochBar, silent


class Settings(Protocol):
    """How to train."""

    max_epochs: int
    lr: float
    patience: int


class Objective(Protocol):
    """What to train for."""

    def loss(self, module: nn.Module, numbers: Tensor) -> Tensor:
        """Loss of a module on the examples of some numbers."""


class IndexBatches(Dataset[tuple[Tensor, Tensor]]):
    """The numbers of examples, in training steps.

    Parameters
    ----------
    groups : sequence of ndarray of int
        Numbers that may share a step.
    size : int
        The most in a step.
    n_least : int
        The fewest steps; where examples make fewer, all are taken several times.
    """

    def __init__(self, groups: Sequence[NDArray[np.intp]], size: int, n_least: int = 1) -> None:
        self._groups = [np.array(group) for group in groups]
        self._size, self._n_least = size, n_least
        self._cut()

    def _cut(self) -> None:
        size = self._size
        once = [
            torch.from_numpy(group[start : start + size])
            for group in self._groups
            for start in range(0, len(group), size)
        ]
        self._steps = once * math.ceil(self._n_least / len(once))

    def shuffle(self, rng: np.random.RandomState) -> None:
        """Other steps of the same groups."""
        for group in self._groups:
            rng.shuffle(group)
        self._cut()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        # As target once more, by which skorch knows how many they are.
        return self._steps[i], self._steps[i]


class Shuffle(Callback):
    """Cuts other steps in every epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        """Start from the seed."""
        self.rng_ = np.random.RandomState(self.seed)

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **_: Any) -> None:
        """Cut."""
        dataset_train.shuffle(self.rng_)


class ObjectiveNet(NeuralNet):
    """A net whose examples are numbers, and whose loss is that of an objective."""

    def __init__(self, *args: Any, objective: Objective, frozen: bool, **options: Any) -> None:
        self.objective = objective
        self.frozen = frozen
        super().__init__(*args, **options)

    def infer(self, x: Tensor, **_: Any) -> Tensor:
        """The loss of a step."""
        return self.objective.loss(self.module_, x)

    def get_loss(self, y_pred: Tensor, *_: Any, **__: Any) -> Tensor:
        """The same."""
        return y_pred

    def _set_training(self, training: bool = True) -> None:
        """If frozen, leave dropout and batch norm as in use; cuDNN wants to know of its layers."""
        for part in self.module_.modules():
            part.train(training and (not self.frozen or isinstance(part, nn.RNNBase)))


class RestoreBest(Callback):
    """Keeps the weights of least held-out loss, those at the start among them.

    After an epoch that ends with more than twice the loss that training began with (or above zero,
    if that was below), it goes on from the best weights, at a tenth of the learning rates: a rate
    that suits most networks can be far too high for one that runs over hundreds of steps.

    Parameters
    ----------
    careful : bool
        Whether the rates are halved after any other epoch that raises the loss.
    """

    scale_ = 1.0

    def __init__(self, careful: bool = False) -> None:
        self.careful = careful

    def on_train_begin(self, net: ObjectiveNet, X: Any = None, y: Any = None, **_: Any) -> None:
        """Look at what training starts from."""
        held_out = net.get_split_datasets(X, y)[1]
        sizes = [len(numbers) for numbers, _ in held_out]
        losses = [float(net.validation_step(batch)["loss"]) for batch in held_out]
        total = sum(size * loss for size, loss in zip(sizes, losses, strict=True))
        self.best_ = self.start_ = self.last_ = total / sum(sizes)
        self.weights_ = copy.deepcopy(net.module_.state_dict())

    def on_epoch_end(self, net: ObjectiveNet, **_: Any) -> None:
        """Keep what is better, go back from what does harm."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_:
            self.best_ = loss
            self.weights_ = copy.deepcopy(net.module_.state_dict())
        elif not loss - self.start_ <= abs(self.start_):
            net.module_.load_state_dict(self.weights_)
            net.optimizer_.state.clear()
            self._slow_down(net, 10.0)
        elif self.careful and loss > self.last_:
            self._slow_down(net, 2.0)
        self.last_ = loss

    def _slow_down(self, net: ObjectiveNet, factor: float) -> None:
        """Lower the learning rates, also of the next step, which the schedule has set already."""
        self.scale_ /= factor
        for group in net.optimizer_.param_groups:
            group["lr"] /= factor

    def on_train_end(self, net: ObjectiveNet, **_: Any) -> None:
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


def train_in_place(
    module: nn.Module,
    parts: list[nn.Module],
    objective: Objective,
    steps: tuple[IndexBatches, IndexBatches],
    settings: Settings,
    *,
    what: str,
    frozen: bool,
    seed: int,
    verbose: int,
    rates: Sequence[tuple[str, dict[str, float]]] = (),
    careful: bool = False,
) -> dict[str, list[float]]:
    """Train some parts of a module in place; returns its loss before and after every epoch.

    The steps are those to train on and those held out; parameters may have rates of their own, by
    patterns of their names. ``careful`` is that of ``RestoreBest``.
    """
    torch.manual_seed(seed)
    train, held_out = steps
    n_steps = settings.max_epochs * len(train)
    best = RestoreBest(careful)

    def rate(step: int) -> float:
        return best.scale_ * (1.0 - step / n_steps)

    decay = LRScheduler("LambdaLR", lr_lambda=rate, step_every="batch")
    callbacks: list[tuple[str, Callback]] = [
        ("best", best),
        ("shuffle", Shuffle(seed)),
        ("clip", GradientNormClipping(1.0)),
        ("decay", decay),
        ("stop", EarlyStopping(patience=settings.patience, threshold=0.0, sink=silent)),
    ]
    if verbose:
        callbacks.append(("bar", EpochBar(what, "valid_loss")))
    net = ObjectiveNet(
        module,
        nn.Identity,
        objective=objective,
        frozen=frozen,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=list(rates),
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        iterator_train__batch_size=None,
        iterator_train__shuffle=True,
        iterator_train__generator=torch.Generator().manual_seed(seed),
        iterator_valid__batch_size=None,
        train_split=predefined_split(held_out),
        callbacks=callbacks,
        device=None,
        verbose=0,
    )
    with only_these_train(module, parts), interruptible(net):
        net.fit(train, None)
    module.eval()
    return {
        "train": [float("nan"), *map(float, net.history[:, "train_loss"])],
        "held_out": [best.start_, *map(float, net.history[:, "valid_loss"])],
    }
