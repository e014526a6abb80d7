"""The backward pass of a layer in the sensitivity: that of finite differences, and of torch."""

import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, make_rnn

from skspectral.rnn.kernels import LayerCall
from skspectral.rnn.layers.weights import weights_of
from skspectral.rnn.losses.through_time import run_layer

every_cell = pytest.mark.parametrize("cell", CELLS)
every_batch = pytest.mark.parametrize("sizes", [None, [3, 3, 2, 1, 1], [2, 2]])
every_bias = pytest.mark.parametrize("bias", [True, False])


def call_of(cell, sizes, bias):
    rnn = make_rnn(cell, bias=bias).double()
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    data = draw(4, 3, N_FEATURES) if sizes is None else draw(sum(sizes), N_FEATURES)
    n_sequences = 3 if sizes is None else sizes[0]
    start = tuple(draw(n_sequences, N_NODES) for _ in range(1 + (rnn.mode == "LSTM")))
    batch_sizes = None if sizes is None else torch.tensor(sizes)
    return LayerCall(rnn.mode, list(weights_of(rnn).values()), data, batch_sizes, start)


def run(call, data, *start):
    n_rows = data[..., 0].numel()
    errors = torch.zeros(n_rows, N_NODES, dtype=data.dtype, requires_grad=True)
    changed = LayerCall(call.mode, call.weights, data, call.batch_sizes, start)
    states, last = run_layer(changed, errors)
    return states, *last


@every_cell
@every_batch
@every_bias
def test_gradients_equal_finite_differences(cell, sizes, bias):
    call = call_of(cell, sizes, bias)
    assert torch.autograd.gradcheck(
        lambda *given: run(call, *given), (call.input, *call.start), eps=1e-6, atol=1e-6
    )


@every_cell
@every_batch
def test_states_and_gradients_equal_those_of_torch(cell, sizes):
    call = call_of(cell, sizes, bias=True)
    given = (call.input, *call.start)
    states, last = call.run()
    expected, found = (states, *last), run(call, *given)
    weights = [torch.randn_like(each) for each in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    gradients = [torch.autograd.grad(outputs, given, weights) for outputs in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@every_cell
def test_the_outputs_may_be_written_into(cell):
    call = call_of(cell, None, bias=True)
    states, *last = run(call, call.input, *call.start)
    expected = 2.0 * torch.autograd.grad(states.sum(), call.input, retain_graph=True)[0]
    states.mul_(2.0)
    for each in last:
        each.zero_()
    found = torch.autograd.grad(states.sum(), call.input)[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
