"""The sensitivity: exactly what finite differences of a projection of the answers give."""

import numpy as np
import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, Net, collector_of, linear_reference, make_rnn
from oracles import layer_weights, run_cell
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from skspectral import InformationLoss, SpectralRNNPruner
from skspectral.rnn.losses.likelihood import Likelihood
from skspectral.rnn.losses.sensitivity import sensitivity

STEP = 1e-5
WHITENING = np.random.default_rng(1).normal(size=(N_NODES, N_NODES))
every_cell = pytest.mark.parametrize("cell", CELLS)


def last_step(net, states, h):
    return net.head(h[-1])


def every_step(net, states, h):
    return net.head(states if net.batch_first else states.transpose(0, 1))


READS = {"last step": (last_step, lambda s: s[:, -1]), "every step": (every_step, lambda s: s)}
LIKELIHOODS = {
    "logits": Likelihood("categorical"),
    "probabilities": Likelihood("categorical", probabilities=True),
    "yes or no": Likelihood("bernoulli"),
    "numbers": Likelihood("gaussian"),
}


class Answering(nn.Module):
    """A module whose logits become probabilities if need be."""

    def __init__(self, net, likelihood):
        super().__init__()
        self.net, self.probabilities = net, likelihood.probabilities

    def forward(self, x):
        logits = self.net(x)
        return logits.softmax(-1) if self.probabilities else logits


def products(module, batches, likelihood, seed=3):
    collector = collector_of(module)
    whitening = {layer.name: WHITENING for layer in collector.layers}
    (found,) = sensitivity(collector, batches, likelihood, whitening, seed).values()
    return found.numpy()


def measured(module, x, likelihood):
    return products(module, [x], likelihood)


def projections(logits, states, likelihood, batch_first, seed=3):
    """The directions that this seed gives; none along what the logits have in common."""
    generators = [torch.Generator().manual_seed(seed + i) for i in range(2)]
    of_answers = torch.randn(logits.shape, generator=generators[0]).numpy()
    if likelihood.family == "categorical":
        of_answers -= of_answers.mean(-1, keepdims=True)
    split_layers = states if batch_first else states.swapaxes(0, 1)
    rows = split_layers.reshape(-1, N_NODES)
    rows = rows[torch.randperm(len(rows), generator=generators[1]).numpy()]
    strength = torch.randn(len(rows), 1, generator=generators[1]).numpy()
    of_states = (strength * (rows @ WHITENING)).reshape(split_layers.shape)
    return of_answers, of_states if batch_first else of_states.swapaxes(0, 1)


def by_differences(rnn, head, x, pick, likelihood):
    """G of the answers and of the states from central differences of their projections."""

    def outcome(errors):
        before = np.concatenate([np.zeros_like(errors[:, :1]), errors[:, :-1]], axis=1)
        states = run_cell(rnn.mode, layer_weights(rnn), x, before) + errors
        return head(pick(states)), states

    zero = np.zeros((*x.shape[:2], N_NODES))
    directions = projections(*outcome(zero), likelihood, rnn.batch_first)
    gradients = np.empty((2, *zero.shape))
    for t in range(x.shape[1]):
        for node in range(N_NODES):
            error = zero.copy()
            error[:, t, node] = STEP
            for i, (one, other) in enumerate(zip(outcome(error), outcome(-error), strict=True)):
                change = directions[i] * (one - other)
                gradients[i, :, t, node] = change.reshape(len(x), -1).sum(1)
    gradients = (gradients / (2 * STEP)).reshape(2, -1, N_NODES)
    return gradients.swapaxes(1, 2) @ gradients / gradients.shape[1]


@every_cell
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_it_equals_finite_differences(cell, batch_first, read, kind, rng):
    forward, pick = READS[read]
    likelihood = LIKELIHOODS[kind]
    net = Net(make_rnn(cell, batch_first=batch_first), forward)
    x = rng.normal(size=(3, 4, N_FEATURES))
    expected = by_differences(net.rnn, linear_reference(net.head), x, pick, likelihood)
    module = Answering(net, likelihood)
    module.batch_first = batch_first
    np.testing.assert_allclose(
        measured(module, x, likelihood), expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max()
    )


@every_cell
def test_a_layer_without_bias_has_it_too(cell, rng):
    net = Net(make_rnn(cell, bias=False), last_step)
    x, likelihood = rng.normal(size=(3, 4, N_FEATURES)), Likelihood("categorical")
    expected = by_differences(
        net.rnn, linear_reference(net.head), x, lambda s: s[:, -1], likelihood
    )
    np.testing.assert_allclose(measured(net, x, likelihood), expected, rtol=1e-5, atol=1e-9)


class TwoLevels(nn.Module):
    """A layer that reads another one, and a head on its last step."""

    def __init__(self, cell):
        super().__init__()
        self.below, self.above = make_rnn(cell), make_rnn(cell, N_NODES)
        self.head = nn.Linear(N_NODES, 2, dtype=torch.float64)

    def forward(self, x):
        return self.head(self.above(self.below(x)[0])[0][:, -1])


@every_cell
def test_errors_of_a_layer_reach_the_outputs_through_the_layer_above(cell, rng):
    net, x = TwoLevels(cell), rng.normal(size=(3, 4, N_FEATURES))
    collector = collector_of(net)
    whitening = {layer.name: WHITENING for layer in collector.layers}
    found = sensitivity(collector, [x], Likelihood("gaussian"), whitening, 3)
    above, head = layer_weights(net.above), linear_reference(net.head)
    directions = torch.randn(3, 2, generator=torch.Generator().manual_seed(3)).numpy()

    def outcome(errors):
        before = np.concatenate([np.zeros_like(errors[:, :1]), errors[:, :-1]], axis=1)
        states = run_cell(net.below.mode, layer_weights(net.below), x, before) + errors
        return (directions * head(run_cell(net.above.mode, above, states)[:, -1])).sum(1)

    gradients = np.empty((3, 4, N_NODES))
    for t in range(4):
        for node in range(N_NODES):
            error = np.zeros_like(gradients)
            error[:, t, node] = STEP
            gradients[:, t, node] = (outcome(error) - outcome(-error)) / (2 * STEP)
    rows = gradients.reshape(-1, N_NODES)
    expected = rows.T @ rows / len(rows)
    np.testing.assert_allclose(
        found["below.l0"][0], expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max()
    )


class WritingStates(nn.Module):
    """Writes into the states that it starts from, and into those that it ends with."""

    def __init__(self, cell):
        super().__init__()
        self.rnn, self.head = make_rnn(cell), nn.Linear(N_NODES, 2, dtype=torch.float64)
        self.register_buffer("start", torch.zeros(1, 3, N_NODES, dtype=torch.float64))

    def forward(self, x):
        start, answer = self.start, self.rnn(x)[0][:, -1]
        _, last = self.rnn(x, (start, start) if self.rnn.mode == "LSTM" else start)
        (last[0] if self.rnn.mode == "LSTM" else last).mul_(0.0)
        start.add_(1.0)
        return self.head(answer)


@every_cell
def test_forward_may_write_into_states(cell, rng):
    net, x = WritingStates(cell), rng.normal(size=(3, 4, N_FEATURES))
    found, _ = products(net, [(torch.as_tensor(x),)], Likelihood("gaussian"))
    plain = Net(net.rnn, last_step)
    plain.head = net.head
    expected, _ = products(plain, [x], Likelihood("gaussian"))
    np.testing.assert_allclose(2.0 * found, expected, rtol=1e-9)  # of twice as many steps


class Packing(nn.Module):
    """Reads the last valid step of padded sequences, packed on the way and started from a state."""

    def __init__(self, cell):
        super().__init__()
        self.rnn = make_rnn(cell)
        self.head = nn.Linear(N_NODES, 2, dtype=torch.float64)

    def forward(self, x, lengths, start):
        start = (start, torch.zeros_like(start)) if self.rnn.mode == "LSTM" else start
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed, start)[0], batch_first=True)
        return self.head(states[torch.arange(len(x)), lengths - 1])


class Plain(Packing):
    """The same for one sequence, which needs no packing."""

    def forward(self, x, start):
        start = (start, torch.zeros_like(start)) if self.rnn.mode == "LSTM" else start
        return self.head(self.rnn(x, start)[0][:, -1])


@every_cell
def test_packed_sequences_count_their_valid_steps(cell, rng):
    lengths = torch.tensor([2, 5, 3, 5])
    x = torch.as_tensor(rng.normal(size=(4, 5, N_FEATURES)))
    start = torch.as_tensor(rng.normal(size=(1, 4, N_NODES)))
    packing, plain = Packing(cell), Plain(cell)
    plain.load_state_dict(packing.state_dict())
    apart = [(x[i : i + 1, :n], start[:, i : i + 1]) for i, n in enumerate(lengths)]
    # The same directions of the answers are drawn for one sequence after another.
    packed, _ = products(packing, [(x, lengths, start)], Likelihood("gaussian"))
    expected, _ = products(plain, apart, Likelihood("gaussian"))
    np.testing.assert_allclose(packed, expected, rtol=1e-9)


def test_more_batches_are_one_mean(rng):
    net, likelihood = Net(make_rnn("gru"), last_step), Likelihood("gaussian")
    x = rng.normal(size=(24, 4, N_FEATURES))  # numbers are drawn in blocks of 16
    parts, _ = products(net, [x[:8], x[8:]], likelihood)
    whole, _ = products(net, [x], likelihood)
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def test_after_enough_steps_no_further_batch_is_run(rng, monkeypatch):
    net, likelihood = Net(make_rnn("gru"), last_step), Likelihood("gaussian")
    x = rng.normal(size=(24, 4, N_FEATURES))
    monkeypatch.setattr("skspectral.rnn.losses.sensitivity.MOST_STEPS", 32)
    parts = products(net, [x[:8], x[8:]], likelihood)
    np.testing.assert_array_equal(parts, products(net, [x[:8]], likelihood))


def test_the_module_is_left_as_it_is(rng):
    net = Net(make_rnn("lstm"), last_step)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    measured(net, rng.normal(size=(3, 4, N_FEATURES)), Likelihood("categorical"))
    assert net.rnn.mode == "LSTM"
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_an_answer_without_derivatives_has_none(rng):
    net = Net(make_rnn("gru"), lambda net, states, h: net.head(h[-1].detach()))
    of_answers, of_states = measured(
        net, rng.normal(size=(3, 4, N_FEATURES)), Likelihood("categorical")
    )
    np.testing.assert_array_equal(of_answers, 0.0)
    assert np.linalg.eigvalsh(of_states).min() > 0.0


class Overwriting(nn.Module):
    """Spoils what the backward pass needs."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(N_FEATURES, N_NODES, batch_first=True)
        self.head = nn.Linear(N_NODES, 2)

    def forward(self, x):
        states = self.rnn(x)[0]
        answer = self.head(states[:, -1]).tanh()
        answer.mul_(2.0)
        return answer


def test_a_module_that_cannot_be_differentiated_is_pruned_without(rng):
    module = Overwriting()
    X = rng.normal(size=(20, 5, N_FEATURES))
    with pytest.warns(UserWarning, match="left out of the objective, since Overwriting cannot"):
        pruner = SpectralRNNPruner(module, m=3, trajectory_fit=0).fit(X)
    plain = SpectralRNNPruner(module, m=3, objective="one-step", trajectory_fit=0).fit(X)
    np.testing.assert_array_equal(pruner.support_, plain.support_)


def test_the_objective_goes_by_as_many_sequences_as_it_says(rng):
    X = rng.normal(size=(600, 5, N_FEATURES))
    net = Net(make_rnn("gru"), last_step)
    few, more, again = (
        SpectralRNNPruner(net, m=3, objective=InformationLoss(n_sensitivity=n), trajectory_fit=0)
        .fit(X)
        .sensitivity_
        for n in (64, 512, 64)
    )
    np.testing.assert_array_equal(few, again)
    assert not np.allclose(few, more, rtol=1e-3)
