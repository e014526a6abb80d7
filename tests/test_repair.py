"""The training that all repairs share."""

import numpy as np
import torch
from torch import nn

from skspectral import FineTune
from skspectral.training.trainer import IndexBatches, train_in_place


class Square:
    """The square of a number less a constant; in training it writes the number down."""

    def __init__(self, less=0.0):
        self.seen, self.less = [], less

    def loss(self, module, numbers):
        if module.training:
            self.seen.append(float(module.weight.detach()))
        return module.weight.square().sum() - self.less


def trained(objective, lr):
    """The number, trained from 1 for three epochs, and the losses held out."""
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    steps = tuple(IndexBatches([np.arange(4)], 2) for _ in range(2))
    settings = FineTune(3, lr=lr, patience=3)
    options = {"frozen": False, "seed": 0, "verbose": 0}
    history = train_in_place(module, [module], objective, steps, settings, what="", **options)
    return module, history["held_out"]


def test_after_harm_it_goes_on_from_the_best_at_a_tenth_of_the_rate():
    objective, lr = Square(), 8.0
    module, losses = trained(objective, lr)
    assert losses[0] == 1.0
    assert losses[1] > 2.0
    before, after = objective.seen[2:4]  # the two steps of the second epoch
    assert before == 1.0
    assert 0.0 < abs(after - before) <= 0.1 * lr
    assert float(module.weight.detach().square()) == min(losses)


def test_of_a_loss_below_zero_a_little_worse_is_no_harm():
    objective = Square(less=100.0)
    _, losses = trained(objective, 8.0)
    assert losses[0] == -99.0
    assert -99.0 < losses[1] < 0.0
    assert objective.seen[2] != 1.0  # the second epoch goes on from the first
