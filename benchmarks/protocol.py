"""What every method of a protocol is given, and what is measured of the network it makes."""

import copy
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jobs import Job
from torch import nn
from torch.nn.utils import prune as torch_prune

from skspectral import Distillation, FineTune, SpectralRNNPruner
from skspectral.training.trainer import IndexBatches, train_in_place


@dataclass(frozen=True)
class Task:
    """A trained network, and what it was trained for.

    Parameters
    ----------
    dense : nn.Module
        The network, whose layer is called ``rnn`` and whose readers are ``head``.
    m : int
        Nodes to keep of each level.
    fresh : callable
        Makes an untrained network of so many nodes.
    X, y : Tensor
        Sequences, and their targets.
    held_out : Tensor of int
        Numbers of those that the best epoch is chosen by; the others are trained on.
    n_calibration : int
        How many of the first to prune by.
    distill : Distillation
        How one is trained without labels.
    finetune : FineTune
        How a smaller network is trained on; the same for every method.
    quality : str
        Name of what counts.
    measure : callable
        It, of a module.
    device : str
        Where networks are made smaller and trained on.
    """

    dense: nn.Module
    m: int
    fresh: Callable[[int], nn.Module]
    X: torch.Tensor
    y: torch.Tensor
    held_out: torch.Tensor
    n_calibration: int
    distill: Distillation
    finetune: FineTune
    quality: str
    measure: Callable[[nn.Module], float]
    device: str = "cpu"

    @property
    def calibration(self) -> Any:
        """Sequences to prune by."""
        return self.X[: self.n_calibration]

    @property
    def others(self) -> Any:
        """Numbers of the sequences to train on."""
        return np.setdiff1d(np.arange(len(self.X)), self.held_out)


@dataclass
class Labels:
    """The loss on the targets."""

    task: Task

    def loss(self, module, numbers):
        """Loss of a module on the examples of some numbers."""
        cut_again(module)
        inputs, targets = (
            each[numbers].to(self.task.device) for each in (self.task.X, self.task.y)
        )
        return module.loss(inputs, targets)


@torch.no_grad()
def cut_again(module):
    """Set to zero the weights that were cut, if a module has some."""
    for name, mask in getattr(module, "masks", {}).items():
        parameter = module.get_parameter(name)
        parameter.mul_(mask.to(parameter.device))


def trained_on(objective, module, task, seed):
    """A copy of a module, trained as ``finetune=`` does it, whatever the module is made of."""
    module, settings = copy.deepcopy(module).to(task.device), task.finetune
    parts = task.others, task.held_out.numpy()
    steps = tuple(IndexBatches([part], settings.batch_size) for part in parts)
    named = {"what": "training", "frozen": False, "seed": seed, "verbose": 0}
    train_in_place(module, [module], objective, steps, settings, **named)
    cut_again(module)
    return module.cpu()


def spectral(**parameters):
    """A method: spectral pruning with these parameters."""

    def method(task, seed):
        pruner = pruner_of(task, seed).set_params(**parameters)
        return pruner.fit(task.calibration).pruned_module_.cpu()

    return method


def pruner_of(task, seed):
    """With the defaults."""
    options = {"likelihood": "categorical", "device": task.device, "random_state": seed}
    return SpectralRNNPruner(task.dense, task.m, **options)


def random_weights(task, seed):
    """The small network, untrained."""
    torch.manual_seed(seed)
    return task.fresh(task.m).eval()


def masked(task, _seed):
    """The dense network with as many weights as the small one has, those of least magnitude cut."""
    module = copy.deepcopy(task.dense)
    dense, small = map(n_parameters, (module, task.fresh(task.m)))
    parts = [(module.rnn, name) for name, _ in module.rnn.named_parameters() if "weight" in name]
    parts.append((module.head, "weight"))
    n_cut = max(0, dense - small)  # a tied network can be smaller than the small one, untied
    torch_prune.global_unstructured(parts, torch_prune.L1Unstructured, amount=n_cut)
    return settled(module, parts)


def settled(module, parts):
    """A module whose masked weights are zero, with the masks beside."""
    names = {part: name for name, part in module.named_modules()}
    module.masks = {f"{names[part]}.{name}": getattr(part, f"{name}_mask") for part, name in parts}
    for part, name in parts:
        torch_prune.remove(part, name)
    return module


# The method as published.
PLAIN = {"objective": "one-step", "solver": "greedy", "n_refit": 0, "trajectory_fit": 0}
BARE = PLAIN | {"reconstruction": "none"}
METHODS = {
    "spectral": spectral(**PLAIN),
    "spectral, no reconstruction": spectral(**BARE),
    "random nodes": spectral(**PLAIN | {"solver": "random"}),
    "random nodes, no reconstruction": spectral(**BARE | {"solver": "random"}),
    "column sampling": spectral(**PLAIN | {"solver": "column_norm"}),
    "column sampling, no reconstruction": spectral(**BARE | {"solver": "column_norm"}),
    "random weights": random_weights,
    "weights of least magnitude cut": masked,
    "skspectral, default": spectral(),
    "skspectral, 1000 steps": spectral(trajectory_fit=1000),
    "skspectral, distilled": lambda task, seed: spectral(distill=task.distill)(task, seed),
}


def before_and_after(module, task, seed):
    """Of the network that a method made, also after fine-tuning."""
    row = measures(module, task)
    if not isinstance(module.head.weight, nn.Parameter):  # int8: no parameters, and not trained
        return row | {"parameters": n_parameters(task.dense)}
    start = time.perf_counter()
    after = task.measure(trained_on(Labels(task), module, task, seed))
    return row | {f"{task.quality}, fine-tuned": after, "tuned in (s)": time.perf_counter() - start}


def measures(module, task):
    """What is measured of any network."""
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    inside = [name for name in sizes if name.startswith("rnn")]
    own = sum(sizes[name] for name in inside if "weight_hh" in name)
    return {
        task.quality: task.measure(module),
        "of states": own,
        "of inputs": sum(sizes[name] for name in inside) - own,
        "parameters": n_parameters(module),
        "kB": n_kilobytes(module),
    }


def hidden_sizes(module):
    """Return the nodes of each layer and direction."""
    named = module.named_parameters()
    return [weight.shape[1] for name, weight in named if "weight_hh" in name]


def n_parameters(module):
    """Their number."""
    return sum(parameter.numel() for parameter in module.parameters())


def n_kilobytes(module):
    """Size of what is saved."""
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.tell() / 1e3


def jobs_of(network, seed, task, loaded, methods):
    """Rows of the dense network, also after fine-tuning, of trained networks, and of the methods.

    Task and trained networks, a dict by their names, are given as functions, for other processes
    to call.
    """

    def job(name, make, measure):
        return Job({"network": network, "method": name, "seed": seed}, make, measure)

    yield job("dense", lambda: task().dense, lambda module: before_and_after(module, task(), seed))
    for name, small in loaded.items():
        yield job(name, small, lambda module: measures(module, task()))
    for name, method in methods.items():
        yield job(
            name,
            partial(lambda method: method(task(), seed), method),
            lambda module: before_and_after(module, task(), seed),
        )
