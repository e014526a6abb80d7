"""Fine-tuning of a pruned network on labeled sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from torch import nn

from ..data.labeled import LabeledSequences, Loss, SupervisedLoss
from ..rnn.states.collector import StateCollector
from ..utils.doc_hints import refer_to_docs
from ..utils.validation import is_number
from .settings import TrainingSettings


class FineTune(TrainingSettings):
    """Settings for training a pruned network on targets.

    Training starts from the pruned weights, or from the distilled ones if there is distillation
    too, and all of the network is trained. The loss is that of the wrapped skorch net, or else the
    negative log-likelihood of the targets: cross entropy for classes, squared error for numbers.
    Steps whose class label is -100, the ``ignore_index`` of torch, are left out of the latter.
    Training is done by skorch, with Adam, a learning rate that decays to zero and clipped
    gradients. The weights with the least loss on held-out sequences are kept; the initial weights
    are among the candidates.

    Parameters
    ----------
    max_epochs : int, default=10
        Number of passes over the sequences.
    lr : float, default=2e-3
        Initial learning rate of Adam. After an epoch that ends with more than twice the initial
        held-out loss, the best weights are restored and the rate is divided by ten. Networks that
        run over hundreds of steps need the rate that they were trained with.
    batch_size : int, default=32
        Number of sequences in a training step. Batches that the user made are not changed.
    validation_fraction : float, default=0.1
        Fraction of the sequences that is held out.
    patience : int, default=5
        Number of epochs without improvement before training stops.
    n_rounds : int, default=1
        Number of rounds of pruning and training, each to the same fraction of the nodes. The
        pruner's attributes on the selection describe the dense network: the nodes left after the
        last round, and how well they rebuild its states. Histories are those of the last round.

    Examples
    --------
    >>> import torch
    >>> from skspectral import FineTune, RNNClassifier, SpectralRNNPruner
    >>> X = torch.randn(200, 8, 1, generator=torch.manual_seed(0))
    >>> y = X.sum(dim=(1, 2)).gt(0).long().numpy()
    >>> dense = RNNClassifier(32, max_epochs=10, random_state=0).fit(X, y)
    >>> pruner = SpectralRNNPruner(dense, m=2, finetune=FineTune(max_epochs=5))
    >>> history = pruner.fit(X, y).fine_tuning_history_
    >>> min(history["held_out"]) < history["held_out"][0]
    True
    """

    counts = (*TrainingSettings.counts, "n_rounds")

    def __init__(
        self,
        max_epochs: int = 10,
        *,
        lr: float = 2e-3,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
        patience: int = 5,
        n_rounds: int = 1,
    ) -> None:
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_rounds = n_rounds


@refer_to_docs("Repair and fine-tuning")
def as_finetune(finetune: Any, name: str = "finetune") -> FineTune | None:
    """Return a FineTune, made from a number of epochs if needed; None for None or zero epochs."""
    if isinstance(finetune, FineTune):
        finetune.check_params()
        return finetune
    if finetune is None:
        return None
    if not is_number(finetune, int) or finetune < 0:
        raise ValueError(
            f"{name} must be None, a number of epochs of at least 0, or a FineTune; got "
            f"{finetune!r}."
        )
    return FineTune(int(finetune)) if finetune else None


def training_steps(labeled: LabeledSequences, settings: FineTune, seed: int) -> tuple[Any, Any]:
    """Return the training steps and the held-out steps; a single example is used for both."""
    from .trainer import IndexBatches  # noqa: PLC0415  skorch is loaded when it trains

    groups = labeled.groups
    parts = [np.concatenate(groups)] * 2
    if len(parts[0]) > 1:
        fraction = settings.validation_fraction
        parts = train_test_split(parts[0], test_size=fraction, random_state=seed)
    train, held_out = (
        IndexBatches([group[np.isin(group, part)] for group in groups], settings.batch_size)
        for part in parts
    )
    return train, held_out


def fine_tuned(
    module: nn.Module,
    collector: StateCollector,
    labeled: LabeledSequences | None,
    loss: Loss,
    finetune: Any,
    seed: int,
    verbose: int,
) -> dict[str, list[float]]:
    """Train a pruned module in place if ``finetune`` asks for it; return its loss per epoch."""
    settings = as_finetune(finetune)
    if settings is None or labeled is None:
        return {"train": [], "held_out": []}
    from .trainer import train_in_place  # noqa: PLC0415  skorch is loaded when it trains

    return train_in_place(
        module,
        [module],
        SupervisedLoss(labeled, collector, loss),
        training_steps(labeled, settings, seed),
        settings,
        what="fine-tuning",
        frozen=False,
        seed=seed,
        verbose=verbose,
    )
