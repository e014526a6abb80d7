"""Windows that small layers are fitted to."""

import pytest
import torch
from networks import CELLS, N_FEATURES, N_NODES, collector_of, make_rnn
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.kernels import LayerCall
from skspectral.rnn.surgery.verification import names_of
from skspectral.rnn.trajectory.windows import DenseRun, Windows, windows_of

SIZE = 4


class Cells(nn.Module):
    """Runs a cell in a loop, from a state that is given, and another one beside it."""

    def __init__(self, kind):
        super().__init__()
        self.cell = kind(N_FEATURES, N_NODES, dtype=torch.float64)
        self.start = nn.Parameter(torch.randn(2, N_NODES, dtype=torch.float64))

    def forward(self, x):
        found = []
        ways = [[each.expand(len(x), -1) for each in self.start] for _ in range(2)]
        for t in range(x.shape[1]):
            for number, way in enumerate(ways):
                given = tuple(way) if isinstance(self.cell, nn.LSTMCell) else way[0]
                states = self.cell(x[:, t] + number, given)
                ways[number] = list(states) if isinstance(states, tuple) else [states, way[1]]
                found.append(ways[number][0])
        return torch.stack(found)


class Pieces(nn.Module):
    """Runs a layer over pieces of a sequence, each from where the last one ended."""

    def __init__(self, cell):
        super().__init__()
        self.rnn = make_rnn(cell)

    def forward(self, x):
        found, state = [], None
        for piece in x.split(3, 1):
            states, state = self.rnn(piece, state)
            found.append(states)
        return torch.cat(found, 1)


class Packed(nn.Module):
    """Runs a layer over packed sequences."""

    def __init__(self, cell):
        super().__init__()
        self.rnn = make_rnn(cell)

    def forward(self, x):
        lengths = [11, 3, 8, 1]
        parts = [part[:length] for part, length in zip(x, lengths, strict=True)]
        return self.rnn(pack_sequence(parts, enforce_sorted=False))[0].data


MODULES = {
    **{cell: lambda cell=cell: Pieces(cell) for cell in CELLS},
    **{f"{cell}, packed": lambda cell=cell: Packed(cell) for cell in ("gru", "lstm")},
    "both directions": lambda: nn.GRU(3, 5, 2, bidirectional=True, batch_first=True).double(),
    "time first": lambda: make_rnn("lstm", batch_first=False),
    "gru cells": lambda: Cells(nn.GRUCell),
    "lstm cells": lambda: Cells(nn.LSTMCell),
}
STEPS = {"packed": 11 + 3 + 8 + 1, "cells": 2 * 4 * 11}


@pytest.fixture(params=MODULES)
def recorded(request):
    """Windows of every layer of a module, its layers, and how many steps they have to have."""
    module = MODULES[request.param]()
    x = torch.randn(4, 11, N_FEATURES, dtype=torch.float64)
    x = x.transpose(0, 1) if request.param == "time first" else x
    collector = collector_of(module)
    run = DenseRun(names_of(collector.module, collector.layers))
    with torch.no_grad():
        ForwardPass((x,), {}).run(collector.module, run, [])
    n_steps = next((n for name, n in STEPS.items() if name in request.param), 4 * 11)
    windows = {
        name: windows_of(calls, [own.call for own in calls], SIZE)
        for name, calls in run.calls.items()
    }
    return windows, run, n_steps


@torch.no_grad()
def test_the_dense_layer_goes_through_its_states_from_the_start_of_every_window(recorded):
    windows, run, _ = recorded
    for name, found in windows.items():
        call = run.calls[name][0].call
        states, _ = LayerCall(call.mode, call.weights, found.input, None, found.start).run()
        error = (states - found.states) * found.valid
        assert error.abs().max() < 1e-12


def test_every_step_is_in_one_window(recorded):
    windows, run, n_steps = recorded
    for name, found in windows.items():
        inside = found.states[found.valid[:, :, 0]]
        assert len(found.input) <= SIZE
        assert len(inside) == n_steps == int(found.lengths.sum())
        every = torch.cat([own.states.flatten(0, -2) for own in run.calls[name]])
        for steps in (inside, every):
            assert steps.shape == (n_steps, every.shape[-1])
        torch.testing.assert_close(inside.sort(0).values, every.sort(0).values)


def test_windows_of_one_sequence_are_about_as_long():
    rnn = make_rnn("gru")
    run = DenseRun({id(rnn.weight_hh_l0): "l0"})
    with torch.no_grad():
        ForwardPass((torch.randn(1, 9, N_FEATURES, dtype=torch.float64),), {}).run(rnn, run, [])
    calls = run.calls["l0"]
    assert windows_of(calls, [own.call for own in calls], 8).lengths.tolist() == [5, 4]


def test_those_that_are_taken_end_with_the_longest():
    lengths = torch.tensor([2, 5, 3])
    input = torch.randn(5, 3, 2)  # noqa: A001  as in torch
    windows = Windows(input, torch.randn(5, 3, 4), (torch.randn(3, 4),), lengths)
    taken = windows.take(torch.tensor([2, 0]))
    assert taken.lengths.tolist() == [3, 2]
    assert torch.equal(taken.input, input[:3, [2, 0]])
    assert torch.equal(taken.states, windows.states[:3, [2, 0]])
    assert torch.equal(taken.start[0], windows.start[0][[2, 0]])
    assert taken.valid[:, :, 0].T.tolist() == [[True] * 3, [True, True, False]]
