"""Readers refitted to the states that the pruned network reaches."""

import pickle
import re

import numpy as np
import pytest
import torch
from networks import N_FEATURES, Net, linear_reference, make_rnn
from oracles import layer_weights, run_layer
from torch import nn

from skspectral import SpectralRNNPruner
from skspectral.calibration import calibrator
from skspectral.rnn.surgery.refit import Affine, refit

M, N_NODES = 4, 24


def sequences(n=200, n_steps=8):
    return np.random.default_rng(0).normal(size=(n, n_steps, N_FEATURES))


def last(net, states, h):
    return net.head(h[-1])


def every_step(net, states, h):
    return net.head(states)


def after_relu(net, states, h):
    return net.head(states.relu())


def fitted(net, n_refit, X=None):
    if X is None:  # of a handful of batches, none is held out
        X = [(torch.as_tensor(part),) for part in np.split(sequences(), 2)]
    return SpectralRNNPruner(net, M, objective="one-step", n_refit=n_refit, trajectory_fit=0).fit(X)


def network(cell="gru", read=last):
    return Net(make_rnn(cell, n_nodes=N_NODES), read).eval()


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize(("read", "steps"), [(last, np.s_[:, -1:]), (every_step, np.s_[:])])
def test_it_is_the_ridge_regression_of_the_dense_answers(cell, read, steps):
    net, X = network(cell, read), sequences()
    folded, small = (fitted(net, n).pruned_module_ for n in (0, 2048))
    narrow = run_layer(small.rnn, X)[steps].reshape(-1, M)
    wide = run_layer(net.rnn, X)[steps].reshape(-1, N_NODES)
    z = np.column_stack([narrow, np.ones(len(narrow))])
    before = np.column_stack([folded.head.weight.detach(), folded.head.bias.detach()])
    ridge = (z**2).sum() / len(z)
    missing = linear_reference(net.head)(wide) - z @ before.T
    change = np.linalg.solve(z.T @ z + ridge * np.eye(M + 1), z.T @ missing).T
    after = np.column_stack([small.head.weight.detach(), small.head.bias.detach()])
    np.testing.assert_allclose(after - before, change, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(small.rnn.weight_hh_l0.detach(), folded.rnn.weight_hh_l0.detach())


@pytest.mark.filterwarnings("ignore:The reconstruction:UserWarning")
@pytest.mark.parametrize("read", [last, every_step, after_relu])
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_answers_get_closer(cell, read):
    net, X = network(cell, read), sequences(2000)
    other = torch.as_tensor(np.random.default_rng(1).normal(size=(500, 8, N_FEATURES)))
    errors = []
    for n_refit in (0, 2048):
        small = fitted(net, n_refit, X).pruned_module_
        with torch.no_grad():
            errors.append(float((small(other) - net(other)).square().mean()))
    assert errors[1] < errors[0]


def test_the_reconstruction_that_stays_is_refitted_itself():
    net, X = network(read=after_relu), sequences()
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        small = fitted(net, 2048).pruned_module_
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        folded = fitted(net, 0).pruned_module_
    wide, errors = run_layer(net.rnn, X), []
    for module in (folded, small):
        narrow = run_layer(module.rnn.rnn, X)
        rebuilt = linear_reference(module.rnn.expand_output[0])(narrow)
        errors.append(((rebuilt - wide) ** 2).mean())
    assert errors[1] < errors[0]


def test_keeping_all_nodes_changes_nothing():
    net = network()
    kept = SpectralRNNPruner(net, 1.0, trajectory_fit=0).fit(sequences()).pruned_module_
    for name, weight in kept.state_dict().items():
        torch.testing.assert_close(weight, net.state_dict()[name], rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
def test_few_sequences_hardly_move_a_reader():
    net, moves = network(), []
    for n in (2, 200):
        folded, small = (fitted(net, k, sequences(n)).pruned_module_ for k in (0, 2048))
        moves.append(float((small.head.weight - folded.head.weight).detach().norm()))
    assert 0.0 < moves[0] < moves[1]


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
def test_states_of_zero_do_not_move_a_reader():
    net = network()
    with torch.no_grad():
        net.rnn.bias_ih_l0.zero_()
        net.rnn.bias_hh_l0.zero_()
    silent = np.zeros((5, 4, N_FEATURES))
    folded, small = (fitted(net, n, silent).pruned_module_ for n in (0, 2048))
    torch.testing.assert_close(small.head.weight, folded.head.weight, rtol=1e-12, atol=0)


class Halting(nn.Module):
    """Asks its reader as often as the states say."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = make_rnn("gru", n_nodes=N_NODES), nn.Linear(N_NODES, 2).double()

    def forward(self, x):
        states = self.rnn(x)[0]
        wanted = 1 + int(states.shape[-1] == N_NODES)
        return sum(self.head(states[:, -step]) for step in range(1, wanted + 1))


def test_a_reader_that_is_asked_otherwise_keeps_its_fold():
    net = Halting()
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        small = fitted(net, 2048).pruned_module_
    assert small(torch.as_tensor(sequences(3))).shape == (3, 2)


def test_a_bare_layer_has_no_readers():
    rnn = make_rnn("gru", n_nodes=N_NODES)
    one, other = (layer_weights(fitted(rnn, n).pruned_module_) for n in (0, 2048))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_bad_count_is_named(value, error):
    with pytest.raises(error, match="n_refit must be an int of at least 0"):
        fitted(network(), value)


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("both", [True, False])
def test_upper_levels_are_refitted_to_those_below(cell, both):
    torch.manual_seed(0)
    net, X = Levels(cell, both).eval(), sequences(500)
    folded, small = (fitted(net, n, X).pruned_module_ for n in (0, 2048))
    for suffix in ("", "_reverse")[: 1 + both]:
        name = f"weight_ih_l1{suffix}"
        assert not torch.equal(getattr(small.rnn, name), getattr(folded.rnn, name))
        for name in (f"weight_hh_l1{suffix}", f"weight_ih_l0{suffix}", f"weight_hh_l0{suffix}"):
            torch.testing.assert_close(getattr(small.rnn, name), getattr(folded.rnn, name))
    other = torch.as_tensor(np.random.default_rng(1).normal(size=(500, 8, N_FEATURES)))
    with torch.no_grad():
        errors = [float((module(other) - net(other)).square().mean()) for module in (folded, small)]
    assert errors[1] < errors[0]


class Levels(nn.Module):
    """Two levels."""

    def __init__(self, cell, both):
        super().__init__()
        self.rnn = make_rnn(cell, n_nodes=N_NODES, num_layers=2, bidirectional=both)
        self.head = nn.Linear(N_NODES * (1 + both), 2).double()

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def test_a_layer_that_reads_itself_is_not_refitted():
    cell, head = nn.GRUCell(N_NODES, N_NODES).double(), nn.Linear(N_NODES, 2).double()

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = cell, head

        def forward(self, x):
            h = x[:, 0].repeat(1, N_NODES // N_FEATURES)
            for _ in range(4):
                h = self.cell(h, h)
            return self.head(h)

    X = sequences(50)
    states = [(torch.as_tensor(X),)]
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        folded = fitted(Own(), 0, iter(states)).pruned_module_
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        small = fitted(Own(), 2048, iter(states)).pruned_module_
    torch.testing.assert_close(small.cell.rnn.weight_ih, folded.cell.rnn.weight_ih)


@pytest.mark.filterwarnings("ignore:The reconstruction:UserWarning")
def test_a_module_may_go_on_from_the_states_it_got():
    class Going(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = make_rnn("lstm", n_nodes=N_NODES), nn.Linear(N_NODES, 2).double()

        def forward(self, x, state=None):
            states, state = self.rnn(x, state)
            return self.head(states.relu()), state

    net, X = Going(), torch.as_tensor(sequences(100))
    small = fitted(net, 2048, iter([(X,)])).pruned_module_
    with torch.no_grad():
        whole, _ = small(X)
        first, state = small(X[:, :3])
        rest, _ = small(X[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)


def test_a_cell_goes_on_from_the_states_it_shows():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(N_FEATURES, N_NODES).double()
            self.head = nn.Linear(N_NODES, 2).double()

        def forward(self, x):
            h, answers = None, []
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
                answers.append(self.head(h.relu()))
            return torch.stack(answers, 1)

    net, X = Loop(), torch.as_tensor(sequences(300))
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        pruner = fitted(net, 2048, iter([(X,)]))
    expand = pruner.pruned_module_.cell.expand[0].weight.detach()
    torch.testing.assert_close(expand[pruner.support_], torch.eye(M).double())
    assert not torch.allclose(expand, torch.as_tensor(pruner.reconstruction_))


def drift_apart(net, pruner, X):
    """Mean square by which the answers of the pruned network are off."""
    with torch.no_grad():
        apart = net(torch.as_tensor(X)) - pruner.pruned_module_(torch.as_tensor(X))
    return float(apart.square().mean())


def loud_and_faint():
    X = np.random.default_rng(0).normal(size=(96, 12, N_FEATURES))
    return 2.0 * X[:48], 0.05 * X[48:]


@pytest.mark.parametrize("cell", ["gru", "tanh"])
def test_readers_are_fitted_to_the_sequences_of_all_calls(cell):
    torch.manual_seed(0)
    net = Net(make_rnn(cell, n_nodes=16), every_step).eval()
    loud, faint = loud_and_faint()
    parts = (
        SpectralRNNPruner(net, m=4, objective="input", trajectory_fit=0)
        .fit(loud)
        .partial_fit(faint)
    )
    whole = SpectralRNNPruner(net, m=4, objective="input", trajectory_fit=0).fit(
        np.concatenate([loud, faint])
    )
    np.testing.assert_array_equal(parts.support_, whole.support_)
    assert drift_apart(net, parts, loud) < 1.2 * drift_apart(net, whole, loud)


def test_each_call_has_its_share_of_the_sequences_that_are_kept(monkeypatch):
    monkeypatch.setattr(calibrator, "N_COMPARED", 0)
    loud, faint = loud_and_faint()
    pruner = SpectralRNNPruner(
        make_rnn(), m=3, objective="input", n_refit=24, trajectory_fit=0
    ).fit(loud)
    pruner.partial_fit(faint).partial_fit(faint)
    kept = np.concatenate(pruner._sample)
    most = max(map(len, pruner._sample))
    assert 24 <= len(kept) < 24 + 2 * most
    assert (np.abs(kept).max((1, 2)) > 0.5).mean() == pytest.approx(1 / 3, abs=most / 24)


def test_what_is_kept_of_the_sequences_does_not_go_into_a_file():
    loud, faint = loud_and_faint()
    pruner = SpectralRNNPruner(make_rnn(), m=3, trajectory_fit=0).fit(loud)
    loaded = pickle.loads(pickle.dumps(pruner))
    assert not hasattr(loaded, "_sample")
    assert loaded.partial_fit(faint).moments_.n_steps == 96 * 12


class Undecided(nn.Module):
    """Reads its states once more where its answer is high: how often hangs on the network."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(N_FEATURES, N_NODES, batch_first=True), nn.Linear(N_NODES, 1)
        self.high = 0.0

    def forward(self, x):
        state = self.rnn(x)[0][:, -1]
        answer = self.head(state)
        return answer + self.head(state) if answer.mean() > self.high else answer


def test_a_reader_that_reads_otherwise_is_told_in_the_summary():
    net, X = Undecided(), sequences().astype(np.float32)
    with torch.no_grad():
        net.high = float(net.head(net.rnn(torch.as_tensor(X))[0][:, -1]).mean())
    pruner = SpectralRNNPruner(net, 1, objective="one-step", trajectory_fit=0).fit(X)
    cell = pruner.summary(as_frame=True).loc["rnn.l0", "reconstruction"]
    assert re.match(r"folded; head is not refitted: it reads \d+ states where in the dense ", cell)
    plain = SpectralRNNPruner(net, 1, objective="one-step", n_refit=0, trajectory_fit=0).fit(X)
    for one, other in zip(
        pruner.pruned_module_.parameters(), plain.pruned_module_.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert plain.summary(as_frame=True).loc["rnn.l0", "reconstruction"] == "folded"


@pytest.mark.parametrize(
    ("dense", "small", "reason"),
    [
        (torch.ones(3, 2), torch.ones(4, 1), "it reads 4 states where in the dense .* reads 3"),
        (torch.ones(0, 2), torch.ones(0, 1), "it reads no states in one of the batches"),
        (torch.ones(3, 2), torch.full((3, 1), np.inf), "the states that it reads are not finite"),
    ],
)
def test_a_reader_that_cannot_be_refitted_stays_and_says_why(dense, small, reason):
    wide, narrow = nn.Linear(2, 1), nn.Linear(1, 1)
    before = narrow.weight.clone()
    assert re.match(reason, refit(Affine.of(wide), Affine.of(narrow), [(dense, small)]))
    assert torch.equal(narrow.weight, before)
    assert refit(Affine.of(wide), Affine.of(narrow), [(torch.ones(3, 2), torch.ones(3, 1))]) is None
    assert not torch.equal(narrow.weight, before)


def test_deleted_nodes_leave_the_readers_of_the_kept_ones_alone():
    torch.manual_seed(0)
    net, x = Net(make_rnn("gru"), last).eval(), np.random.default_rng(0).normal(size=(40, 9, 3))
    pruner = SpectralRNNPruner(net, m=3, reconstruction="none", trajectory_fit=0).fit(x)
    kept = net.head.weight[:, torch.as_tensor(pruner.support_)]
    torch.testing.assert_close(pruner.pruned_module_.head.weight, kept, rtol=0.0, atol=0.0)
