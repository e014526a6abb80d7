"""Pruned modules in the hands of other tools."""

import io
import shutil
import warnings

import numpy as np
import pytest
import torch
from networks import N_FEATURES
from sklearn.datasets import load_digits
from skorch import NeuralNetRegressor
from torch import nn

from skspectral import RNNClassifier, SpectralRNNPruner, prune

X = torch.randn(64, 10, N_FEATURES, generator=torch.Generator().manual_seed(0))
HEADS = {"folded": lambda states: states, "stays": torch.relu}
SIZES = {"one size": 6, "several sizes": {"rnn.l0": 5, "rnn.l1": 7}}


class Net(nn.Module):
    """Two levels in both directions."""

    def __init__(self, kind=nn.LSTM, between=None, n_nodes=16):
        super().__init__()
        self.rnn = kind(N_FEATURES, n_nodes, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * n_nodes, 2)
        self.between = between or HEADS["folded"]

    def forward(self, x):
        return self.head(self.between(self.rnn(x)[0][:, -1]))


@pytest.fixture(params=[(head, size) for head in HEADS for size in SIZES], ids=" ".join)
def small(request):
    head, size = request.param
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The reconstruction of")
        return prune(Net(between=HEADS[head]), X, m=SIZES[size], trajectory_fit=0).eval()


def answer(module, x=X):
    with torch.no_grad():
        return module(x)


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # of any nn.LSTM
def test_torch_export(small):
    exported = torch.export.export(small, (X,)).module()
    torch.testing.assert_close(exported(X), answer(small))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_torch_compile(small):
    torch.compiler.reset()
    torch.testing.assert_close(answer(torch.compile(small)), answer(small))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # of any nn.LSTM
def test_onnx_runtime(small):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = io.BytesIO()
    torch.onnx.export(small, (X,), dynamo=True, verbose=False).save(model)
    session = ort.InferenceSession(model.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    np.testing.assert_allclose(found, answer(small), atol=1e-4)


def n_bytes(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.tell()


def accuracy(module, X, y):
    return float((answer(module, X).argmax(-1).numpy() == y).mean())


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning"
)
def test_int8_quantization_on_top():
    digits, y = load_digits(return_X_y=True)
    digits = torch.from_numpy(digits.reshape(-1, 8, 8) / 16).float()
    dense = RNNClassifier(64, "lstm", max_epochs=8, lr=0.01, random_state=0)
    dense = dense.fit(digits[:1400], y[:1400]).module_
    half = prune(dense, digits[:1400], m=0.5, trajectory_fit=0)
    quantized, both = (
        torch.ao.quantization.quantize_dynamic(net, {nn.LSTM, nn.Linear}) for net in (dense, half)
    )
    sizes = [n_bytes(net) for net in (dense, quantized, half, both)]
    right = [accuracy(net, digits[1400:], y[1400:]) for net in (dense, quantized, half, both)]
    assert sizes[3] < 0.5 * sizes[1]
    assert min(right) > 0.85
    assert right[3] > right[1] - 0.02
    assert abs(right[3] - right[2]) < 0.01


def test_skorch_trains_a_pruned_module_on():
    torch.manual_seed(0)
    dense = Net().eval()
    target = answer(dense) + 0.5
    small = prune(dense, X, m=0.25, trajectory_fit=0)
    net = NeuralNetRegressor(
        small, max_epochs=15, lr=0.05, train_split=None, verbose=0, optimizer=torch.optim.Adam
    )
    net.fit(X, target)
    losses = net.history[:, "train_loss"]
    assert losses[-1] < 0.3 * losses[0]


def test_a_pruned_module_can_be_pruned_again():
    once = (
        SpectralRNNPruner(Net(), m={"rnn.l0": 12, "rnn.l1": 10}, trajectory_fit=0)
        .fit(X)
        .pruned_module_
    )
    twice = SpectralRNNPruner(once, m=4, trajectory_fit=0).fit(X)
    assert type(twice.pruned_module_.rnn) is nn.LSTM
    assert set(twice.m_.values()) == {4}


class ReluBetween(nn.Module):
    """Reads its states through a ReLU, so that the reconstruction stays a layer of its own."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0].relu())


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning"
)
def test_a_quantized_module_with_a_reconstruction_can_be_saved():
    torch.manual_seed(0)
    x = torch.randn(20, 6, 3)
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        small = prune(ReluBetween(), x, m=4, trajectory_fit=0)
    quantized = torch.ao.quantization.quantize_dynamic(small, {nn.LSTM, nn.Linear})
    assert n_bytes(quantized) > 0
    with torch.no_grad():
        torch.testing.assert_close(quantized(x), small(x), atol=0.05, rtol=0.0)
