"""Batches in every form that is natural for a module, read by the signature of its ``forward``."""

from collections import UserDict

import numpy as np
import pytest
import torch
from networks import collector_of
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, TensorDataset

from skspectral import SpectralRNNPruner
from skspectral.calibration.hidden_states import first_sequences
from skspectral.calibration.witnesses import Glimpse
from skspectral.data.batches import Forward
from skspectral.data.checks import check_sequences

X, LENGTHS, Y = torch.randn(24, 6, 3), torch.arange(24) % 6 + 1, torch.arange(24) % 2
PARTS = [(x, n, y) for x, n, y in zip(X.split(8), LENGTHS.split(8), Y.split(8), strict=True)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class WithState(Net):
    def forward(self, x, state=None):
        return self.head(self.rnn(x, state)[0][:, -1])


class WithLengths(Net):
    def forward(self, x, n):
        return self.head(self.rnn(x)[0][torch.arange(len(x)), n - 1])


class OfAny(Net):
    def forward(self, *args, **kwargs):
        return super().forward(kwargs["x"] if kwargs else args[0])


class OfNames(Net):
    def forward(self, x, **others):
        assert others.keys() == {"y"}
        return super().forward(x)


class OfMore(Net):
    def forward(self, x, *more):
        assert not more
        return super().forward(x)


class OfList(Net):
    def forward(self, xs):
        assert isinstance(xs, list)
        return super().forward(torch.cat(xs))


class OfDict(Net):
    def forward(self, batch):
        return super().forward(batch["x"])


def loader(*tensors):
    return DataLoader(TensorDataset(*tensors), batch_size=8)


# The module, and X; each is read as what calls the module on all of the sequences.
FORMS = {
    "tensors": (Net, lambda: [x for x, _, _ in PARTS]),
    "arrays": (Net, lambda: [x.numpy() for x, _, _ in PARTS]),
    "iterator of tensors": (Net, lambda: iter([x for x, _, _ in PARTS])),
    "loader": (Net, lambda: loader(X, Y)),
    "list of a loader": (Net, lambda: list(loader(X, Y))),
    "list of a loader of inputs alone": (Net, lambda: list(loader(X))),
    "loader with more than labels": (Net, lambda: loader(X, LENGTHS, Y)),
    "loader, optional arguments": (WithState, lambda: loader(X, Y)),
    "loader of several inputs": (WithLengths, lambda: loader(X, LENGTHS)),
    "loader of several inputs and labels": (WithLengths, lambda: loader(X, LENGTHS, Y)),
    "list of several inputs and labels": (WithLengths, lambda: list(loader(X, LENGTHS, Y))),
    "nested inputs and labels": (WithLengths, lambda: [[[x, n], y] for x, n, y in PARTS]),
    "tuple of one input, labels": (Net, lambda: [[(x,), y] for x, _, y in PARTS]),
    "tuple of inputs, labels": (WithLengths, lambda: [[(x, n), y] for x, n, y in PARTS]),
    "tuples": (WithLengths, lambda: [(x, n) for x, n, _ in PARTS]),
    "tuples of arrays": (WithLengths, lambda: [(x.numpy(), n.numpy()) for x, n, _ in PARTS]),
    "any arguments": (OfAny, lambda: loader(X, Y)),
    "any names": (OfAny, lambda: [{"x": x, "y": y} for x, _, y in PARTS]),
    "a name and any others": (OfNames, lambda: [{"x": x, "y": y} for x, _, y in PARTS]),
    "any more arguments": (OfMore, lambda: [{"x": x, "y": y} for x, _, y in PARTS]),
    "any more arguments, in a list": (OfMore, lambda: loader(X, Y)),
    "dicts": (Net, lambda: [{"x": x} for x, _, _ in PARTS]),
    "dicts with labels": (Net, lambda: [{"x": x, "y": y} for x, _, y in PARTS]),
    "dicts of another kind": (Net, lambda: iter([UserDict(x=x, y=y) for x, _, y in PARTS])),
    "dicts and labels": (Net, lambda: [[{"x": x}, y] for x, _, y in PARTS]),
    "lists for forward": (OfList, lambda: [([x[:3], x[3:]],) for x, _, _ in PARTS]),
    "lists for forward, and labels": (OfList, lambda: [[[x[:3], x[3:]], y] for x, _, y in PARTS]),
    "dicts for forward": (OfDict, lambda: [({"x": x},) for x, _, _ in PARTS]),
    "dicts for forward, as they are": (OfDict, lambda: [{"x": x, "y": y} for x, _, y in PARTS]),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_natural_form_is_read(name):
    net, make = FORMS[name]
    pruner = SpectralRNNPruner(net().eval(), m=3, trajectory_fit=0).fit(make())
    states, _ = net().rnn(X)
    rows = states.detach().double().flatten(0, 1).numpy()
    assert pruner.moments_.n_steps == len(rows)
    np.testing.assert_allclose(pruner.covariance_, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6)
    assert pruner.n_features_in_ == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.longdouble),
        lambda x: x[::-1],
        lambda x: np.broadcast_to(x, x.shape),
    ],
)
def test_arrays_that_torch_does_not_take_are_copied(change):
    batch = change(X.numpy())
    ((_, (found,)),) = check_sequences([batch]).batches(1)
    np.testing.assert_array_equal(found.numpy(), batch)


@pytest.mark.parametrize(
    "entry",
    [np.full((2, 2, 2), None), np.full((2, 2, 2), "a"), ["a", np.zeros((2, 3))], [{}, X[0]]],
)
def test_lists_of_what_is_no_batch_are_refused_at_once(entry):
    with pytest.raises((ValueError, TypeError), match="X"):
        check_sequences([entry, entry])


def test_lists_of_packed_sequences_are_batches():
    batches = [pack_sequence([x[:n] for x, n in zip(X, LENGTHS.tolist(), strict=True)][:6][::-1])]
    pruner = SpectralRNNPruner(nn.GRU(3, 4), m=3, trajectory_fit=0).fit(batches)
    assert pruner.moments_.n_steps == 21


@pytest.mark.parametrize("wrap", [list, np.asarray, torch.as_tensor])
def test_lists_of_two_axes_are_sequences(wrap):
    sequences = [wrap(x.tolist()) for x in X[:4]]
    assert check_sequences(sequences).lengths.tolist() == [6] * 4
    assert check_sequences([sequences[0], sequences[1][:2]]).lengths.tolist() == [6, 2]


def test_lists_of_steps_are_sequences():
    assert check_sequences([list(x) for x in X[:4]]).lengths.tolist() == [6] * 4


# Targets

LABELED = {
    "one input": (Net, lambda: loader(X, Y)),
    "optional arguments": (WithState, lambda: loader(X, Y)),
    "several inputs": (WithLengths, lambda: loader(X, LENGTHS, Y)),
    "nested inputs": (WithLengths, lambda: [[[x, n], y] for x, n, y in PARTS]),
    "dicts": (WithLengths, lambda: [[{"x": x, "n": n}, y] for x, n, y in PARTS]),
    "dicts with targets": (WithLengths, lambda: [{"x": x, "n": n, "tags": y} for x, n, y in PARTS]),
}


@pytest.mark.parametrize("name", LABELED)
def test_the_last_entry_of_a_list_is_what_training_learns(name):
    net, make = LABELED[name]
    pruner = SpectralRNNPruner(net().eval(), m=3, finetune=3, random_state=0, trajectory_fit=0).fit(
        make()
    )
    first, *_, last = pruner.fine_tuning_history_["train"][1:]
    assert last < first
    forward = Forward.of(net())
    inputs, targets = forward.labeled(next(iter(make())), 0)
    assert torch.equal(targets, Y[:8])
    assert torch.equal(inputs["x"] if isinstance(inputs, dict) else inputs[0], X[:8])


@pytest.mark.parametrize(
    ("net", "batch", "needed"),
    [
        (Net, [X], 1),
        (Net, [X, LENGTHS, Y], 1),
        (Net, (X,), 1),
        (Net, (X, LENGTHS, Y), 1),
        (Net, {"x": X}, 1),
        (Net, {"x": X, "lengths": LENGTHS, "y": Y}, 1),
        (Net, {"inputs": X, "y": Y}, 1),
        (WithLengths, [X, LENGTHS], 2),
    ],
)
def test_batches_without_targets_are_told(net, batch, needed):
    pruner = SpectralRNNPruner(net().eval(), m=3, finetune=1, trajectory_fit=0)
    match = f"batch 0 of X brings no targets to train on.*with {needed} of inputs"
    with pytest.raises(ValueError, match=match):
        pruner.fit(iter([batch]))


# What does not fit


@pytest.mark.parametrize(
    ("net", "batch", "missing"),
    [
        (WithLengths, X, "'n'"),
        (WithLengths, [X], "'n'"),
        (WithLengths, {"x": X, "y": Y}, "'n'"),
        (Net, (X, LENGTHS), "too many positional arguments"),
    ],
)
def test_one_sentence_says_what_forward_takes(net, batch, missing):
    match = rf"batch 1 of X does not fit forward\(x.*\) of {net.__name__}: .*{missing}"
    good = {Net: X, WithLengths: (X, LENGTHS)}[net]
    with pytest.raises(TypeError, match=match):
        SpectralRNNPruner(net().eval(), m=3, trajectory_fit=0).fit(iter([good, batch]))


def short(module, batch):
    """The batch that a module is traced and compared on instead of another."""
    collector = collector_of(module)
    n_states = sum(each[..., 0].numel() for each in collector.run(batch).values())
    return first_sequences(collector, batch, Glimpse(0, None, n_states, collector.path))


class ByRows(Net):
    """Names the numbers of sequences and steps wherever it can."""

    def forward(self, x):
        rows = self.rnn(x)[0].reshape(len(x) * x.shape[1], -1)
        return self.head(rows).view(len(x), x.shape[1], -1)


class Warmed(nn.Module):
    """Has the steps first, and leaves out the first twenty."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][20:])


@pytest.mark.parametrize("module", [Net(), ByRows()])
def test_modules_are_compared_on_the_first_sequences(module):
    (x,) = short(module.double(), (torch.randn(60, 6, 3).double(),))
    assert x.shape == (17, 6, 3)


@pytest.mark.parametrize("n_sequences", [16, 20])
def test_steps_are_not_cut(n_sequences):
    batch = (torch.randn(60, n_sequences, 3),)
    assert short(Warmed(), batch) is batch


def test_batches_with_another_way_than_their_first_sequences_stay_whole():
    class BySize(Net):
        def forward(self, x):
            answer = super().forward(x)
            return answer.tanh() if len(x) > 40 else answer

    batch = (torch.randn(60, 6, 3),)
    assert short(BySize(), batch) is batch


@pytest.mark.parametrize(
    "batch", [(torch.randn(60, 6, 3), torch.zeros(1, 60, 8)), (torch.randn(60, 6, 3), None)]
)
def test_batches_of_other_forms_stay_whole(batch):
    assert short(WithState(), batch) is batch
