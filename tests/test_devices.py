"""Networks on an accelerator: the same nodes and the same answers as on the CPU."""

import copy

import numpy as np
import pytest
import torch
from networks import CELLS, N_FEATURES, Net, make_rnn
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader, TensorDataset

from skspectral import (
    Distillation,
    FineTune,
    NeuronSelectionPruner,
    RNNClassifier,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
    load_pruned,
    prune,
    save_pruned,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 12, N_FEATURES))
LABELS = (X.sum(axis=(1, 2)) > 0).astype(np.int64)
N_NODES, M = 24, 6


@pytest.fixture(autouse=True)
def _whole_float32():
    """cuDNN rounds float32 to fewer digits unless told not to."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def last_state(net, states, h):
    return net.head(h[-1])


def every_step(net, states, h):
    return net.head(states)


def network(cell="gru", *, dtype=torch.float64, read=last_state, **options):
    rnn = make_rnn(cell, n_nodes=N_NODES, dtype=dtype, **options)
    return Net(rnn, read).eval()


def pruners(module, x=X, y=None, **params):
    """Fitted on the CPU, and on the accelerator."""
    options = {"likelihood": "categorical", "random_state": 0} | params
    return [
        SpectralRNNPruner(copy.deepcopy(module).to(device), M, **options, trajectory_fit=0).fit(
            x, y
        )
        for device in ("cpu", "cuda")
    ]


def assert_same(cpu, gpu, tol=1e-8):
    np.testing.assert_array_equal(gpu.support_, cpu.support_)
    for name in ("covariance_", "mean_", "reconstruction_", "loss_path_"):
        np.testing.assert_allclose(getattr(gpu, name), getattr(cpu, name), atol=tol)
    assert_on_accelerator(gpu.pruned_module_)
    for name, weight in cpu.pruned_module_.state_dict().items():
        found = gpu.pruned_module_.state_dict()[name].cpu()
        torch.testing.assert_close(found, weight, atol=tol, rtol=tol)


def assert_on_accelerator(module):
    assert {parameter.device.type for parameter in module.parameters()} == {"cuda"}


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("objective", ["one-step", "combined"])
def test_the_same_nodes_and_weights(cell, objective):
    assert_same(*pruners(network(cell), objective=objective))


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
def test_levels_and_directions(cell, options):
    rnn = make_rnn(cell, n_nodes=N_NODES, **options)
    wide = N_NODES * (1 + rnn.bidirectional)
    module = nn.Sequential(rnn, First(), nn.Linear(wide, 2, dtype=torch.float64)).eval()
    cpu, gpu = pruners(module)
    for name, layer in cpu.layers_.items():
        np.testing.assert_array_equal(gpu.layers_[name].support, layer.support)
    x = torch.from_numpy(X)
    with torch.no_grad():
        found = gpu.pruned_module_(x.cuda()).cpu()
        torch.testing.assert_close(found, cpu.pruned_module_(x), atol=1e-8, rtol=1e-8)


class First(nn.Module):
    """Of a pair."""

    def forward(self, pair):
        return pair[0]


@pytest.mark.parametrize("reconstruction", ["linear", "affine", "none"])
def test_reconstructions(reconstruction):
    assert_same(*pruners(network(), reconstruction=reconstruction))


FORMS = {
    "array": lambda: X,
    "tensor there": lambda: torch.from_numpy(X).cuda(),
    "unequal lengths": lambda: [x[: 5 + i % 7] for i, x in enumerate(X)],
    "batches": lambda: DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=32),
    "batches there": lambda: iter([[part] for part in torch.from_numpy(X).cuda().split(32)]),
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_forms_of_sequences(form):
    module = network()
    here = FORMS[form.removesuffix(" there")]() if form != "tensor there" else X
    cpu = SpectralRNNPruner(module, M, random_state=0, trajectory_fit=0).fit(here)
    gpu = SpectralRNNPruner(copy.deepcopy(module).cuda(), M, random_state=0, trajectory_fit=0).fit(
        FORMS[form]()
    )
    assert_same(cpu, gpu)


class Packing(nn.Module):
    """Reads the last states of sequences that it packs."""

    def __init__(self):
        super().__init__()
        self.rnn = make_rnn("lstm", n_nodes=N_NODES)
        self.head = nn.Linear(N_NODES, 2, dtype=torch.float64)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0][-1])


def test_a_module_that_packs():
    module, lengths = Packing().eval(), torch.arange(len(X)) % 9 + 4
    batches = list(zip(torch.from_numpy(X).split(32), lengths.split(32), strict=True))
    cpu = SpectralRNNPruner(module, M, random_state=0, trajectory_fit=0).fit(iter(batches))
    gpu = SpectralRNNPruner(module, M, random_state=0, device="cuda", trajectory_fit=0).fit(
        iter(batches)
    )
    assert_same(cpu, gpu)


def test_the_parameter_moves_a_copy():
    module = network()
    pruner = SpectralRNNPruner(module, M, device="cuda", trajectory_fit=0).fit(X)
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    assert_on_accelerator(pruner.pruned_module_)
    states = pruner.transform(X)
    assert isinstance(states, np.ndarray)
    assert states.shape == (len(X), M)


def test_chunks_add_up():
    module = network().cuda()
    whole = SpectralRNNPruner(module, M, objective="one-step", trajectory_fit=0).fit(X)
    parts = SpectralRNNPruner(module, M, objective="one-step", trajectory_fit=0)
    for chunk in np.split(X, 3):
        parts.partial_fit(chunk)
    np.testing.assert_allclose(parts.covariance_, whole.covariance_, atol=1e-12)
    np.testing.assert_array_equal(parts.support_, whole.support_)


@pytest.mark.parametrize("read", [last_state, every_step])
def test_distillation_and_fine_tuning(read):
    module = network(dtype=torch.float32, read=read).cuda()
    y = LABELS if read is last_state else np.repeat(LABELS[:, None], X.shape[1], axis=1)
    settings = {"distill": Distillation(3), "finetune": FineTune(3, lr=1e-2, batch_size=16)}
    pruner = SpectralRNNPruner(
        module, M, likelihood="categorical", random_state=0, **settings, trajectory_fit=0
    )
    pruner.fit(X.astype(np.float32), y)
    assert_on_accelerator(pruner.pruned_module_)
    for history in (pruner.distillation_history_, pruner.fine_tuning_history_):
        assert min(history["held_out"]) < history["held_out"][0]


def test_gates():
    module = network(dtype=torch.float32).cuda()
    pruner = NeuronSelectionPruner(
        module,
        penalty_inputs=3e-3,
        penalty_nodes=3e-3,
        training=FineTune(12, lr=5e-3, batch_size=16, patience=12),
        finetune=1,
        gate_lr=0.2,
        likelihood="categorical",
        random_state=0,
    ).fit(X.astype(np.float32), LABELS)
    assert_on_accelerator(pruner.pruned_module_)
    assert 0 < len(pruner.support_) < N_NODES


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_saved_there_and_loaded(device, tmp_path):
    gpu = SpectralRNNPruner(network().cuda(), M, trajectory_fit=0).fit(X)
    save_pruned(gpu.pruned_module_, tmp_path / "small")
    small = load_pruned(tmp_path / "small", network().to(device))
    assert {parameter.device.type for parameter in small.parameters()} == {device}
    x = torch.from_numpy(X)
    with torch.no_grad():
        wanted = gpu.pruned_module_(x.cuda()).cpu()
        torch.testing.assert_close(small(x.to(device)).cpu(), wanted, atol=1e-10, rtol=0.0)


def test_a_classifier_that_trains_there():
    x = X.astype(np.float32)
    classifier = RNNClassifier(N_NODES, max_epochs=3, device="cuda", random_state=0)
    pruner = SpectralRNNPruner(classifier, M, random_state=0, trajectory_fit=0).fit(x, LABELS)
    assert_on_accelerator(pruner.pruned_module_)
    assert pruner.predict(x).shape == LABELS.shape


def test_a_choice_of_m():
    search = SpectralRNNPrunerCV(
        network().cuda(), ms=[4, 12], likelihood="categorical", cv=3, trajectory_fit=0
    )
    assert search.fit(X, LABELS).m_ in (4, 12)
    assert_on_accelerator(search.pruned_module_)


def test_the_function():
    small = prune(network().cuda(), X, m=M, trajectory_fit=0)
    assert_on_accelerator(small)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_small_layers_are_fitted_as_on_the_cpu(cell, packed):
    dense = network(cell, read=every_step)
    x = list(X[:, :9]) + list(X) if packed else X
    options = {"trajectory_fit": 30, "random_state": 0, "objective": "one-step"}
    found = [
        SpectralRNNPruner(copy.deepcopy(dense).to(device), M, **options).fit(x)
        for device in ("cpu", "cuda")
    ]
    histories = [each.trajectory_history_ for each in found]
    np.testing.assert_allclose(*histories, rtol=1e-4)
    assert next(found[1].pruned_module_.parameters()).device.type == "cuda"
