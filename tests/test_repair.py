"""The training that all repairs share."""

import numpy as np
import torch
from torch import nn

from skspectral import FineTune
from skspectral.repair import Numbers, repair


class Square:
    """The square of a number, which is written down whenever it is asked for in training."""

    def __init__(self):
        self.seen = []

    def loss(self, module, numbers):
        if module.training:
            self.seen.append(float(module.weight.detach()))
        return module.weight.square().sum()


def test_after_harm_it_goes_on_from_the_best_at_a_tenth_of_the_rate():
    module, objective, lr = nn.Linear(1, 1, bias=False), Square(), 8.0
    with torch.no_grad():
        module.weight.fill_(1.0)
    steps = tuple(Numbers([np.arange(4)], 2) for _ in range(2))
    settings = FineTune(3, lr=lr, patience=3)
    options = {"frozen": False, "seed": 0, "verbose": 0}
    history = repair(module, [module], objective, steps, settings, what="", **options)
    losses = history["held_out"]
    assert losses[0] == 1.0
    assert losses[1] > 2.0
    before, after = objective.seen[2:4]  # the two steps of the second epoch
    assert before == 1.0
    assert 0.0 < abs(after - before) <= 0.1 * lr
    assert float(module.weight.detach().square()) == min(losses)
