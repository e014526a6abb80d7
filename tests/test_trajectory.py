"""Small layers fitted to the trajectories of the dense ones."""

import copy

import numpy as np
import pytest
import torch
from networks import (
    CELLS,
    N_FEATURES,
    Net,
    calibration_of,
    collector_of,
    linear_reference,
    make_rnn,
)
from oracles import STEPS, run_cell, run_layer
from scipy.linalg import solve_discrete_lyapunov
from sklearn.model_selection import GridSearchCV
from torch import nn

from skspectral import SpectralRNNPruner, SpectralRNNPrunerCV, prune
from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.kernels import LayerCall
from skspectral.rnn.losses.likelihood import Likelihood
from skspectral.rnn.surgery.reduction import LayerReduction
from skspectral.rnn.trajectory import fit as trajectory
from skspectral.rnn.trajectory.dense_outputs import DenseOutputs
from skspectral.rnn.trajectory.fit import TrajectoryFit, batches, root
from skspectral.rnn.trajectory.gru import run_gru
from skspectral.rnn.trajectory.layer_fit import LayerFit
from skspectral.rnn.trajectory.windows import Windows

M, N_NODES = 5, 24


def sequences(n=120, n_steps=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_steps, N_FEATURES))


def every_step(net, states, h):
    return net.head(states)


def network(cell="gru", read=every_step):
    """A network whose states do not forget at once."""
    net = Net(make_rnn(cell, n_nodes=N_NODES), read).eval()
    with torch.no_grad():
        net.rnn.weight_hh_l0.mul_(2.0)
    return net


class Stack(nn.Module):
    """Two layers, one above the other."""

    def __init__(self):
        super().__init__()
        self.first = make_rnn("gru", n_nodes=N_NODES)
        self.second = make_rnn("lstm", n_features=N_NODES, n_nodes=N_NODES)
        self.head = nn.Linear(N_NODES, 2).double()

    def forward(self, x):
        return self.head(self.second(self.first(x)[0])[0])


def fitted(net, n_steps=40, X=None, **params):
    options = {"m": M, "objective": "one-step", "random_state": 0, "trajectory_fit": n_steps}
    return SpectralRNNPruner(net, **options | params).fit(sequences() if X is None else X)


# What is minimized


def layer_fit(cell, affine=False):
    """A layer in training, with a cut of any numbers, and windows of two lengths."""
    torch.manual_seed(0)
    rnn = make_rnn(cell, n_nodes=4)
    A = torch.cat([torch.eye(2), torch.randn(2, 2)]).double()[[0, 2, 1, 3]]
    cut = LayerReduction(
        torch.tensor([0, 2]), A, torch.tensor([0.0, 0.3, 0.0, -0.2]).double() * affine
    )
    shapes = [(5, 3, N_FEATURES), (5, 3, 4), (3, 4), (3, 4)]
    input, states, h, c = (torch.randn(*shape, dtype=torch.float64) for shape in shapes)  # noqa: A001
    start = (h, c) if cell == "lstm" else (h,)
    windows = Windows(input, states, start, torch.tensor([5, 2, 4]))
    factor = torch.randn(4, 4, dtype=torch.float64)
    return LayerFit.of(rnn, cut), windows, factor


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_error_is_that_of_a_loop(cell, affine):
    fit, windows, factor = layer_fit(cell, affine)
    A, c, M = fit.reduction.A.numpy(), fit.reduction.c.numpy(), factor.numpy()
    weights = [weight.detach().numpy() for weight in fit.weights.values()]
    total = 0.0
    for i, length in enumerate(windows.lengths.tolist()):
        h, cell_state = (each[i, [0, 2]].numpy() for each in (windows.start * 2)[:2])
        for t in range(length):
            h, cell_state = STEPS[fit.mode](windows.input[t, i].numpy(), h, cell_state, *weights)
            total += np.square(M @ (windows.states[t, i].numpy() - A @ h - c)).sum()
    error = fit.error(windows.seen_by(factor), factor)
    assert error.item() == pytest.approx(total / int(windows.lengths.sum()), rel=1e-12)
    assert fit.loss(windows.seen_by(factor), factor) == pytest.approx(error.item(), rel=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_gru_is_that_of_torch(bias, dtype):
    torch.manual_seed(0)
    rnn, grown = nn.GRU(N_FEATURES, M, bias=bias, dtype=dtype), torch.randn(11, 6, M, dtype=dtype)
    x, h = torch.randn(11, 6, N_FEATURES, dtype=dtype), torch.randn(6, M, dtype=dtype)
    weights = list(rnn.parameters())
    found = run_gru(LayerCall("GRU", weights, x, None, (h,)))
    expected, _ = rnn(x, h[None])
    torch.testing.assert_close(found, expected)
    for own, other in zip(
        torch.autograd.grad((found * grown).sum(), weights),
        torch.autograd.grad((expected * grown).sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_finite_differences(cell, affine):
    fit, windows, factor = layer_fit(cell, affine)
    seen = windows.seen_by(factor)
    fit.error(seen, factor).backward()
    for parameter in fit.parameters:
        slope = torch.zeros_like(parameter)
        for place in np.ndindex(*parameter.shape):
            values = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter[place] += sign * 1e-6
                    values.append(float(fit.error(seen, factor)))
                    parameter[place] -= sign * 1e-6
            slope[place] = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-4, atol=1e-7)


def test_the_root_of_a_weight():
    M = torch.randn(3, 5, dtype=torch.float64)
    weight = M.T @ M  # of rank 3
    torch.testing.assert_close(root(weight).T @ root(weight), weight)


def test_every_window_is_taken_as_often():
    drawn = batches(40, seed=0)
    taken = torch.cat([next(drawn) for _ in range(5)])  # five batches of 32 are four times all
    assert torch.bincount(taken, minlength=40).tolist() == [4] * 40
    assert next(batches(40, seed=0)).tolist() != next(batches(40, seed=1)).tolist()


# What comes out


@pytest.mark.parametrize("read", ["every step", "last step"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_module_steps_by_the_fitted_weights_and_reads_by_the_fitted_map(cell, read):
    reads = {"every step": every_step, "last step": lambda net, s, h: net.head(s[:, -1])}
    net, X = network(cell, reads[read]), sequences()
    pruner = fitted(net, n_refit=0)
    cut = pruner.layers_["rnn.l0"].reduction
    small, (fit, history) = pruner.pruned_module_, refitted_by_hand(net, pruner, X)
    states = run_layer(small.rnn, X)
    expected = run_cell(net.rnn.mode, [each.numpy() for each in fit.fitted.values()], X)
    np.testing.assert_allclose(states, expected, atol=1e-12)
    head = linear_reference(net.head, fit.A.numpy(), fit.c.numpy())
    states = states if read == "every step" else states[:, -1]
    answers = small(torch.as_tensor(X)).detach().numpy()
    np.testing.assert_allclose(answers, head(states), atol=1e-12)
    assert torch.equal(fit.A[cut.support], torch.eye(M, dtype=torch.float64))
    assert history == pruner.trajectory_history_


def refitted_by_hand(net, pruner, X):
    """The cut of the fit of a pruner, and its history."""
    calibration = calibration_of(pruner, X)
    reductions = {name: layer.reduction for name, layer in pruner.layers_.items()}
    fit = calibration.trajectory_fit
    found, history = fit.fitted(reductions, fit.n_steps(reductions, pruner.trajectory_fit))
    return found["rnn.l0"], history["rnn.l0"]


@pytest.mark.parametrize("cell", CELLS)
def test_the_divergence_falls_also_on_new_sequences(cell):
    net, new = network(cell), torch.as_tensor(sequences(seed=1))
    dense = net(new)
    errors = [(fitted(net, n).pruned_module_(new) - dense).square().mean() for n in (0, 150)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("cell", CELLS)
def test_the_history_is_of_the_given_module_with_its_states_replaced(cell):
    """On the passes held out; the first entry is of folded weights, the least of those taken."""
    net, X = network(cell), sequences()
    passes = [ForwardPass((torch.as_tensor(part),), {}) for part in np.split(X, 6)]
    collector = collector_of(net)
    weights = {"rnn.l0": torch.eye(N_NODES, dtype=torch.float64)}
    A = torch.linalg.lstsq(
        *(
            torch.as_tensor(run_layer(net.rnn, X).reshape(-1, N_NODES))[:, s]
            for s in (slice(M), slice(None))
        )
    ).solution.T
    A[:M] = torch.eye(M)
    cut = LayerReduction(torch.arange(M), A, torch.zeros(N_NODES, dtype=torch.float64))
    answers = DenseOutputs(collector.module, passes[-1:], Likelihood("gaussian"))
    fit = TrajectoryFit(collector.module, collector.layers, weights, passes[:-1], answers)
    found, history = fit.fitted({"rnn.l0": cut}, {"rnn.l0": 30})
    head, dense = linear_reference(net.head), run_layer(net.rnn, X[100:])

    def divergence(cut):
        small = [each.numpy() for each in cut.small_weights(net.rnn).values()]
        states = run_cell(net.rnn.mode, small, X[100:]) @ cut.A.numpy().T + cut.c.numpy()
        return np.square(head(dense) - head(states)).mean() / head(dense).var()

    assert history["rnn.l0"][0] == pytest.approx(divergence(cut), rel=1e-9)
    assert min(history["rnn.l0"]) == pytest.approx(divergence(found["rnn.l0"]), rel=1e-9)
    assert len(history["rnn.l0"]) == 6


def test_what_did_harm_is_undone(monkeypatch):
    """At a rate far too high no weights are better than those at the start, which stay."""
    net = network("relu")
    with torch.no_grad():
        net.rnn.weight_hh_l0.copy_(torch.linalg.qr(net.rnn.weight_hh_l0)[0])
    monkeypatch.setitem(trajectory.RATES, "RNN_RELU", 1e3)
    pruner = fitted(net, n_refit=0)
    folded = fitted(net, 0, n_refit=0)
    assert min(pruner.trajectory_history_[1:]) > pruner.trajectory_history_[0]
    for one, other in zip(
        pruner.pruned_module_.parameters(), folded.pruned_module_.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def trajectory_fit_of(pruner, X):
    """What fits the layers of a pruner, and what they keep before."""
    calibration = calibration_of(pruner, X)
    return calibration.trajectory_fit, {n: layer.reduction for n, layer in pruner.layers_.items()}


def test_the_rate_falls_to_zero_and_to_half_after_harm(monkeypatch):
    fit, reductions = trajectory_fit_of(fitted(network("lstm"), 5), sequences())
    divergences, rates = iter([1.0, 2.0, 0.5, 0.9, 0.9, 0.1]), []

    class Adam(torch.optim.Adam):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    monkeypatch.setattr(DenseOutputs, "divergence", lambda self, **_: next(divergences))
    _, history = fit.fitted(reductions, {"rnn.l0": 10})
    assert history["rnn.l0"] == [1.0, 2.0, 0.5, 0.9, 0.9, 0.1]
    falls = [1, 1, 2, 2, 2, 2, 4, 4, 8, 8]
    expected = [5e-3 / fall * (1.0 - step / 10) for step, fall in enumerate(falls)]
    assert rates == pytest.approx(expected)


def test_large_layers_take_fewer_steps(monkeypatch):
    fit, reductions = trajectory_fit_of(fitted(network("gru"), 5), sequences())
    n_weights = 3 * M * (N_FEATURES + M + 2)
    assert fit.n_steps(reductions, 300) == {"rnn.l0": 300}
    monkeypatch.setattr(trajectory, "MAX_MULTIPLY_ADDS", 3 * 100 * 32 * n_weights * 40.5)
    assert fit.n_steps(reductions, 300) == {"rnn.l0": 40}
    assert fit.n_steps(reductions, 30) == {"rnn.l0": 30}
    monkeypatch.setattr(trajectory, "MAX_MULTIPLY_ADDS", 1)
    assert fit.n_steps(reductions, 300) == {"rnn.l0": 5}


@pytest.mark.parametrize("cell", CELLS)
def test_keeping_all_nodes_changes_nothing(cell):
    net, X = network(cell), torch.as_tensor(sequences())
    pruner = fitted(net, m=N_NODES, n_refit=0)
    assert pruner.trajectory_history_ == []
    torch.testing.assert_close(pruner.pruned_module_(X), net(X), rtol=1e-12, atol=1e-12)


def test_it_is_as_good_as_balanced_truncation_of_a_linear_network():
    """Of an error that white noise makes, on a linear system of which the best is nearly known."""
    rng = np.random.default_rng(0)
    n, m, scale = 6, 2, 1e-4  # so small that tanh is linear
    W = np.linalg.qr(rng.normal(size=(n, n)))[0] * [0.95, 0.9, 0.5, 0.4, 0.3, 0.2]
    W = W @ np.linalg.qr(rng.normal(size=(n, n)))[0]
    W *= 0.9 / np.abs(np.linalg.eigvals(W)).max()
    U = rng.normal(size=(n, N_FEATURES))
    net = nn.RNN(N_FEATURES, n, bias=False, batch_first=True).double()
    with torch.no_grad():
        net.weight_hh_l0.copy_(torch.as_tensor(W))
        net.weight_ih_l0.copy_(torch.as_tensor(U))
    X = scale * rng.normal(size=(400, 60, N_FEATURES))
    pruner = fitted(net, 1000, X=X, m=m)
    history, states = pruner.trajectory_history_, run_layer(net, X)
    relative = min(history) * states[-40:].var() / np.square(states[-40:]).mean()

    # The same error of balanced truncation, whose outputs are all states.
    P, Q = solve_discrete_lyapunov(W, U @ U.T), solve_discrete_lyapunov(W.T, np.eye(n))
    R, L = np.linalg.cholesky(P), np.linalg.cholesky(Q)
    left, values, right = np.linalg.svd(L.T @ R)
    T, S = R @ right[:m].T / np.sqrt(values[:m]), (L @ left[:, :m] / np.sqrt(values[:m])).T
    F, G = S @ W @ T, S @ U
    block = np.block([[W, np.zeros((n, m))], [np.zeros((m, n)), F]])
    both, C = np.vstack([U, G]), np.hstack([np.eye(n), -T])
    balanced = np.trace(C @ solve_discrete_lyapunov(block, both @ both.T) @ C.T) / np.trace(P)
    assert relative < 1.05 * balanced
    assert history[0] > 1.2 * min(history)


@pytest.mark.parametrize("cell", ["relu", "gru"])
def test_windows_have_the_steps_that_the_kind_of_layer_needs(cell, monkeypatch):
    monkeypatch.setattr(trajectory, "WINDOWS", {"RNN_RELU": 6, "GRU": 3})
    collector = collector_of(network(cell))
    (layer,) = collector.layers
    passes = [ForwardPass((torch.as_tensor(sequences(4)),), {})]
    answers = DenseOutputs(collector.module, passes, Likelihood("gaussian"))
    eye = torch.eye(N_NODES, dtype=torch.float64)
    fit = TrajectoryFit(collector.module, [layer], {layer.name: eye}, passes, answers)
    windows = fit._windows(layer.name, {})
    assert len(windows.input) == (6 if cell == "relu" else 3)
    assert int(windows.lengths.sum()) == 4 * 12


def test_an_upper_layer_is_fitted_to_what_the_small_one_below_puts_out():
    """And judged with both of them small, the given module's head behind them."""
    torch.manual_seed(0)
    net, X = Stack().eval(), sequences(80)
    below, above, head = net.first, net.second, linear_reference(net.head)
    passes = [ForwardPass((torch.as_tensor(part),), {}) for part in np.split(X, 4)]
    collector = collector_of(net)
    names = [layer.name for layer in collector.layers]
    eye = torch.eye(N_NODES, dtype=torch.float64)
    cut = LayerReduction(
        torch.arange(M), eye[:, :M].clone(), torch.zeros(N_NODES, dtype=torch.float64)
    )
    answers = DenseOutputs(collector.module, passes[-1:], Likelihood("gaussian"))
    fit = TrajectoryFit(
        collector.module, collector.layers, dict.fromkeys(names, eye), passes[:-1], answers
    )
    found, history = fit.fitted(dict.fromkeys(names, cut), dict.fromkeys(names, 20))

    def rebuilt(rnn, cut, x):
        small = [each.numpy() for each in cut.small_weights(rnn).values()]
        return run_cell(rnn.mode, small, x) @ cut.A.numpy().T

    between = rebuilt(below, found[names[0]], X[:60])
    read = fit._windows(names[1], {names[0]: found[names[0]]}).input.transpose(0, 1)
    np.testing.assert_allclose(read.numpy(), between, atol=1e-10)

    dense = head(run_layer(above, run_layer(below, X[60:])))
    between = rebuilt(below, found[names[0]], X[60:])
    for taken, expected in ((cut, history[names[1]][0]), (found[names[1]], min(history[names[1]]))):
        small = head(rebuilt(above, taken, between))
        assert np.square(dense - small).mean() / dense.var() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["linear", "affine"])
def test_a_reconstruction_stays_of_its_kind(kind):
    pruner = fitted(network("tanh"), reconstruction=kind, n_refit=0)
    fit, _ = refitted_by_hand(pruner.estimator_, pruner, sequences())
    assert bool(fit.c.any()) is (kind == "affine")


def test_none_is_not_fitted():
    pruner = fitted(network(), reconstruction="none")
    assert pruner.trajectory_history_ == []


def test_two_fits_are_the_same_and_the_seed_counts():
    net = network()
    small = [fitted(net, random_state=seed).pruned_module_.rnn.weight_hh_l0 for seed in (0, 0, 1)]
    assert torch.equal(small[0], small[1])
    assert not torch.equal(small[0], small[2])


def test_threads_change_nothing_but_rounding(n_threads):
    torch.manual_seed(0)
    net = network("lstm")
    small = fitted(net).pruned_module_.rnn.weight_hh_l0
    torch.set_num_threads(1)
    one = fitted(net).pruned_module_.rnn.weight_hh_l0
    torch.set_num_threads(n_threads)
    torch.testing.assert_close(small, one, rtol=1e-6, atol=1e-8)


def test_the_given_module_stays_as_it_is():
    net = network().train()
    before, flags = copy.deepcopy(net.state_dict()), [p.requires_grad for p in net.parameters()]
    fitted(net)
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_permuted_nodes_are_fitted_alike():
    net = network("gru")
    order = torch.randperm(N_NODES, generator=torch.Generator().manual_seed(3))
    other = copy.deepcopy(net)
    rows = (torch.arange(3)[:, None] * N_NODES + order).flatten()
    with torch.no_grad():
        for name, weight in net.rnn.named_parameters():
            own = weight[rows][:, order] if name == "weight_hh_l0" else weight[rows]
            getattr(other.rnn, name).copy_(own)
        other.head.weight.copy_(net.head.weight[:, order])
    one, two = fitted(net), fitted(other)
    assert sorted(order[two.support_].tolist()) == one.support_.tolist()
    np.testing.assert_allclose(one.trajectory_history_, two.trajectory_history_, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype):
    net = network().to(dtype)
    X = torch.as_tensor(sequences()).to(dtype)
    pruner = fitted(net, X=[(part,) for part in X.split(20)])
    assert {p.dtype for p in pruner.pruned_module_.parameters()} == {dtype}
    assert min(pruner.trajectory_history_) < pruner.trajectory_history_[0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_needs_no_gradients_of_its_caller(mode):
    net = network()
    expected = fitted(net).pruned_module_.rnn.weight_hh_l0
    with mode():
        found = fitted(net).pruned_module_.rnn.weight_hh_l0
    assert torch.equal(found, expected)


# Whole modules


class Levels(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(N_FEATURES, 16, 2, batch_first=True, bidirectional=True, **options)
        self.head = nn.Linear(32, 2)
        self.double()

    def forward(self, x):
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_levels_and_directions_are_fitted_one_after_another(kind):
    torch.manual_seed(0)
    net, new = Levels(kind).eval(), torch.as_tensor(sequences(seed=1))
    folded, small = (fitted(net, n, m=4) for n in (0, 40))
    errors = [(each.pruned_module_(new) - net(new)).square().mean() for each in (folded, small)]
    assert errors[1] < 0.9 * errors[0]
    assert list(small.trajectory_history_) == list(small.layers_)
    assert any(min(found) < found[0] for found in small.trajectory_history_.values())
    assert isinstance(small.pruned_module_.rnn, kind)


class Echo(nn.Module):
    """Goes on from its own answers."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(2, 16), nn.Linear(16, 2)
        self.double()

    def forward(self, x, n_steps):
        h, found = x.new_zeros(len(x), 16), []
        for _ in range(n_steps):
            h = self.cell(x, h)
            x = self.head(h)
            found.append(x)
        return torch.stack(found, 1)


class Translate(nn.Module):
    """A decoder starts from what a map makes of where an encoder ends."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(N_FEATURES, 16, batch_first=True)
        self.decoder = nn.LSTM(2, 12, batch_first=True)
        self.bridge, self.head = nn.Linear(16, 12), nn.Linear(12, 2)
        self.double()

    def forward(self, x, y):
        _, (h, _) = self.encoder(x)
        h = self.bridge(h)
        return self.head(self.decoder(y, (h, torch.zeros_like(h)))[0])


class Attentive(nn.Module):
    """The decoder starts from where the encoder ends, cell state and all, and attends to it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(N_FEATURES, 16, batch_first=True)
        self.decoder = nn.LSTM(2, 16, batch_first=True)
        self.head = nn.Linear(32, 2)
        self.double()

    def forward(self, x, y):
        states, final = self.encoder(x)
        decoded, _ = self.decoder(y, final)
        context = torch.softmax(decoded @ states.transpose(1, 2), -1) @ states
        return self.head(torch.cat([decoded, context], -1))


def pairs(n=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(
            torch.randn(16, 10, k, generator=generator, dtype=torch.float64)
            for k in (N_FEATURES, 2)
        )
        for _ in range(n)
    ]


class Chosen(nn.Module):
    """Runs on the sequences that a mask chooses, which may be none."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(N_FEATURES, 16, batch_first=True), nn.Linear(16, 2)
        self.double()

    def forward(self, x, mask):
        return self.head(self.rnn(x[mask])[0]).sum() + x.sum()


def test_a_batch_on_which_the_layer_runs_over_no_sequences():
    torch.manual_seed(0)
    masks = torch.rand(8, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    masks[3] = False
    X = [(x, mask) for (x, _), mask in zip(pairs(), masks, strict=True)]
    pruner = fitted(Chosen().eval(), X=X, m=4)
    assert np.isfinite(pruner.trajectory_history_).all()


class Hesitant(nn.Module):
    """How often the second layer runs depends on the states of the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.GRU(N_FEATURES, 16, batch_first=True)
        self.second = nn.LSTM(16, 12, batch_first=True)
        self.head = nn.Linear(12, 2)
        self.double()

    def forward(self, x):
        states, _ = self.first(x)
        for _ in range(1 + int(50.0 * states[:, -1].sum().abs()) % 3):
            found, _ = self.second(states)
        return self.head(found)


@pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning")
@pytest.mark.filterwarnings("ignore:The pruned module has:UserWarning")
def test_passes_that_take_another_way_than_the_dense_ones_are_left_out():
    torch.manual_seed(0)
    net = Hesitant().eval()
    X = [(x[:2],) for x, _ in pairs(60)]
    pruner = fitted(net, X=X, m=3)
    assert all(min(found) <= found[0] for found in pruner.trajectory_history_.values())
    assert len(pruner.trajectory_history_["second.l0"]) == 6


WHOLE = {
    "goes on from its answers": (
        Echo,
        lambda seed: [(x[:, 0, :2], 9) for x, _ in pairs(seed=seed)],
    ),
    "encoder and decoder": (Translate, lambda seed: pairs(seed=seed)),
    "attention": (Attentive, lambda seed: pairs(seed=seed)),
}


@pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning")
@pytest.mark.filterwarnings("ignore:The pruned module has:UserWarning")
@pytest.mark.parametrize("name", WHOLE)
def test_whole_modules_answer_better_on_new_batches(name):
    torch.manual_seed(0)
    make, data = WHOLE[name]
    net = make().eval()
    for parameter in net.parameters():
        parameter.data *= 2.0
    dense = [net(*batch) for batch in data(1)]
    errors = []
    for n_steps in (0, 60):
        small = fitted(net, n_steps, X=data(0), m=0.4).pruned_module_
        found = [small(*batch) for batch in data(1)]
        errors.append(
            sum((a - b).square().mean().item() for a, b in zip(found, dense, strict=True))
        )
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.filterwarnings("ignore:The reconstruction of:UserWarning")
@pytest.mark.filterwarnings("ignore:The pruned module has:UserWarning")
def test_cell_states_are_rebuilt_from_those_that_the_small_layer_reaches():
    torch.manual_seed(0)
    net = Attentive().eval()
    fit, before = trajectory_fit_of(fitted(net, 5, X=pairs(), m=4), pairs())
    after, _ = fit.fitted(before, {"encoder.l0": 60})
    cut = after["encoder.l0"]
    errors = {"before": 0.0, "after": 0.0}
    for x, _ in pairs():
        small = nn.LSTM(N_FEATURES, 4, batch_first=True).double()
        small.load_state_dict({f"{name}_l0": each for name, each in cut.fitted.items()})
        (_, cells), (_, wide) = small(x)[1], net.encoder(x)[1]
        for name, (A, c) in {"before": before["encoder.l0"].cell, "after": cut.cell}.items():
            errors[name] += (cells @ A.T + c - wide).square().sum().item()
    assert errors["after"] < 0.97 * errors["before"]
    assert torch.equal(cut.cell[0][cut.support], torch.eye(4, dtype=torch.float64))


# The estimator


def test_it_is_on_by_default():
    net = network()
    pruner = SpectralRNNPruner(net, M).fit(sequences())
    assert len(pruner.trajectory_history_) == 6
    assert pruner.trajectory_fit == 300
    small = prune(net, sequences(), M)
    assert torch.equal(small.rnn.weight_hh_l0, pruner.pruned_module_.rnn.weight_hh_l0)


def test_grid_search_and_the_pruner_with_cross_validation():
    net, X = network(), sequences(60)
    pruner = SpectralRNNPruner(net, M, objective="one-step", random_state=0)
    search = GridSearchCV(pruner, {"trajectory_fit": [0, 20]}, cv=2).fit(X)
    assert len(search.cv_results_["params"]) == 2
    found = SpectralRNNPrunerCV(
        net, [3, 6], cv=2, objective="one-step", trajectory_fit=20, random_state=0
    ).fit(X)
    same = fitted(net, 20, X=X, m=found.m_)
    assert torch.equal(found.pruned_module_.rnn.weight_hh_l0, same.pruned_module_.rnn.weight_hh_l0)


def test_partial_fit_fits_to_the_sequences_of_all_calls():
    net, X = network(), sequences()
    pruner = fitted(net, X=X[:60])
    first = min(pruner.trajectory_history_)
    pruner.partial_fit(X[60:])
    assert len(pruner.trajectory_history_) == 6
    assert min(pruner.trajectory_history_) != first


def test_the_progress_bar_tells_its_total(capsys):
    torch.manual_seed(0)
    fitted(Levels(nn.GRU).eval(), 25, m=4, verbose=1)
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    shown = [line for line in lines if line.startswith("trajectory fit")]
    assert " 0/100 " in shown[0]
    assert "100/100" in shown[-1]


def test_an_interrupted_fit_leaves_the_pruner_as_it_was(monkeypatch):
    net = network()
    pruner = fitted(net)
    before = vars(pruner).copy()

    def stop(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(LayerFit, "error", stop)
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(sequences())
    assert vars(pruner).keys() == before.keys()
    assert all(vars(pruner)[name] is value for name, value in before.items())


@pytest.mark.parametrize("value", [-1, 1.5, True, "many"])
def test_steps_have_to_be_a_number(value):
    with pytest.raises((TypeError, ValueError), match="trajectory_fit must be"):
        fitted(network(), value)
