"""Ctrl-C while something trains."""

import os
import signal

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from skspectral import (
    Distillation,
    FineTune,
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
)
from skspectral.training.network import RecurrentNet

X = np.random.default_rng(0).normal(size=(96, 5, 2)).astype(np.float32)
Y = (X.sum(axis=(1, 2)) > 0.0).astype(np.int64)


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C in the training step of a number; None takes the finger away."""
    handles = []

    def arm(at):
        while handles:
            handles.pop().remove()
        steps = []

        def press(*_args):
            steps.append(None)
            if len(steps) == at:
                os.kill(os.getpid(), signal.SIGINT)

        handles.append(register_optimizer_step_pre_hook(press))

    yield arm
    while handles:
        handles.pop().remove()


def skorch_net(**options):
    options = {"max_epochs": 4, "verbose": 0, "train_split": None} | options
    net = RecurrentNet("gru", 2, 6, 2)
    return NeuralNetClassifier(net, criterion=nn.CrossEntropyLoss, batch_size=32, **options)


ESTIMATORS = {
    "ours": lambda: RNNClassifier(6, max_epochs=4, random_state=0),
    "ours, stopping early": lambda: RNNClassifier(
        6, max_epochs=4, random_state=0, early_stopping=True
    ),
    "skorch": skorch_net,
}


@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_an_interrupted_training_reaches_the_caller_and_keeps_nothing(kind, at, ctrl_c, tmp_path):
    pruner = SpectralRNNPruner(ESTIMATORS[kind](), m=3, memory=tmp_path, trajectory_fit=0)
    before = dict(vars(pruner))
    ctrl_c(at)
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(X, Y)
    assert vars(pruner) == before
    ctrl_c(None)
    trained = pruner.fit(X, Y).estimator_
    assert "fit_loop" not in vars(trained)
    assert (len(trained.history) if kind == "skorch" else trained.n_iter_) == 4


@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize("repair", [{"distill": Distillation(3)}, {"finetune": FineTune(3)}])
def test_an_interrupted_repair_leaves_the_pruner_as_it_was(repair, at, ctrl_c):
    dense = RNNClassifier(6, max_epochs=2, random_state=0).fit(X, Y)
    pruner = SpectralRNNPruner(dense, m=3, trajectory_fit=0).fit(X, Y).set_params(**repair)
    before, weights = dict(vars(pruner)), [p.clone() for p in pruner.pruned_module_.parameters()]
    ctrl_c(at)
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(X, Y)
    assert vars(pruner) == before
    assert all(map(torch.equal, pruner.pruned_module_.parameters(), weights))


def test_interrupted_gates_leave_the_pruner_unfitted(ctrl_c):
    dense = RNNClassifier(6, max_epochs=2, random_state=0).fit(X, Y)
    pruner = NeuronSelectionPruner(dense, training=3)
    before = dict(vars(pruner))
    ctrl_c(2)
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(X, Y)
    assert vars(pruner) == before


@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(kind, ctrl_c):
    model = kind(6, max_epochs=3, random_state=0).fit(X, Y)
    before, answers = dict(vars(model)), model.predict(X)
    ctrl_c(2)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[..., :1], Y)
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict(X), answers)


class StopAfter(Callback):
    """Ends a training as callbacks of skorch do, by way of a method of its own."""

    def on_epoch_end(self, net, **_):
        if len(net.history) == 2:
            self.stop()

    def stop(self):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("callback", "n_epochs"),
    [(StopAfter(), 2), (EarlyStopping("train_loss", patience=1, threshold=1e9), 2)],
)
def test_a_callback_may_end_a_training(callback, n_epochs):
    net = skorch_net(callbacks=[("stop", callback)])
    assert (
        len(SpectralRNNPruner(net, m=3, trajectory_fit=0).fit(X, Y).estimator_.history) == n_epochs
    )


def test_ctrl_c_in_a_callback_is_no_end_of_training():
    class Pressed(Callback):
        def on_epoch_end(self, net, **_):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        SpectralRNNPruner(
            skorch_net(callbacks=[("pressed", Pressed())]), m=3, trajectory_fit=0
        ).fit(X, Y)


def test_a_callback_that_fails_at_the_end_does_not_hide_ctrl_c(ctrl_c):
    class NeedsAnEpoch(Callback):
        def on_train_end(self, net, **_):
            net.history[-1, "no such loss"]

    net = skorch_net(callbacks=[("needs", NeedsAnEpoch())])
    ctrl_c(1)
    with pytest.raises(KeyboardInterrupt):
        SpectralRNNPruner(net, m=3, trajectory_fit=0).fit(X, Y)
