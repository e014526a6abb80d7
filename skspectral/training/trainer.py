"""Training of a pruned network with skorch."""

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

from ..rnn.layers.weights import n_parameters
from ..utils.interrupts import interruptible
from ..utils.threads import enough_threads
from .callbacks import EpochBar, silent


class Settings(Protocol):
    """Settings of a training."""

    max_epochs: int
    lr: float
    patience: int


class Objective(Protocol):
    """Loss to train for."""

    def loss(self, module: nn.Module, numbers: Tensor) -> Tensor:
        """Return the loss of a module on the examples with the given numbers."""


class IndexBatches(Dataset[tuple[Tensor, Tensor]]):
    """Dataset of training steps, each the numbers of its examples.

    Parameters
    ----------
    groups : sequence of ndarray of int
        Groups of the numbers of examples that may share a step.
    size : int
        Maximum number of examples in a step.
    n_least : int
        Minimum number of steps; if there are fewer, all examples are repeated.
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
        """Shuffle the examples within the groups, and split them into steps again."""
        for group in self._groups:
            rng.shuffle(group)
        self._cut()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        # skorch takes the batch size from the target, so the numbers serve as target too.
        return self._steps[i], self._steps[i]


class Shuffle(Callback):
    """Callback that shuffles the training steps in every epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        """Seed the random numbers."""
        self.rng_ = np.random.RandomState(self.seed)

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **_: Any) -> None:
        """Shuffle the training steps."""
        dataset_train.shuffle(self.rng_)


class ObjectiveNet(NeuralNet):
    """skorch net whose inputs are the numbers of examples, and whose loss is an objective's."""

    def __init__(self, *args: Any, objective: Objective, frozen: bool, **options: Any) -> None:
        self.objective = objective
        self.frozen = frozen
        super().__init__(*args, **options)

    def infer(self, x: Tensor, **_: Any) -> Tensor:
        """Return the loss of a step in place of outputs."""
        return self.objective.loss(self.module_, x)

    def get_loss(self, y_pred: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return the loss that ``infer`` computed."""
        return y_pred

    def _set_training(self, training: bool = True) -> None:
        """Set the mode; if ``frozen``, only recurrent layers train, as cuDNN requires for backward.

        Dropout and batch norm then remain in evaluation mode.
        """
        for part in self.module_.modules():
            part.train(training and (not self.frozen or isinstance(part, nn.RNNBase)))


class RestoreBest(Callback):
    """Callback that restores the weights of least held-out loss, including the initial ones.

    After an epoch that ends with more than twice the initial loss (or above zero, if the initial
    loss was negative), training resumes from the best weights at a tenth of the learning rates. A
    rate that suits most networks can be far too high for one that runs over hundreds of steps.

    Parameters
    ----------
    careful : bool
        Whether the rates are halved after any other epoch that raises the loss.
    """

    scale_ = 1.0

    def __init__(self, careful: bool = False) -> None:
        self.careful = careful

    def on_train_begin(self, net: ObjectiveNet, X: Any = None, y: Any = None, **_: Any) -> None:
        """Store the initial weights and their held-out loss."""
        held_out = net.get_split_datasets(X, y)[1]
        sizes = [len(numbers) for numbers, _ in held_out]
        losses = [float(net.validation_step(batch)["loss"]) for batch in held_out]
        total = sum(size * loss for size, loss in zip(sizes, losses, strict=True))
        self.best_ = self.start_ = self.last_ = total / sum(sizes)
        self.weights_ = copy.deepcopy(net.module_.state_dict())

    def on_epoch_end(self, net: ObjectiveNet, **_: Any) -> None:
        """Store weights that are better; restore the best ones if the loss is far too high."""
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
        """Lower the learning rates, including that of the next step, which is already set."""
        self.scale_ /= factor
        for group in net.optimizer_.param_groups:
            group["lr"] /= factor

    def on_train_end(self, net: ObjectiveNet, **_: Any) -> None:
        """Restore the best weights."""
        net.module_.load_state_dict(self.weights_)


@contextmanager
def only_these_train(module: nn.Module, parts: list[nn.Module]) -> Iterator[None]:
    """Enable gradients only in some parts.

    Parameters in these parts that are frozen remain so; if all are frozen, all are trained.
    """
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
    """Train some parts of a module in place; return its losses before and after every epoch.

    ``steps`` are the training steps and the held-out steps. ``rates`` are optimizer options of
    parameters, by patterns of their names. ``careful`` is that of ``RestoreBest``.
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
    threads = enough_threads(n_parameters(module))
    with only_these_train(module, parts), interruptible(net), threads:
        net.fit(train, None)
    module.eval()
    return {
        "train": [float("nan"), *map(float, net.history[:, "train_loss"])],
        "held_out": [best.start_, *map(float, net.history[:, "valid_loss"])],
    }
