"""What packages that prune make of the recurrent layers of PyTorch.

Each is given a network of a linear head and one layer, or several, and is to take away half of the
nodes. Packages that are not installed are left out.
"""

import copy
import importlib.util
import warnings
from importlib.metadata import version

import torch
from results import Results
from torch import nn
from torch.nn.utils import prune as torch_prune

from skspectral import prune

N_NODES = 32
LAYERS = {
    "nn.RNN": (nn.RNN, {}),
    "nn.GRU": (nn.GRU, {}),
    "nn.LSTM": (nn.LSTM, {}),
    "nn.LSTM(num_layers=2)": (nn.LSTM, {"num_layers": 2}),
    "nn.LSTM(bidirectional=True)": (nn.LSTM, {"bidirectional": True}),
}


class Net(nn.Module):
    """Layers, and a head at every step."""

    def __init__(self, kind, options):
        super().__init__()
        self.rnn = kind(3, N_NODES, batch_first=True, **options)
        self.head = nn.Linear(N_NODES * (1 + self.rnn.bidirectional), 4)

    def forward(self, x):
        """Answers at every step."""
        states, _ = self.rnn(x)
        return self.head(states)


def spectral(net, X):
    """skspectral, folded and refitted."""
    return prune(net, X, m=0.5)


def torch_pruning(net, X):
    """torch-pruning by magnitude."""
    import torch_pruning as tp  # noqa: PLC0415  it takes part where it is installed

    net = copy.deepcopy(net)
    tp.pruner.MagnitudePruner(
        net,
        X,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[net.head],
    ).step()
    return net


def torch_ao(net, _X):
    """The saliency pruner of torch.ao."""
    from torch.ao.pruning._experimental.pruner import LSTMSaliencyPruner  # noqa: PLC0415  private

    net = copy.deepcopy(net)
    names = [name for name, _ in net.rnn.named_parameters() if name.startswith("weight")]
    pruner = LSTMSaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(net, [{"tensor_fqn": f"rnn.{name}"} for name in names])
    pruner.enable_mask_update = True
    pruner.step()
    return pruner.prune()


def rows_masked(net, _X):
    """Rows of all weights, by ``torch.nn.utils.prune``."""
    net = copy.deepcopy(net)
    for name in [name for name, _ in net.rnn.named_parameters() if "weight" in name]:
        torch_prune.ln_structured(net.rnn, name, amount=0.5, n=2, dim=0)
        torch_prune.remove(net.rnn, name)
    return net


# What each is called in the table, the function, and the distribution that it belongs to.
PACKAGES = {
    "skspectral": (spectral, "skspectral"),
    "torch-pruning": (torch_pruning, "torch-pruning"),
    "torch.ao saliency": (torch_ao, "torch"),
    "torch.nn.utils.prune": (rows_masked, "torch"),
}


def n_parameters(net):
    """Numbers in all parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def outcome(package, net, X):
    """What became of the network, in a word or two."""
    try:
        small = package(net, X)
        small(X)
    except Exception as error:  # whatever it is, it is the row
        return type(error).__name__
    if n_parameters(small) < n_parameters(net):
        return f"{n_parameters(net):,} to {n_parameters(small):,}"
    same = zip(net.parameters(), small.parameters(), strict=True)
    changed = any(not torch.equal(one, other) for one, other in same)
    return "zeros, same size" if changed else "unchanged, no error"


def measure(results):
    """Add a row for every layer and package."""
    torch.manual_seed(0)
    X = torch.randn(64, 12, 3)
    for layers, (kind, options) in LAYERS.items():
        net = Net(kind, options).eval()
        for name, (package, distribution) in PACKAGES.items():
            key = {"layers": layers, "package": name}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = outcome(package, net, X)
            results.add(key, {"outcome": found, "version": version(distribution)})


if __name__ == "__main__":
    if importlib.util.find_spec("torch_pruning") is None:
        del PACKAGES["torch-pruning"]
    results = Results("peers", ["layers"])
    measure(results)
    for each in results.rows:
        print(f"{each['layers']:30}{each['package']:23}{each['outcome']}")
