"""What people use instead of spectral pruning, on the same networks and with the same budgets.

torch-pruning takes part where it is installed.
"""

import copy
import importlib.util
import warnings
from functools import partial

import torch
from language import LanguageNet
from protocol import settled
from torch import nn
from torch.nn.utils import prune as torch_prune


class Cell(nn.Module):
    """A layer's step, by a linear map for every gate."""

    def __init__(self, rnn, level):
        super().__init__()
        weights = [getattr(rnn, f"{name}_l{level}") for name in PARTS]
        n_gates = len(weights[0]) // rnn.hidden_size
        chunks = [weight.detach().chunk(n_gates) for weight in weights]
        of_input, of_state, *biases = chunks
        self.activation = activation_of(rnn)
        self.ih = nn.ModuleList(map(linear, of_input, biases[0]))
        self.hh = nn.ModuleList(map(linear, of_state, biases[1]))

    def forward(self, x, state):
        """Hidden state, and cell state of an LSTM."""
        h, c = state
        gates = [read(x) + own(h) for read, own in zip(self.ih, self.hh, strict=True)]
        if len(gates) == 1:
            return getattr(gates[0], self.activation)(), c
        i, f, g, o = gates
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


def activation_of(rnn):
    """Name of the activation of a layer."""
    return getattr(rnn, "nonlinearity", "tanh")


class Unrolled(nn.Module):
    """Layers and head of a network, rewritten as a loop."""

    def __init__(self, module):
        super().__init__()
        self.cells = nn.ModuleList(Cell(module.rnn, i) for i in range(module.rnn.num_layers))
        self.head = copy.deepcopy(module.head)

    def forward(self, x):
        """Answer after the last step."""
        zeros = [x.new_zeros(len(x), cell.hh[0].in_features) for cell in self.cells]
        states = [(zero, zero) for zero in zeros]
        for y in x.unbind(1):
            read = y
            for i, cell in enumerate(self.cells):
                states[i] = cell(read, states[i])
                read = states[i][0]
        return self.head(read)


PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def linear(weight, bias):
    """A linear map with these weights."""
    found = nn.Linear(*weight.T.shape)
    found.weight, found.bias = nn.Parameter(weight), nn.Parameter(bias)
    return found


def torch_pruning(task, _seed):
    """torch-pruning by magnitude, on cells that were rewritten for it; put back into a layer."""
    import torch_pruning as tp  # noqa: PLC0415  it takes part where it is installed

    unrolled, rnn = Unrolled(task.dense), task.dense.rnn
    pruner = tp.pruner.MagnitudePruner(
        unrolled,
        torch.randn(2, 2, rnn.input_size),
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=1.0 - task.m / rnn.hidden_size,
        ignored_layers=[unrolled.head],
    )
    pruner.step()
    state = {}
    for level, cell in enumerate(unrolled.cells):
        for name in PARTS:
            what, part = name.split("_")
            rows = [getattr(gate, what) for gate in getattr(cell, part)]
            state[f"{name}_l{level}"] = torch.cat(rows).detach()
    return filled(task, state, unrolled.head)


class Outputs(nn.Module):
    """Layers and head alone, as torch.ao follows them."""

    def __init__(self, module):
        super().__init__()
        self.rnn, self.head = copy.deepcopy(module.rnn), copy.deepcopy(module.head)

    def forward(self, x):
        """Answers at every step."""
        output, _ = self.rnn(x)
        return self.head(output)


def torch_ao(task, _seed):
    """The saliency pruner of torch.ao, for LSTM layers."""
    from torch.ao.pruning._experimental.pruner import LSTMSaliencyPruner  # noqa: PLC0415  private

    rnn = task.dense.rnn
    pruner = LSTMSaliencyPruner({"sparsity_level": 1.0 - task.m / rnn.hidden_size})
    names = [name for name, _ in rnn.named_parameters() if name.startswith("weight")]
    pruner.prepare(Outputs(task.dense), [{"tensor_fqn": f"rnn.{name}"} for name in names])
    pruner.enable_mask_update = True
    pruner.step()
    small = pruner.prune()
    return filled(task, small.rnn.state_dict(), small.head)


def filled(task, state, head):
    """The small network with the weights of layers and head."""
    n_nodes = head.in_features
    small = task.fresh(n_nodes).eval()
    if isinstance(small, LanguageNet):
        small.embedding = copy.deepcopy(task.dense.embedding)
    small.rnn.load_state_dict(state)
    small.head = copy.deepcopy(head)
    return small


def rows_masked(task, _seed):
    """Rows of the weights of the layers cut by ``torch.nn.utils.prune``."""
    module = copy.deepcopy(task.dense)
    parts = [(module.rnn, name) for name, _ in module.rnn.named_parameters() if "weight" in name]
    amount = 1.0 - task.m / module.rnn.hidden_size
    for part, name in parts:
        torch_prune.ln_structured(part, name, amount, n=2, dim=0)
    return settled(module, parts)


def int8(task, _seed):
    """Dynamic quantization by PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is said to move
        return torch.ao.quantization.quantize_dynamic(task.dense, {nn.LSTM, nn.Linear})


class LowRank(nn.Module):
    """Layers whose weights of states are products of two thin matrices."""

    def __init__(self, rnn, rank):
        super().__init__()
        self.n_levels, self.hidden_size = rnn.num_layers, rnn.hidden_size
        self.is_relu = activation_of(rnn) == "relu"
        for name, weight in rnn.named_parameters():
            if "weight_hh" not in name:
                self.register_parameter(name, nn.Parameter(weight.detach().clone()))
                continue
            u, s, vh = torch.linalg.svd(weight.detach(), full_matrices=False)
            for side, factor in (("up", u[:, :rank] * s[:rank]), ("down", vh[:rank])):
                self.register_parameter(f"{name}_{side}", nn.Parameter(factor.contiguous()))

    @property
    def weight_hh_l0(self):
        """The product."""
        return self.weight_hh_l0_up @ self.weight_hh_l0_down

    def forward(self, x, states=None):
        """States at every step, and those at the end."""
        last = []
        for level in range(self.n_levels):
            read, own, *factors = (
                getattr(self, f"{name}_l{level}{side}")
                for name, side in (
                    ("bias_ih", ""),
                    ("bias_hh", ""),
                    ("weight_ih", ""),
                    ("weight_hh", "_up"),
                    ("weight_hh", "_down"),
                )
            )
            weight, up, down = factors
            zero = x.new_zeros(len(x), self.hidden_size)
            state = (zero, zero) if states is None else states[level]
            inputs = nn.functional.linear(x, weight, read + own)
            x, state = scanned(inputs, up, down, *state, self.is_relu)
            last.append(state)
        return x, last


@torch.jit.script
def scanned(inputs, up, down, h, c, is_relu: bool):
    """States of a plain layer or of an LSTM, whose number of gates is known by the shapes."""
    found = []
    for t in range(inputs.shape[1]):
        gates = inputs[:, t] + (h @ down.t()) @ up.t()
        if gates.shape[1] == h.shape[1]:
            h = gates.relu() if is_relu else gates.tanh()
        else:
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        found.append(h)
    return torch.stack(found, 1), (h, c)


def low_rank(task, _seed, *, same_size):
    """The weights of states by their singular values: as many weights as the small network has."""
    module, rnn = copy.deepcopy(task.dense), task.dense.rnn
    rows, n_nodes = rnn.weight_hh_l0.shape
    budget = rows // n_nodes * task.m**2
    rank = round(budget / (rows + n_nodes)) if same_size else task.m
    module.rnn = LowRank(rnn, rank)
    return module


PEERS = {
    "torch.nn.utils.prune, rows masked": rows_masked,
    "int8 dynamic quantization": int8,
    "low-rank recurrence, as many weights": partial(low_rank, same_size=True),
    "low-rank recurrence, rank m": partial(low_rank, same_size=False),
}
LSTM_PEERS = {"torch.ao, saliency of LSTM": torch_ao}
if importlib.util.find_spec("torch_pruning"):
    PEERS["torch-pruning, magnitude"] = torch_pruning
