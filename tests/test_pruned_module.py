"""The pruned module as its user meets it."""

import warnings

import numpy as np
import pytest
import torch
from networks import CELLS, FOLLOWED, N_FEATURES, N_NODES, UNFOLLOWED, Net, make_rnn
from pairs import pairwise
from torch import nn

from skspectral import InformationLoss, prune

every_cell = pytest.mark.parametrize("cell", CELLS)
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
EXACT = InformationLoss(tau=0.0)
STAYS = "remains a separate linear layer behind it"


@pytest.fixture
def x(rng):
    return torch.as_tensor(rng.normal(size=(12, 6, N_FEATURES)))


def read_last(net, states, h):
    return net.head(h[-1])


def read_relu(net, states, h):
    return net.head(h[-1].relu())


def quiet(module, x, m=3, **params):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{STAYS}")
        return prune(module, x, m, **params, trajectory_fit=0)


@pairwise(cell=CELLS, read=[read_last, read_relu], training=[True, False])
def test_the_given_module_stays_as_it_was(cell, read, training, x):
    net = Net(make_rnn(cell), read).train(training)
    net.head.requires_grad_(False)
    net.rnn.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    parts = dict(net.named_modules())
    quiet(net, x)
    assert dict(net.named_modules()) == parts
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(part.training == training for part in net.modules())
    assert len(net.rnn._forward_hooks) == 1
    assert not net._forward_hooks
    flags = {name: p.requires_grad for name, p in net.named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == ["head.weight", "head.bias"]
    assert all(p.grad is None for p in net.parameters())


@pairwise(cell=CELLS, dtype=DTYPES, read=[read_last, read_relu])
def test_dtype_is_kept(cell, dtype, read, x):
    net = Net(make_rnn(cell, dtype=dtype), read)
    small = quiet(net, x)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert small(x.to(dtype)).dtype == dtype


@every_cell
def test_a_bare_layer_keeps_its_class_and_options(cell, x):
    for dtype in DTYPES:
        rnn = make_rnn(cell, dtype=dtype, batch_first=False)
        small = prune(rnn, x, 3, trajectory_fit=0)
        assert type(small) is type(rnn)
        assert (small.mode, small.batch_first, small.bias) == (rnn.mode, False, True)
        assert (small.input_size, small.hidden_size, small.num_layers) == (N_FEATURES, 3, 1)
        assert small.weight_hh_l0.dtype == dtype
        assert not small.training


@every_cell
def test_gradient_flags_are_kept(cell, x):
    for frozen in ("rnn", "head", "rnn.weight_ih_l0", "head.bias"):
        net = Net(make_rnn(cell), read_last)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        small = prune(net, x, 3, trajectory_fit=0)
        flags = {name: p.requires_grad for name, p in net.named_parameters()}
        assert {name: p.requires_grad for name, p in small.named_parameters()} == flags, frozen


@every_cell
def test_a_pruned_module_can_be_trained(cell, x):
    small = prune(Net(make_rnn(cell), read_last), x, 3, trajectory_fit=0).train()
    small(x).square().mean().backward()
    read = [*small.rnn.parameters(), *small.head.parameters()]
    assert all(p.is_leaf and torch.isfinite(p.grad).all() for p in read)


@pytest.mark.parametrize("solver", ["greedy", "random", "convex"])
@pytest.mark.parametrize("read", [read_last, read_relu])
def test_the_random_states_stay_as_they_were(solver, read, x):
    net, legacy = Net(make_rnn(), read), np.random.get_state()  # noqa: NPY002  the global one
    before = torch.random.get_rng_state()
    quiet(net, x, solver=solver, random_state=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy[1])  # noqa: NPY002  the global one


def renamed(net, p):
    """The same network with its nodes in another order."""
    rnn, other = net.rnn, Net(make_rnn(cell_of(net.rnn)), net.read).eval()
    rows = [gate * N_NODES + i for gate in range(len(rnn.weight_hh_l0) // N_NODES) for i in p]
    with torch.no_grad():
        other.rnn.weight_ih_l0.copy_(rnn.weight_ih_l0[rows])
        other.rnn.weight_hh_l0.copy_(rnn.weight_hh_l0[rows][:, p])
        other.rnn.bias_ih_l0.copy_(rnn.bias_ih_l0[rows])
        other.rnn.bias_hh_l0.copy_(rnn.bias_hh_l0[rows])
        other.head.weight.copy_(net.head.weight[:, p])
        other.head.bias.copy_(net.head.bias)
    return other


def cell_of(rnn):
    return rnn.mode.removeprefix("RNN_").lower()


@pairwise(cell=CELLS, reconstruction=["linear", "affine", "none"], read=[read_last, read_relu])
def test_names_of_the_nodes_do_not_matter(cell, read, reconstruction, rng, x):
    net = Net(make_rnn(cell), read).eval()
    other = renamed(net, rng.permutation(N_NODES).tolist())
    small = [quiet(each, x, reconstruction=reconstruction) for each in (net, other)]
    with torch.no_grad():
        np.testing.assert_allclose(other(x), net(x), atol=1e-12)
        np.testing.assert_allclose(small[1](x), small[0](x), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "reconstruction", "cell"),
    [
        (name, reconstruction, list(CELLS)[(i + j) % len(CELLS)])
        for i, name in enumerate([*FOLLOWED, *UNFOLLOWED])
        for j, reconstruction in enumerate(["linear", "affine"])
    ],
)
def test_states_of_low_rank_lose_nothing(name, reconstruction, cell, x):
    """Copies of a node are rebuilt exactly, so the pruned network answers as the dense one."""
    net = Net(make_rnn(cell), (FOLLOWED | UNFOLLOWED)[name].read).eval()
    copies = [0, 1, 2, 0, 1, 2, 0]
    rows = [
        gate * N_NODES + i for gate in range(len(net.rnn.weight_hh_l0) // N_NODES) for i in copies
    ]
    with torch.no_grad():
        for parameter in net.rnn.parameters():
            parameter.copy_(parameter[rows])
        expected = net(x)
        answer = quiet(net, x, 3, reconstruction=reconstruction, objective=EXACT)(x)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-7)


class Asking(Net):
    """Makes the first state itself, by what its layer says of itself."""

    @property
    def is_lstm(self):
        return self.rnn.mode == "LSTM"

    def forward(self, x):
        rnn = self.rnn
        rnn.flatten_parameters()
        n_sequences = x.shape[0 if rnn.batch_first else 1]
        h = torch.zeros(rnn.num_layers, n_sequences, rnn.hidden_size, dtype=x.dtype)
        states, final = rnn(x, (h, h) if self.is_lstm else h)
        return self.read(self, states, final[0] if isinstance(final, tuple) else final)


@pairwise(cell=CELLS, read=[read_last, read_relu], batch_first=[True, False])
def test_a_module_may_ask_its_layer_for_sizes(cell, read, batch_first, x):
    plain = Net(make_rnn(cell, batch_first=batch_first), read)
    asking = Asking(plain.rnn, read)
    asking.load_state_dict(plain.state_dict())
    batch = x if batch_first else x.transpose(0, 1)
    expected, answer = (quiet(net, x)(batch).detach() for net in (plain, asking))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-12)


def test_a_module_that_asks_for_sizes_is_folded(x):
    assert type(prune(Asking(make_rnn("lstm"), read_last), x, 3, trajectory_fit=0).rnn) is nn.LSTM


@every_cell
@pytest.mark.parametrize("through", ["final state", "states"])
def test_a_module_may_pack_its_sequences(cell, through, rng):
    class Packing(Net):
        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            packed, final = self.rnn(packed)
            states, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
            h = final[0] if isinstance(final, tuple) else final
            return self.head(h[-1] if through == "final state" else states)

    net, lengths = Packing(make_rnn(cell), None).eval(), torch.tensor([4, 6, 1])
    batch = torch.as_tensor(rng.normal(size=(3, 6, N_FEATURES))), lengths
    small = prune(net, iter([batch]), N_NODES, trajectory_fit=0)
    assert type(small.rnn) is type(net.rnn)
    np.testing.assert_allclose(small(*batch).detach(), net(*batch).detach(), rtol=0, atol=1e-12)


@every_cell
@pytest.mark.parametrize("weight", ["weight_hh_l0", "weight_ih_l0"])
def test_a_layer_may_be_parametrized(cell, weight, x):
    net = Net(make_rnn(cell), read_last)
    expected = quiet(net, x)(x).detach()
    nn.utils.parametrizations.weight_norm(net.rnn, weight)
    np.testing.assert_allclose(quiet(net, x)(x).detach(), expected, rtol=0, atol=1e-12)


def test_a_pruned_network_that_overflows_is_folded_all_the_same():
    net = Net(make_rnn("relu", n_features=1, n_nodes=2, dtype=torch.float32), read_last).eval()
    with torch.no_grad():
        net.rnn.weight_ih_l0.fill_(1.0)
        net.rnn.weight_hh_l0.copy_(torch.tensor([[3.0, -3.0], [3.0, -3.0]]))  # they cancel
        net.rnn.bias_ih_l0.zero_()
        net.rnn.bias_hh_l0.zero_()
    x = torch.ones(4, 120, 1)
    small = prune(net, x, 1, reconstruction="none", objective="input", trajectory_fit=0)
    assert net(x).isfinite().all()
    assert not small(x).isfinite().any()
    assert isinstance(small.rnn, nn.RNN)
    assert small.head.in_features == 1
