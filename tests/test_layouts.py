"""The layout that a module wants its sequences in."""

import numpy as np
import pytest
import torch
from networks import N_FEATURES, Net, collector_of, make_rnn
from oracles import run_layer
from torch import nn

from skspectral.rnn.states.collector import LAYOUTS

LENGTHS = pytest.mark.parametrize("n_steps", [1, 2, 3, 6])


def assert_states(module, x, features=None, layout=None):
    """States are those of the recurrence on the features, and the layout is found."""
    collector = collector_of(module)
    ((name, states),) = collector.run(x).items()
    rnn = collector.layers[0].of(collector.module)
    assert name == collector.layers[0].name
    expected = run_layer(rnn, x if features is None else features)
    np.testing.assert_allclose(states.numpy(), expected, rtol=0, atol=1e-12)
    assert layout in (None, collector.layout)


class Univariate(nn.Module):
    """Takes (batch, time), or (time, batch) where its layer is time first."""

    def __init__(self, batch_first):
        super().__init__()
        self.rnn = make_rnn(n_features=1, batch_first=batch_first)

    def forward(self, x):
        if x.ndim != 2:
            raise ValueError("two axes, please")
        return self.rnn(x.unsqueeze(2))[1]


class Embedding(nn.Module):
    """Takes token ids."""

    def __init__(self, batch_first):
        super().__init__()
        self.embedding = nn.Embedding(9, N_FEATURES, dtype=torch.float64)
        self.rnn = make_rnn(batch_first=batch_first)

    def forward(self, x):
        return self.rnn(self.embedding(x))[1]


class Transposing(nn.Module):
    """Takes (batch, time, feature) and runs its layer the other way round."""

    def __init__(self, batch_first):
        super().__init__()
        self.rnn = make_rnn(batch_first=batch_first)

    def forward(self, x):
        return self.rnn(x.transpose(0, 1))[1]


class Viewing(nn.Module):
    """Takes every step through a view of the batch."""

    def __init__(self, batch_first):
        super().__init__()
        self.rnn = make_rnn(batch_first=batch_first)

    def forward(self, x):
        return self.rnn(x.view(-1, N_FEATURES).view(x.shape))[1]


@pytest.mark.parametrize(
    ("module", "batch_first", "layout"),
    [
        (Univariate, True, "univariate, batch first"),
        (Univariate, False, "univariate, time first"),
        (Transposing, False, "batch first"),
        (Transposing, True, "time first"),
        (Viewing, True, "batch first"),
        (Viewing, False, "time first"),
    ],
)
@LENGTHS
def test_layout_is_found_from_what_the_layer_sees(module, batch_first, layout, n_steps, rng):
    net = module(batch_first)
    x = rng.normal(size=(5, n_steps, net.rnn.input_size))
    assert_states(net, x, layout=layout)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@LENGTHS
def test_token_ids_are_embedded(batch_first, dtype, n_steps, rng):
    net = Embedding(batch_first)
    ids = rng.integers(0, 9, size=(5, n_steps)).astype(dtype)
    assert_states(net, ids, features=net.embedding.weight.detach().numpy()[ids])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_two_axes_are_univariate_sequences(cell, rng):
    net = Net(make_rnn(cell, n_features=1), lambda net, states, h: net.head(h[-1]))
    x = rng.normal(size=(5, 6))
    assert_states(net, x, features=x[:, :, None])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_found_layout_is_kept_for_later_batches(layout, rng):
    net = (Univariate if "univariate" in layout else Viewing)("batch" in layout).eval()
    collector = collector_of(net)
    for shape in ((5, 6), (2, 3), (3, 2), (1, 1)):
        x = rng.normal(size=(*shape, net.rnn.input_size))
        expected = run_layer(net.rnn, x)
        np.testing.assert_allclose(collector.run(x)["rnn.l0"], expected, rtol=0, atol=1e-12)
        assert collector.layout == layout


@pytest.mark.parametrize("n_features", [1, 2, 4])
def test_sequences_that_do_not_fit_are_named(n_features, rng):
    rnn, x = make_rnn(), rng.normal(size=(5, 6, n_features))
    match = (
        rf"X with sequences of shape \(6, {n_features}\) does not go through GRU: .*{n_features}"
    )
    with pytest.raises(ValueError, match=match):
        collector_of(rnn).run(x)
