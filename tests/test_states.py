"""Hidden states, read off a module while it runs."""

import numpy as np
import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, Net, collector_of, make_rnn
from oracles import run_layer, second_moment
from pairs import pairwise
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from skspectral.rnn.layers.find import find_layers
from skspectral.rnn.states.collector import StateCollector
from skspectral.rnn.states.device_moments import DeviceMoments

every_cell = pytest.mark.parametrize("cell", CELLS)


def collect(module, x):
    collector = collector_of(module)
    (states,) = collector.run(x).values()
    return states.numpy(), collector.layout


def head_of_last(net, _states, h):
    return net.head(h[-1])


@pytest.mark.parametrize("batch_first", [True, False])
@pairwise(cell=CELLS, n_steps=[1, 2, 3, 6], bias=[True, False], wrapped=[True, False])
def test_states_are_those_of_the_recurrence(cell, batch_first, bias, wrapped, n_steps, rng):
    rnn = make_rnn(cell, batch_first=batch_first, bias=bias)
    module = Net(rnn, head_of_last) if wrapped else rnn
    x = rng.normal(size=(5, n_steps, N_FEATURES))
    np.testing.assert_allclose(collect(module, x)[0], run_layer(rnn, x), rtol=0, atol=1e-12)


@every_cell
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 0.05)])
def test_sequences_are_brought_to_the_dtype_of_the_layer(cell, dtype, atol, rng):
    module = Net(make_rnn(cell, dtype=dtype), head_of_last)
    x = rng.normal(size=(4, 5, N_FEATURES))
    states = collector_of(module).run(x)["rnn.l0"]
    assert states.dtype == dtype
    np.testing.assert_allclose(states.double(), run_layer(module.rnn, x), atol=atol)


def test_what_goes_into_forward_is_brought_to_the_dtype_too(rng):
    net = Net(make_rnn(dtype=torch.float32), head_of_last)
    x = torch.as_tensor(rng.normal(size=(4, 5, N_FEATURES)))
    for batch in ((x,), {"x": x}):
        states = collector_of(net).run(batch)["rnn.l0"]
        np.testing.assert_allclose(states, run_layer(net.rnn, x), atol=1e-6)


class Looping(nn.Module):
    """Runs a cell step by step."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(N_FEATURES, N_NODES, dtype=torch.float64)

    def forward(self, x):
        h = None
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


def test_states_of_a_cell_are_the_steps_of_its_sequences(rng):
    net, x = Looping(), rng.normal(size=(5, 6, N_FEATURES))
    rnn = make_rnn("tanh")
    rnn.load_state_dict({f"{name}_l0": weight for name, weight in net.cell.state_dict().items()})
    np.testing.assert_allclose(collect(net, x)[0], run_layer(rnn, x), rtol=0, atol=1e-12)


class Repeating(nn.Module):
    """Runs its layer as often as told."""

    def __init__(self, times):
        super().__init__()
        self.rnn, self.times = make_rnn(), times

    def forward(self, x, h=None):
        for _ in range(self.times):
            _, h = self.rnn(x, h)
        return x.sum() if h is None else h


@pytest.mark.parametrize("times", [2, 3])
def test_states_of_a_layer_that_runs_several_times_follow_one_another(times, rng):
    net, x = Repeating(times), rng.normal(size=(5, 6, N_FEATURES))
    expected = run_layer(net.rnn, np.concatenate([x] * times, axis=1))
    np.testing.assert_allclose(collect(net, x)[0], expected, rtol=0, atol=1e-12)


def test_a_layer_that_does_not_run_has_no_states(rng):
    x = torch.as_tensor(rng.normal(size=(5, 6, N_FEATURES)))
    assert collector_of(Repeating(0)).run((x,)) == {}


class Packing(nn.Module):
    """Takes padded sequences and their lengths."""

    def __init__(self, cell, batch_first):
        super().__init__()
        self.rnn = make_rnn(cell, batch_first=batch_first)

    def forward(self, x, lengths):
        x = x if self.rnn.batch_first else x.transpose(0, 1)
        packed = pack_padded_sequence(
            x, lengths, batch_first=self.rnn.batch_first, enforce_sorted=False
        )
        return self.rnn(packed)[1]


@every_cell
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("as_batch", [tuple, lambda pair: {"x": pair[0], "lengths": pair[1]}])
def test_a_packed_sequence_gives_its_valid_steps_alone(cell, batch_first, as_batch, rng):
    net, lengths = Packing(cell, batch_first), [2, 5, 1, 4]
    x = rng.normal(size=(4, 5, N_FEATURES))
    states, _ = collect(net, as_batch((torch.as_tensor(x), torch.tensor(lengths))))
    alone = [run_layer(net.rnn, x[i : i + 1, :n])[0] for i, n in enumerate(lengths)]
    expected = np.concatenate(alone)
    assert states.shape == (sum(lengths), N_NODES)
    np.testing.assert_allclose(states.T @ states, expected.T @ expected, atol=1e-12)
    np.testing.assert_allclose(states.sum(0), expected.sum(0), atol=1e-12)


@every_cell
def test_collecting_leaves_the_module_as_it_was(cell, rng):
    net = Net(make_rnn(cell), head_of_last).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    collector = StateCollector(net, find_layers(net))
    states = collector.run(rng.normal(size=(5, 6, N_FEATURES)))["rnn.l0"]
    assert not states.requires_grad
    assert net.training
    assert not net.rnn._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("wrap", [tuple, lambda pair: {"x": pair[0], "h": pair[1]}])
def test_batches_go_to_forward_as_they_are(wrap, rng):
    net = Repeating(1)
    x = torch.as_tensor(rng.normal(size=(5, 6, N_FEATURES)))
    h = torch.zeros(1, 5, N_NODES, dtype=torch.float64)
    states, layout = collect(net, wrap((x, h)))
    np.testing.assert_allclose(states, run_layer(net.rnn, x), atol=1e-12)
    assert layout is None


def test_moments_are_added_up_block_by_block(rng):
    blocks = [rng.normal(size=(n_steps, N_NODES)) for n_steps in (3, 1, 5)]
    moments = DeviceMoments(N_NODES, torch.device("cpu"))
    for block in blocks:
        moments.update(torch.as_tensor(block))
    covariance, mean = second_moment(blocks)
    assert moments.n_steps == 9
    np.testing.assert_allclose(moments.products_ / 9, covariance, rtol=1e-12)
    np.testing.assert_allclose(moments.sum_ / 9, mean, rtol=1e-12)
