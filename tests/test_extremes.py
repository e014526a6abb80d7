"""States of any size, in any number."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from skspectral import HiddenStateMoments, SpectralRNNPruner
from skspectral.calibration import forward_pass
from skspectral.rnn.states.collector import StateCollector

N_NODES = 16
X = np.random.default_rng(0).normal(size=(50, 10, 3))


def scaled(scale, dtype=torch.float64):
    """A relu network whose states are so many times those of another."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.RNN(3, N_NODES, nonlinearity="relu", batch_first=True, dtype=dtype)
    with torch.no_grad():
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            net.get_parameter(name).mul_(scale)
    return net


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.head = kind(3, N_NODES, batch_first=True), nn.Linear(N_NODES, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_the_scale_of_the_states_does_not_matter(scale):
    found, plain = (
        SpectralRNNPruner(scaled(each), 6, trajectory_fit=0).fit(X) for each in (scale, 1.0)
    )
    np.testing.assert_array_equal(found.support_, plain.support_)
    np.testing.assert_allclose(found.loss_path_, plain.loss_path_, rtol=1e-9)
    np.testing.assert_allclose(found.transform(X) / scale, plain.transform(X), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-42], ids=["large", "small", "denormal"])
def test_states_in_float32_may_be_as_large_and_as_small_as_they_get(scale):
    found, plain = (
        SpectralRNNPruner(scaled(each, torch.float32), 6, trajectory_fit=0) for each in (scale, 1.0)
    )
    found.fit(X)
    np.testing.assert_array_equal(found.support_, plain.fit(X).support_)
    np.testing.assert_allclose(found.loss_path_, plain.loss_path_, atol=1e-3)


def test_states_too_large_to_be_squared_are_placed():
    with pytest.raises(ValueError, match=r"too large to be squared: first at step \d of sequence"):
        SpectralRNNPruner(scaled(1e160), 6, trajectory_fit=0).fit(X)


def test_of_nodes_that_are_all_zero_any_will_do():
    pruner = SpectralRNNPruner(scaled(0.0), 6, trajectory_fit=0).fit(X)
    assert pruner.information_loss_ == 0.0
    assert (pruner.transform(X) == 0.0).all()


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_one_sequence_of_one_step_is_enough(kind):
    module = Net(kind)
    pruner = SpectralRNNPruner(module, 6, trajectory_fit=0).fit(X[:1, :1])
    with torch.no_grad():
        given = torch.as_tensor(X[:1, :1], dtype=torch.float32)
        torch.testing.assert_close(pruner.pruned_module_(given), module(given))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_bfloat16_modules_give_what_those_of_float32_do(kind):
    module = Net(kind).bfloat16()
    found = SpectralRNNPruner(module, 6, trajectory_fit=0).fit(X)
    wide = SpectralRNNPruner(module.float(), 6, trajectory_fit=0).fit(X)
    assert next(found.pruned_module_.parameters()).dtype == torch.bfloat16
    np.testing.assert_allclose(found.covariance_, wide.covariance_, atol=2e-2)


def test_a_sequence_may_have_a_hundred_thousand_steps():
    module = nn.RNN(3, 8, batch_first=True)
    long = np.random.default_rng(1).normal(size=(1, 100_000, 3)).astype(np.float32)
    pruner = SpectralRNNPruner(module, 4, objective="one-step", trajectory_fit=0).fit(long)
    assert pruner.moments_.n_steps == 100_000
    cut = SpectralRNNPruner(module, 4, objective="one-step", trajectory_fit=0).fit(
        long.reshape(100, 1000, 3)
    )
    np.testing.assert_allclose(pruner.covariance_, cut.covariance_, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("n_blocks", [100, 10_000])
def test_a_hundred_million_steps_add_up(n_blocks):
    """Beside sums of integers, which are exact."""
    size = 10**8 // n_blocks
    integers = np.random.default_rng(0).integers(-(2**20), 2**20, size=(size, 2))
    block, moments = integers / 2**20, HiddenStateMoments(2)
    for _ in range(n_blocks):
        moments.update(block)
    whole = [[int(each) for each in column] for column in integers.T]
    assert moments.n_steps == 10**8
    for i, left in enumerate(whole):
        assert abs(moments.sum_[i] - n_blocks * sum(left) / 2**20) < 1e-9 * 10**8
        for j, right in enumerate(whole):
            exact = n_blocks * sum(a * b for a, b in zip(left, right, strict=True)) / 2**40
            scale = np.sqrt(moments.products_[i, i] * moments.products_[j, j])
            assert abs(moments.products_[i, j] - exact) < 1e-9 * scale


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_number_of_threads_does_not_matter(n_threads):
    """Beside the same fit on the other number of threads."""
    before = torch.get_num_threads()
    data = np.random.default_rng(2).normal(size=(300, 12, 3)).astype(np.float32)
    net = scaled(1.0, torch.float32)
    try:
        torch.set_num_threads(n_threads)
        found = SpectralRNNPruner(net, 6, random_state=0, trajectory_fit=0).fit(data)
        torch.set_num_threads(3 - n_threads)
        other = SpectralRNNPruner(net, 6, random_state=0, trajectory_fit=0).fit(data)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found.support_, other.support_)
    np.testing.assert_allclose(found.loss_path_, other.loss_path_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", ["array", "ragged", "batches"])
def test_batches_in_threads_give_the_moments_of_one_after_another(form):
    before = torch.get_num_threads()
    data = np.random.default_rng(2).normal(size=(300, 12, 3)).astype(np.float32)
    form_of = {
        "array": lambda: data,
        "ragged": lambda: [x[: 4 + i % 9] for i, x in enumerate(data)],
        "batches": lambda: iter(np.array_split(data, 7)),
    }[form]
    found = []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            pruner = SpectralRNNPruner(
                scaled(1.0, torch.float32), 6, batch_size=32, trajectory_fit=0
            )
            found.append(pruner.fit(form_of()).moments_)
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert other.n_steps == found[0].n_steps
        np.testing.assert_allclose(other.products_, found[0].products_, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("room", "at_once", "each"), [(2**28, 4, 1), (5000, 2, 2), (0, 1, 4)])
def test_batches_run_at_once_as_far_as_moments_have_room(room, at_once, each, monkeypatch):
    seen, before = set(), torch.get_num_threads()
    net = scaled(1.0, torch.float32)
    copies, copy = [], StateCollector.copy
    monkeypatch.setattr(StateCollector, "copy", lambda own: copies.append(1) or copy(own))
    monkeypatch.setattr(forward_pass, "MAX_MOMENT_BYTES", room)
    data = np.random.default_rng(2).normal(size=(300, 4, 3)).astype(np.float32)
    try:
        torch.set_num_threads(4)
        with register_module_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads())):
            SpectralRNNPruner(net, 6, batch_size=32, objective="one-step", trajectory_fit=0).fit(
                data
            )
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert len(copies) == at_once
    assert each in seen
