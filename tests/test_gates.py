"""Gates: their distribution, their price, and that closed ones can be taken out."""

import copy
import itertools

import numpy as np
import pytest
import torch
from models import MODELS, N_NODES, SHAPES, Model, Stack, answers, assert_same, make, sequences
from networks import CELLS, N_FEATURES
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.gates import BETA, GAMMA, ZETA, Gated, HardConcrete
from skspectral.rnn.layers.find import find_layers
from skspectral.rnn.layers.stack import merge_layers, split_layers
from skspectral.rnn.runtime.inputs import SelectedInputs
from skspectral.rnn.states.collector import StateCollector
from skspectral.rnn.surgery.inputs import select_inputs
from skspectral.rnn.surgery.surgery import Surgery
from skspectral.rnn.tracing.tracer import find_readers


def gate(*log_alpha):
    return HardConcrete(torch.tensor(log_alpha, dtype=torch.float64))


def gated_of(net, batch, start=None):
    """Gates on all that runs, half of them closed unless told otherwise."""
    module = split_layers(net.eval())
    collector = StateCollector(module, find_layers(module))
    seen = collector.run(batch)
    layers = [layer for layer in collector.layers if layer.name in seen]
    arguments = collector.arguments(batch)
    readers = find_readers(module, layers, [ForwardPass(*arguments)])
    generator = torch.Generator().manual_seed(1)

    def random(_name, n):
        return 3.0 * torch.randn(n, generator=generator, dtype=torch.float64)

    return Gated(module, layers, readers, start or random).eval(), arguments


def pruned(gated, arguments):
    module, reductions, supports = gated.settled()
    passes = [ForwardPass(*arguments)]
    small = Surgery(module, gated.layers, gated.readers, passes).build_checked(reductions)
    return merge_layers(select_inputs(small, gated.first, supports, arguments))


# Distribution


def test_drawn_gates_are_distributed_as_stretched_binary_concrete():
    for log_alpha in (-2.0, 0.0, 1.0, 3.0):
        gates = gate(*[log_alpha] * 200_000).train()
        values = gates().detach().numpy()
        assert values.min() == 0.0
        assert values.max() == 1.0
        # P(s < x) of the concrete distribution, where the stretched value is x.
        for x in (0.0, 0.25, 0.5, 0.9, 1.0 - 1e-9):
            s = (x - GAMMA) / (ZETA - GAMMA)
            logit = np.log(s) - np.log(1.0 - s)
            expected = 1.0 / (1.0 + np.exp(log_alpha - BETA * logit))
            assert abs((values <= x).mean() - expected) < 0.005


def test_the_probability_of_not_being_zero():
    log_alpha = torch.linspace(-4.0, 4.0, 9, dtype=torch.float64)
    gates = HardConcrete(log_alpha).train()
    found = torch.stack([gates().detach() > 0 for _ in range(5_000)]).double().mean(0)
    np.testing.assert_allclose(gates.probability.detach(), found, atol=0.015)


def test_fixed_gates_are_not_drawn():
    gates = gate(-4.0, 0.0, 4.0).eval()
    middle = 0.5 * (ZETA - GAMMA) + GAMMA
    np.testing.assert_allclose(gates().detach(), [0.0, middle, 1.0])
    np.testing.assert_array_equal(gates.open(), [1, 2])


def test_one_gate_stays_open():
    np.testing.assert_array_equal(gate(-9.0, -8.0, -9.0).open(), [1])


# Price


def test_the_penalty_is_the_expected_number_of_weights():
    net = Stack("lstm", 2, False, True, True, "every step")
    gated, _ = gated_of(net, sequences())
    gated.train()
    (first, second), (inputs,) = gated.nodes, gated.inputs
    read, own = [], []
    for _ in range(5_000):
        s, t, z = ((g().detach() > 0).double() for g in (first, second, inputs))
        read.append(z.sum() * s.sum() + s.sum() * t.sum())
        own.append(s.sum() ** 2 + t.sum() ** 2)
    for prices, counts in (((1.0, 0.0), read), ((0.0, 1.0), own), ((0.3, 2.0), None)):
        expected = 0.3 * np.mean(read) + 2.0 * np.mean(own) if counts is None else np.mean(counts)
        assert gated.penalty(*prices).item() == pytest.approx(expected, rel=0.02)


def test_gradients_reach_all_gates():
    gated, arguments = gated_of(
        Stack("lstm", 2, True, True, True, "last states"),
        sequences(),
        lambda _name, n: torch.full((n,), 0.5, dtype=torch.float64),
    )
    gated.train()
    answer = gated(*arguments[0], **arguments[1])
    (answer.square().sum() + gated.penalty(1.0, 1.0)).backward()
    for each in (*gated.nodes, *gated.inputs):
        assert (each.log_alpha.grad != 0.0).all()
    gated.zero_grad()
    gated(*arguments[0], **arguments[1]).square().sum().backward()
    assert all((each.log_alpha.grad != 0.0).any() for each in (*gated.nodes, *gated.inputs))


# The gated network, with gates that are fixed, and the pruned one


@pytest.mark.parametrize(
    ("cell", "shape", "plain", "read"),
    list(itertools.product(CELLS, SHAPES, [True, False], ["every step", "last states"])),
)
def test_a_stack_behind_gates_is_the_pruned_one(cell, shape, plain, read):
    """Batch first and with biases, or neither."""
    net = Stack(cell, *shape, plain, plain, read)
    gated, arguments = gated_of(net, sequences())
    small = pruned(gated, arguments)
    x = torch.as_tensor(sequences())
    assert_same(answers(small, (x,)), answers(gated, (x,)), tolerance=1e-12)
    n_open = [len(each.open()) for each in gated.nodes]
    assert sum(n_open) < N_NODES * len(n_open)
    widths = {len(weight) for name, weight in small.named_parameters() if "weight_hh" in name}
    assert widths == {m * {"gru": 3, "lstm": 4}.get(cell, 1) for m in n_open}


FOLLOWED = [name for name, (*_, stays) in MODELS.items() if not stays]


@pytest.mark.parametrize("name", FOLLOWED)
def test_any_module_behind_gates_is_the_pruned_one(name):
    net, batch, _ = make(name)
    gated, arguments = gated_of(net, batch)
    small = pruned(gated, arguments)
    found, expected = answers(small, batch), answers(gated, batch)
    if name == "state returned":  # whose size is smaller
        found, expected = found[:1], expected[:1]
    assert_same(found, expected, tolerance=1e-12)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", FOLLOWED)
def test_weights_are_scaled_to_answer_as_before(name):
    net, batch, _ = make(name)
    before = answers(net, batch)
    gated, _ = gated_of(net, batch, lambda _name, n: torch.linspace(0.0, 3.0, n).double())
    gated.compensate()
    assert_same(answers(gated, batch), before, tolerance=1e-12)
    assert_same(answers(net, batch), before, tolerance=0.0)


# Inputs


class Words(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.embedding = nn.Embedding(20, 6, dtype=torch.float64, padding_idx=0)
        self.rnn = nn.LSTM(6, 6, batch_first=True, bidirectional=True, dtype=torch.float64)
        self.head = nn.Linear(12, 20, dtype=torch.float64)
        self.again = nn.Linear(6, 20, bias=False, dtype=torch.float64)
        if tied:
            self.again.weight = self.embedding.weight

    def forward(self, words):
        states = self.rnn(self.embedding(words))[0]
        return self.head(states)


@pytest.mark.parametrize("tied", [False, True])
def test_an_embedding_makes_no_inputs_that_nobody_reads(tied):
    net, words = Words(tied), torch.randint(0, 20, (8, 5))
    gated, arguments = gated_of(net, (words,))
    small = pruned(gated, arguments)
    assert_same(answers(small, (words,)), answers(gated, (words,)), tolerance=1e-12)
    n_open = len(gated.inputs[0].open())
    assert n_open < 6
    assert small.embedding.embedding_dim == (6 if tied else n_open)
    assert isinstance(small.rnn, SelectedInputs) == tied
    assert small.embedding.padding_idx == 0


def test_a_layer_selects_the_inputs_that_it_reads():
    rnn = nn.GRU(2, 4, batch_first=True)
    wide = SelectedInputs(rnn, torch.tensor([0, 2]), 3)
    x = torch.randn(4, 5, 3)
    torch.testing.assert_close(wide(x)[0], rnn(x[..., [0, 2]])[0])
    h = torch.randn(1, 4, 4)
    torch.testing.assert_close(wide(x, h)[1], rnn(x[..., [0, 2]], h)[1])
    parts = [torch.randn(n, 3) for n in (5, 3, 2)]
    packed, narrow = pack_sequence(parts), pack_sequence([part[:, [0, 2]] for part in parts])
    torch.testing.assert_close(wide(packed)[0].data, rnn(narrow)[0].data)
    assert (wide.input_size, wide.hidden_size, wide.batch_first) == (3, 4, True)


def test_the_module_is_left_as_it_is():
    net, batch, _ = make("packed inside")
    before = copy.deepcopy(net.state_dict())
    gated, arguments = gated_of(net, batch)
    gated.compensate()
    inside = copy.deepcopy(gated.state_dict())
    pruned(gated, arguments)
    assert_same(gated.state_dict().values(), inside.values(), tolerance=0.0)
    assert_same(net.state_dict().values(), before.values(), tolerance=0.0)


def test_inputs_beside_states_are_not_gated():
    parts = {
        "rnn": nn.GRU(N_FEATURES, N_NODES, batch_first=True, dtype=torch.float64),
        "second": nn.GRU(N_NODES + N_FEATURES, N_NODES, batch_first=True, dtype=torch.float64),
        "head": nn.Linear(N_NODES, 2, dtype=torch.float64),
    }

    def run(net, x):
        return net.head(net.second(torch.cat([x, net.rnn(x)[0]], -1))[0])

    net, x = Model(run, **parts), torch.as_tensor(sequences())
    gated, arguments = gated_of(net, (x,))
    assert gated.hosts == ("rnn",)
    assert_same(answers(pruned(gated, arguments), (x,)), answers(gated, (x,)), tolerance=1e-12)
