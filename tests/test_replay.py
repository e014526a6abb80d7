"""What comes before the layer is run once, and only where that changes nothing."""

import numpy as np
import pytest
import torch
from networks import N_FEATURES, N_NODES, collector_of, make_rnn, surgery_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skspectral.rnn.closed_loop import ClosedLoop
from skspectral.rnn.cut import Cut
from skspectral.rnn.likelihood import Likelihood
from skspectral.rnn.replay import Replay

SUPPORT = [0, 2, 5]


class Front(nn.Module):
    """A convolution, a layer, a head, and something of a way from the first to the last."""

    def __init__(self, after=None):
        super().__init__()
        self.conv = nn.Conv1d(N_FEATURES, N_FEATURES, 3, padding=1, dtype=torch.float64)
        self.rnn = make_rnn()
        self.head = nn.Linear(N_NODES, 2, dtype=torch.float64)
        self.after = after

    def forward(self, x):
        features = self.conv(x.transpose(1, 2)).relu().transpose(1, 2)
        features = features / features.shape[1]
        answer = self.head(self.rnn(features)[0][:, -1])
        return answer if self.after is None else self.after(answer, features)


def added(answer, features):
    return answer + features.mean((1, 2))[:, None]


def spoiled(answer, features):
    """Changes what was computed before the layer, each time it runs."""
    features.add_(1.0)
    return answer + features.mean((1, 2))[:, None]


class Convolutions(TorchDispatchMode):
    """Counts those that are really done."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func.overloadpacket in (torch.ops.aten.convolution, torch.ops.aten.conv1d)
        return func(*args, **(kwargs or {}))


class Started(Front):
    """Makes a first state of as many nodes as the layer has."""

    def forward(self, x):
        start = x.new_zeros(1, len(x), self.rnn.hidden_size)
        return self.head(self.rnn(x * 2.0, start)[0][:, -1])


def loop_and_cut(module, rng):
    batches = [rng.normal(size=(4, 6, N_FEATURES)) for _ in range(3)]
    collector, surgery = collector_of(module), surgery_of(module, batches[0])
    collector.run(batches[0])
    A, c = 0.3 * rng.normal(size=(N_NODES, 3)), np.zeros(N_NODES)
    A[SUPPORT] = np.eye(3)
    loop = ClosedLoop(collector, surgery, batches, Likelihood("gaussian"))
    return loop, {"rnn.l0": Cut.from_arrays(np.array(SUPPORT), A, c)}


def plain_divergence(loop, cut):
    """With everything run every time."""
    module, total = loop.pruned(cut), 0.0
    with torch.no_grad():
        for (args, kwargs), dense in zip(loop._inputs, loop._answers, strict=True):
            found = Likelihood("gaussian").divergence(dense, module(*args, **kwargs))
            total += float(found.sum()) / loop._unit
    return total


@pytest.mark.parametrize("after", [None, added], ids=["nothing", "added to the answer"])
def test_what_comes_before_the_layer_is_not_run_again(after, rng):
    loop, cut = loop_and_cut(Front(after), rng)
    with Convolutions() as convolutions:
        first = loop.divergence(loop.pruned(cut))
    assert convolutions.n > 0  # to see whether it can be done
    with Convolutions() as convolutions:
        assert loop.divergence(loop.pruned(cut)) == first
    assert convolutions.n == 0
    with Convolutions() as convolutions:
        assert first == pytest.approx(plain_divergence(loop, cut), rel=1e-12)
    assert convolutions.n == 3


@pytest.mark.parametrize("module", [Front(spoiled), Started()], ids=["spoiled", "size of a state"])
def test_it_is_run_again_where_the_answers_would_change(module, rng):
    loop, cut = loop_and_cut(module, rng)
    first = loop.divergence(loop.pruned(cut))
    assert not any(isinstance(shortcut, Replay) for shortcut in loop._shortcuts)
    assert (
        loop.divergence(loop.pruned(cut))
        == first
        == pytest.approx(plain_divergence(loop, cut), rel=1e-12)
    )


def test_tensors_that_only_went_from_one_to_the_next_are_let_go(rng):
    loop, _ = loop_and_cut(Front(), rng)
    results = loop._shortcuts[0]._results
    tensors = [r for r in results if isinstance(r, torch.Tensor) and r.numel()]
    assert [tuple(tensor.shape) for tensor in tensors] == [(4, 6, N_FEATURES)]
