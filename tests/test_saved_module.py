"""A pruned module, saved and loaded where this package is not installed."""

import subprocess
import sys

import torch
from networks import N_FEATURES, N_NODES
from torch import nn

from skspectral import prune

USER_MODULE = """
from torch import nn

class UserNet(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind({n_features}, {n_nodes}, batch_first=True)
        self.head = nn.Linear({n_nodes}, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])
"""
LOADING = """
import sys
sys.modules["skspectral"] = None  # importing it now fails
sys.path.insert(0, sys.argv[1])
import torch
saved = torch.load(sys.argv[1] + "/saved.pt", weights_only=False)
assert len(saved) == 3
for small, x, expected in saved:
    torch.testing.assert_close(small(x), expected)
assert not any(name.startswith("skspectral.") for name in sys.modules)
"""


def test_a_saved_module_runs_without_this_package(tmp_path, monkeypatch):
    text = USER_MODULE.format(n_features=N_FEATURES, n_nodes=N_NODES)
    (tmp_path / "usernet.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "usernet", raising=False)
    from usernet import UserNet

    x = torch.randn(12, 6, N_FEATURES)
    smaller = [prune(UserNet(kind), x, 3, trajectory_fit=0) for kind in (nn.RNN, nn.GRU, nn.LSTM)]
    torch.save([(small, x, small(x).detach()) for small in smaller], tmp_path / "saved.pt")
    command = [sys.executable, "-c", LOADING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
