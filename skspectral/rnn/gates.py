"""Gates that open and close nodes and inputs of recurrent layers while their network trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .layers.find import RecurrentLayer, joined
from .layers.weights import GATES, copy_of, mode_of
from .surgery.reduction import LayerReduction
from .tracing.readers import Readers

GAMMA, ZETA, BETA = -0.1, 1.1, 2.0 / 3.0


class HardConcrete(nn.Module):
    """Gates between zero and one that are exactly zero with a probability that can be trained.

    Parameters
    ----------
    log_alpha : Tensor of shape (n,)
        Where their location starts.

    References
    ----------
    .. [1] C. Louizos, M. Welling and D. P. Kingma, *Learning Sparse Neural Networks through L0
       Regularization*, ICLR 2018, arXiv:1712.01312.
    """

    def __init__(self, log_alpha: Tensor) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(log_alpha)

    def forward(self) -> Tensor:
        """Values of the gates: drawn in training, else fixed."""
        if not self.training:
            return self.fixed
        noise = torch.rand_like(self.log_alpha).clamp_(1e-6, 1.0 - 1e-6).logit()
        return stretched(((noise + self.log_alpha) / BETA).sigmoid())

    @property
    def fixed(self) -> Tensor:
        """Values without noise."""
        return stretched(self.log_alpha.sigmoid())

    def open(self) -> Tensor:
        """Which are open once they are fixed, one at least; on the CPU."""
        value = self.fixed
        return (value.nonzero()[:, 0] if value.any() else self.log_alpha.argmax()[None]).cpu()

    def cut(self) -> LayerReduction:
        """The nodes that are open."""
        eye, support = torch.eye(len(self.log_alpha), dtype=torch.float64), self.open()
        return LayerReduction(support, eye[:, support], torch.zeros_like(eye[0]))

    @property
    def probability(self) -> Tensor:
        """Probability that a gate is not zero."""
        return (self.log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()


def stretched(value: Tensor) -> Tensor:
    """From (0, 1) to somewhat more, and cut off there."""
    return (value * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


class Gated(nn.Module):
    """A network with a gate for every node of its layers and for every input of the first of them.

    The gate s of a node scales what comes into it, in all gate blocks, and what the layer itself
    and others read of it; the gate z of an input scales what a layer reads of it. So in place of W
    and U stand W ∘ (s zᵀ) and U ∘ (s sᵀ).

    Parameters
    ----------
    module : nn.Module
        The network, laid out.
    layers : sequence of RecurrentLayer
        Its layers.
    readers : Readers
        Who reads them.
    start : callable
        Gives the ``log_alpha`` to start from, by the name of a layer, or None for inputs, and the
        number of gates.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[RecurrentLayer],
        readers: Readers,
        start: Callable[[str | None, int], Tensor],
    ) -> None:
        super().__init__()
        self.module, self.layers, self.readers = module, tuple(layers), readers
        reading = {reader.path for reader in readers.readers}
        # Of one host these are the directions of its first level, which share their inputs.
        self.first = tuple(layer for layer in layers if layer.path not in reading)
        widths = {layer.host: layer.of(module).input_size for layer in self.first}
        self.hosts = tuple(widths)
        self.nodes = nn.ModuleList(
            HardConcrete(start(layer.name, layer.of(module).hidden_size)) for layer in layers
        )
        self.inputs = nn.ModuleList(HardConcrete(start(None, width)) for width in widths.values())
        self.to(next(module.parameters()).device)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network answers behind its gates."""
        with warnings.catch_warnings():  # weights that were just worked out lie apart
            warnings.filterwarnings("ignore", "RNN module weights are not part of single")
            return functional_call(self.module, self.weights(), args, kwargs)

    def weights(self) -> dict[str, Tensor]:
        """The weights that the gates change, as they are behind them."""
        nodes, inputs = ({name: gate() for name, gate in each.items()} for each in self.gates)
        found = {}
        for reader in self.readers.readers:
            path, weight = weight_of(self.module, reader.path)
            columns = [nodes[name] if name else weight.new_ones(n) for name, n in reader.runs]
            found[path] = weight * torch.cat(columns)
        for layer in self.layers:
            n_blocks = GATES[mode_of(layer.of(self.module))]
            rows = nodes[layer.name].repeat(n_blocks)[:, None]
            path, weight = weight_of(self.module, layer.path)
            is_first = layer in self.first
            found[path] = rows * (weight * inputs[layer.host] if is_first else found[path])
            path, weight = weight_of(self.module, layer.path, "hh")
            found[path] = rows * weight * nodes[layer.name]
        # Gates have a dtype of their own, in which small steps are not lost.
        return {path: weight.to(self.module.get_parameter(path)) for path, weight in found.items()}

    @property
    def gates(self) -> tuple[dict[str, HardConcrete], dict[str, HardConcrete]]:
        """Those of the nodes, by layer, and those of the inputs, by host."""
        nodes, inputs = cast(list[HardConcrete], self.nodes), cast(list[HardConcrete], self.inputs)
        names = [layer.name for layer in self.layers]
        return dict(zip(names, nodes, strict=True)), dict(zip(self.hosts, inputs, strict=True))

    def penalty(self, of_inputs: float, of_nodes: float) -> Tensor:
        """Expected number of weights, of what is read and of states."""
        nodes, inputs = (
            {name: gate.probability for name, gate in each.items()} for each in self.gates
        )
        read = {
            reader.path: sum(nodes[name].sum() for name, _ in reader.runs if name)
            for reader in self.readers.readers
        }
        total = torch.zeros(())
        for layer in self.layers:
            p = nodes[layer.name]
            before = inputs[layer.host].sum() if layer in self.first else read[layer.path]
            own = p.sum() + p.sum().square() - p.square().sum()
            total = total + of_inputs * before * p.sum() + of_nodes * own
        return total

    @torch.no_grad()
    def settled(self) -> tuple[nn.Module, dict[str, LayerReduction], dict[str, Tensor]]:
        """The gates as they are fixed.

        Returns
        -------
        module : nn.Module
            The network, with the gates in its weights.
        cuts : dict of LayerReduction
            By layer, the nodes that are open.
        supports : dict of Tensor of int
            By host, the inputs that are open.
        """
        self.eval()
        module = copy_of(self.module)
        for name, weight in self.weights().items():
            module.get_parameter(name).copy_(weight)
        nodes, inputs = self.gates
        reductions = {name: gate.cut() for name, gate in nodes.items()}
        return module, reductions, {host: gate.open() for host, gate in inputs.items()}

    @torch.no_grad()
    def compensate(self) -> None:
        """Scale the weights so that the network answers as without gates while these are fixed."""
        self.eval()
        behind = self.weights()
        for name, parameter in self.module.named_parameters():
            if name in behind:
                parameter.mul_(torch.where(behind[name] == 0.0, 1.0, parameter / behind[name]))


def weight_of(module: nn.Module, path: str, kind: str = "ih") -> tuple[str, Tensor]:
    """Path and value of the weight by which a part reads its input, or of a layer its state."""
    part = module.get_submodule(path)
    if isinstance(part, nn.Linear):
        name = "weight"
    else:
        name = f"weight_{kind}" + ("" if isinstance(part, nn.RNNCellBase) else "_l0")
    return joined(path, name), part.get_parameter(name)
