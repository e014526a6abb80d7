"""Trainable gates on the nodes and inputs of recurrent layers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .layers.find import RecurrentLayer, joined
from .layers.weights import GATES, copy_of
from .runtime.kinds import mode_of
from .surgery.reduction import LayerReduction
from .tracing.readers import Readers

GAMMA, ZETA, BETA = -0.1, 1.1, 2.0 / 3.0


class HardConcrete(nn.Module):
    """Gates in [0, 1] that are exactly zero with a trainable probability.

    Parameters
    ----------
    log_alpha : Tensor of shape (n,)
        Initial location parameters.

    References
    ----------
    .. [1] C. Louizos, M. Welling and D. P. Kingma, *Learning Sparse Neural Networks through L0
       Regularization*, ICLR 2018, arXiv:1712.01312.
    """

    def __init__(self, log_alpha: Tensor) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(log_alpha)

    def forward(self) -> Tensor:
        """Return the values of the gates: random in training mode, else without noise."""
        if not self.training:
            return self.fixed
        noise = torch.rand_like(self.log_alpha).clamp_(1e-6, 1.0 - 1e-6).logit()
        return stretched(((noise + self.log_alpha) / BETA).sigmoid())

    @property
    def fixed(self) -> Tensor:
        """Values of the gates without noise."""
        return stretched(self.log_alpha.sigmoid())

    def open(self) -> Tensor:
        """Return the indices of the gates that are open without noise, at least one, on the CPU."""
        value = self.fixed
        return (value.nonzero()[:, 0] if value.any() else self.log_alpha.argmax()[None]).cpu()

    def reduction(self) -> LayerReduction:
        """Return the reduction that keeps the open nodes and rebuilds the others as zero."""
        eye, support = torch.eye(len(self.log_alpha), dtype=torch.float64), self.open()
        return LayerReduction(support, eye[:, support], torch.zeros_like(eye[0]))

    @property
    def probability(self) -> Tensor:
        """Probability that each gate is not zero."""
        return (self.log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()


def stretched(value: Tensor) -> Tensor:
    """Return values in (0, 1) stretched to (GAMMA, ZETA) and clamped to [0, 1]."""
    return (value * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


class Gated(nn.Module):
    """Network with gates on the nodes of its layers and on the inputs of its first layers.

    The gate s of a node scales the weights into it, in all gate blocks, and all weights that read
    it; the gate z of an input scales the weights that read it. ``weight_ih`` W and ``weight_hh`` U
    become W ∘ (s zᵀ) and U ∘ (s sᵀ).

    Parameters
    ----------
    module : nn.Module
        The network, with split layers.
    layers : sequence of RecurrentLayer
        Its layers.
    readers : Readers
        The readers of their hidden states.
    start : callable
        Function that returns the initial ``log_alpha``, given the name of a layer, or None for
        inputs, and the number of gates.
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
        # First layers of the same host are directions of its first level and share their inputs.
        self.first = tuple(layer for layer in layers if layer.path not in reading)
        widths = {layer.host: layer.of(module).input_size for layer in self.first}
        self.hosts = tuple(widths)
        self.nodes = nn.ModuleList(
            HardConcrete(start(layer.name, layer.of(module).hidden_size)) for layer in layers
        )
        self.inputs = nn.ModuleList(HardConcrete(start(None, width)) for width in widths.values())
        self.to(next(module.parameters()).device)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network with its gated weights."""
        with warnings.catch_warnings():  # computed weights are never in one piece
            warnings.filterwarnings("ignore", "RNN module weights are not part of single")
            return functional_call(self.module, self.weights(), args, kwargs)

    def weights(self) -> dict[str, Tensor]:
        """Return the gated weights, by parameter name."""
        nodes, inputs = ({name: gate() for name, gate in each.items()} for each in self.gates)
        found = {}
        for reader in self.readers.readers:
            path, weight = weight_of(self.module, reader.path, reader.weight)
            columns = [nodes[name] if name else weight.new_ones(n) for name, n in reader.runs]
            gated = weight.movedim(reader.axis, -1) * torch.cat(columns)
            found[path] = gated.movedim(-1, reader.axis)
        for layer in self.layers:
            n_blocks = GATES[mode_of(layer.of(self.module))]
            rows = nodes[layer.name].repeat(n_blocks)[:, None]
            path, weight = weight_of(self.module, layer.path)
            is_first = layer in self.first
            found[path] = rows * (weight * inputs[layer.host] if is_first else found[path])
            path, weight = weight_of(self.module, layer.path, kind="hh")
            found[path] = rows * weight * nodes[layer.name]
        # Gates have their own dtype, in which small steps of an optimizer are not lost.
        return {path: weight.to(self.module.get_parameter(path)) for path, weight in found.items()}

    @property
    def gates(self) -> tuple[dict[str, HardConcrete], dict[str, HardConcrete]]:
        """Gates of the nodes by layer name, and gates of the inputs by host."""
        nodes, inputs = cast(list[HardConcrete], self.nodes), cast(list[HardConcrete], self.inputs)
        names = [layer.name for layer in self.layers]
        return dict(zip(names, nodes, strict=True)), dict(zip(self.hosts, inputs, strict=True))

    def penalty(self, of_inputs: float, of_nodes: float) -> Tensor:
        """Return the expected number of open weights per gate block, as a weighted sum.

        ``of_inputs`` is the factor of the input weights, ``of_nodes`` that of the recurrent ones.
        """
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
        """Fix the gates without noise and return the network with them.

        Returns
        -------
        module : nn.Module
            The network with the gates multiplied into its weights.
        reductions : dict of LayerReduction
            Reductions that keep the open nodes, by layer name.
        supports : dict of Tensor of int
            Indices of the open inputs, by host.
        """
        self.eval()
        module = copy_of(self.module)
        for name, weight in self.weights().items():
            module.get_parameter(name).copy_(weight)
        nodes, inputs = self.gates
        reductions = {name: gate.reduction() for name, gate in nodes.items()}
        return module, reductions, {host: gate.open() for host, gate in inputs.items()}

    @torch.no_grad()
    def compensate(self) -> None:
        """Scale the weights so that the network with fixed gates equals the one without gates."""
        self.eval()
        behind = self.weights()
        for name, parameter in self.module.named_parameters():
            if name in behind:
                parameter.mul_(torch.where(behind[name] == 0.0, 1.0, parameter / behind[name]))


def weight_of(
    module: nn.Module, path: str, name: str | None = None, kind: str = "ih"
) -> tuple[str, Tensor]:
    """Return the path and value of a weight: of that name, or for the input or states of a part."""
    part = module.get_submodule(path)
    if name is None and isinstance(part, nn.Linear):
        name = "weight"
    elif name is None:
        name = f"weight_{kind}" + ("" if isinstance(part, nn.RNNCellBase) else "_l0")
    return joined(path, name), part.get_parameter(name)
