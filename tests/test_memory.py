"""What is kept on disk: found again when nothing has changed, and never otherwise."""

import copy
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from passes import passes
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from test_pruner import LABELS, N_NODES, RNG, TARGET, X, network
from torch import nn

from skspectral import RNNClassifier, RNNRegressor, SpectralRNNPruner
from skspectral.data.memory import cached, content_hash

RATIOS = np.linspace(0.1, 0.9, 10)
RAGGED = [X[i, : 3 + i % 6] for i in range(20)]
TRAINED = dict.fromkeys(("training", "evaluation"), 0)


def small_classifier(**params):
    return RNNClassifier(N_NODES, **{"max_epochs": 2, "random_state": 0} | params)


def weights(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def time_first():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.LSTM(3, N_NODES)


class Normed(nn.Module):
    """Holds what a module can hold: parameters, buffers, a nested module, a plain attribute."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.register_buffer("shift", torch.zeros(3))
        self.register_buffer("passing", torch.zeros(3), persistent=False)
        self.scale = 1.0

    def forward(self, x):
        return self.net((x - self.shift - self.passing) * self.scale)


# The same result, from memory or not


@pytest.mark.parametrize(
    ("make", "data", "y"),
    [
        (network, X, None),
        (network, RAGGED, None),
        (network, torch.tensor(X), None),
        (time_first, X, None),
        (Normed, X, None),
        (small_classifier, X, LABELS),
        (partial(RNNRegressor, N_NODES, max_epochs=2, random_state=0), X, TARGET),
    ],
    ids=["module", "ragged", "tensor", "time first", "buffers", "classifier", "regressor"],
)
def test_what_is_recalled_is_what_was_made(make, data, y, tmp_path):
    plain = SpectralRNNPruner(make(), m=5, trajectory_fit=0).fit(data, y)
    made = SpectralRNNPruner(make(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(data, y)
    with passes(N_NODES) as count:
        found = SpectralRNNPruner(make(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(data, y)
    assert count == TRAINED
    for pruner in (made, found):
        assert pruner._layout == plain._layout
        np.testing.assert_array_equal(pruner.covariance_, plain.covariance_)
        np.testing.assert_array_equal(pruner.loss_path_, plain.loss_path_)
        np.testing.assert_equal(weights(pruner.pruned_module_), weights(plain.pruned_module_))
        np.testing.assert_equal(pruner.transform(data), plain.transform(data))
        assert pruner.score(data, y) == plain.score(data, y)


@pytest.mark.parametrize("wrap", [str, Path, partial(joblib.Memory, verbose=0)])
def test_memory_is_a_path_or_a_memory(wrap, tmp_path):
    SpectralRNNPruner(network(), m=5, memory=wrap(tmp_path), trajectory_fit=0).fit(X)
    with passes(N_NODES) as count:
        clone(SpectralRNNPruner(network(), m=3, memory=wrap(tmp_path), trajectory_fit=0)).fit(X)
    assert count == TRAINED


def test_moments_recalled_through_a_memory_map_can_be_added_to(tmp_path):
    memory = joblib.Memory(tmp_path, mmap_mode="r", verbose=0)
    whole = (
        SpectralRNNPruner(network(), m=5, trajectory_fit=0).partial_fit(X[:13]).partial_fit(X[13:])
    )
    for _ in range(2):
        parts = SpectralRNNPruner(network(), m=5, memory=memory, trajectory_fit=0)
        parts.partial_fit(X[:13]).partial_fit(X[13:])
        np.testing.assert_array_equal(parts.covariance_, whole.covariance_)


# How often the network runs


@pytest.mark.parametrize("labeled", [True, False])
def test_ten_ratios_cost_the_passes_of_one(labeled, tmp_path):
    estimator, y = (small_classifier(), LABELS) if labeled else (network(), None)
    counts = []
    for ratios in (RATIOS[:1], RATIOS):
        pruner = SpectralRNNPruner(
            estimator, memory=str(tmp_path / str(len(ratios))), trajectory_fit=0
        )
        with passes(N_NODES) as count:
            GridSearchCV(pruner, {"m": ratios}, cv=2).fit(X, y)
        counts.append(count)
    assert counts[0] == counts[1]
    assert counts[0]["evaluation"] > 0
    assert (counts[0]["training"] > 0) == labeled


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
@pytest.mark.usefixtures("little_training")
def test_grid_search_finds_the_same_with_and_without(tmp_path):
    plain, kept = (
        GridSearchCV(
            SpectralRNNPruner(random_state=0, memory=memory, trajectory_fit=0),
            {"m": [0.05, 0.1, 0.5]},
            scoring="neg_log_loss",
            cv=2,
        ).fit(X, LABELS)
        for memory in (None, str(tmp_path))
    )
    np.testing.assert_array_equal(
        kept.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    assert kept.best_params_ == plain.best_params_


# What has changed is not found


def weight_changed(pruner):
    with torch.no_grad():
        pruner.estimator.net.rnn.weight_hh_l0[0, 0] += 1e-6


def head_changed(pruner):
    with torch.no_grad():
        pruner.estimator.net.head.bias[0] += 1e-6


def buffer_changed(pruner):
    pruner.estimator.shift += 1e-6


def hidden_buffer_changed(pruner):
    pruner.estimator.passing += 1e-6


def attribute_changed(pruner):
    pruner.estimator.scale = 2.0


def structure_changed(pruner):
    pruner.estimator.net.head = nn.Sequential(pruner.estimator.net.head, nn.Identity())


def dtype_changed(pruner):
    pruner.estimator.double()


def batch_changed(pruner):
    pruner.batch_size = 7


@pytest.mark.parametrize(
    "change",
    [
        weight_changed,
        head_changed,
        buffer_changed,
        hidden_buffer_changed,
        attribute_changed,
        structure_changed,
        dtype_changed,
        batch_changed,
    ],
)
def test_what_has_changed_is_run_again(change, tmp_path):
    SpectralRNNPruner(Normed(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(X)
    pruner = SpectralRNNPruner(Normed(), m=5, memory=str(tmp_path), trajectory_fit=0)
    change(pruner)
    with passes(N_NODES) as count:
        pruner.fit(X)
    assert count["evaluation"] > 0
    plain = clone(pruner).set_params(memory=None).fit(X)
    np.testing.assert_equal(weights(pruner.pruned_module_), weights(plain.pruned_module_))


def test_other_sequences_are_run_again(tmp_path):
    SpectralRNNPruner(network(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(X)
    other = X.copy()
    other[-1, -1, -1] += 1e-6
    for data in (other, X[::-1], X.astype(np.float64), X[:, ::-1], list(RAGGED)):
        with passes(N_NODES) as count:
            SpectralRNNPruner(network(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(data)
        assert count["evaluation"] > 0


@pytest.mark.parametrize(
    ("params", "data", "y"),
    [
        ({"random_state": 1}, X, LABELS),
        ({"lr": 1e-2}, X, LABELS),
        ({}, X[::-1], LABELS),
        ({}, X, LABELS[::-1]),
    ],
)
def test_another_training_is_done(params, data, y, tmp_path):
    SpectralRNNPruner(small_classifier(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(
        X, LABELS
    )
    with passes(N_NODES) as count:
        SpectralRNNPruner(
            small_classifier(**params), m=5, memory=str(tmp_path), trajectory_fit=0
        ).fit(data, y)
    assert count["training"] > 0


# What is not kept


def test_training_without_a_seed_is_done_every_time(tmp_path):
    pruner = SpectralRNNPruner(
        small_classifier(random_state=None), m=5, memory=str(tmp_path), trajectory_fit=0
    )
    first = weights(pruner.fit(X, LABELS).estimator_.module_)
    again = weights(pruner.fit(X, LABELS).estimator_.module_)
    assert not np.array_equal(first["head.weight"], again["head.weight"])


def test_training_of_a_net_that_takes_no_seed_is_done_every_time(tmp_path):
    net = NeuralNetClassifier(
        network(), criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None
    )
    for _ in range(2):
        with passes(N_NODES) as count:
            SpectralRNNPruner(net, m=5, memory=str(tmp_path), trajectory_fit=0).fit(
                X, (LABELS == "up").astype(int)
            )
        assert count["training"] > 0


def test_a_random_state_is_known_by_where_it_stands(tmp_path):
    state = np.random.RandomState(0)
    for fresh in (True, False):
        with passes(N_NODES) as count:
            SpectralRNNPruner(
                small_classifier(random_state=state), m=5, memory=str(tmp_path), trajectory_fit=0
            ).fit(X, LABELS)
        assert (count["training"] > 0) == fresh
    state.randint(10)
    with passes(N_NODES) as count:
        SpectralRNNPruner(
            small_classifier(random_state=state), m=5, memory=str(tmp_path), trajectory_fit=0
        ).fit(X, LABELS)
    assert count["training"] > 0


@pytest.mark.parametrize(
    "batches",
    [
        lambda: torch.utils.data.DataLoader(torch.tensor(X), batch_size=16),
        lambda: torch.utils.data.TensorDataset(torch.tensor(X)),
        lambda: iter([torch.tensor(X)]),
    ],
    ids=["DataLoader", "Dataset", "iterator"],
)
def test_nothing_is_kept_of_batches(batches, tmp_path):
    pruner = SpectralRNNPruner(network(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(
        batches()
    )
    assert not list(tmp_path.rglob("*.pkl"))
    np.testing.assert_allclose(
        pruner.covariance_,
        SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X).covariance_,
        rtol=1e-5,
    )


# Accidents


def test_a_broken_file_is_made_anew(tmp_path):
    pruner = SpectralRNNPruner(small_classifier(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(
        X, LABELS
    )
    expected = weights(pruner.pruned_module_)
    files = list(tmp_path.rglob("output.pkl"))
    # Network, moments, readers, likelihood, sensitivity, what is read, what is held out.
    assert len(files) == 7
    for size in (0, 40):
        for file in files:
            file.write_bytes(file.read_bytes()[:size])
        np.testing.assert_equal(weights(pruner.fit(X, LABELS).pruned_module_), expected)


def test_a_half_written_file_is_not_read(tmp_path):
    pruner = SpectralRNNPruner(network(), m=5, memory=str(tmp_path), trajectory_fit=0).fit(X)
    expected = weights(pruner.pruned_module_)
    for file in tmp_path.rglob("output.pkl"):
        # What joblib leaves when it is interrupted: a file that has not got its name yet.
        file.rename(file.with_name("output.pkl.thread-1-pid-1")).write_bytes(b"half")
    np.testing.assert_equal(weights(pruner.fit(X).pruned_module_), expected)


def test_failed_fit_leaves_the_estimator_and_the_memory_as_they_were(tmp_path):
    wild = nn.RNN(3, N_NODES, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        for parameter in wild.parameters():
            parameter.fill_(1e30)
    pruner = SpectralRNNPruner(wild, m=2, memory=str(tmp_path), trajectory_fit=0)
    before = dict(vars(pruner))
    for _ in range(2):
        with pytest.raises(ValueError, match="are not finite on X"):
            pruner.fit(np.abs(X))
    assert vars(pruner) == before
    assert not list(tmp_path.rglob("*.pkl"))


def test_a_network_that_cannot_be_known_again_is_refused(tmp_path):
    dense = network()
    dense.activation = lambda x: x
    pruner = SpectralRNNPruner(dense, m=5, memory=str(tmp_path), trajectory_fit=0)
    with pytest.raises(TypeError, match=r"memory keeps results by the content of .*<lambda>"):
        pruner.fit(X)
    pruner.set_params(memory=None).fit(X)


def test_bad_memory_is_named():
    with pytest.raises(ValueError, match=r"'memory' should be None, a string .* Got memory='3'"):
        SpectralRNNPruner(network(), memory=3, trajectory_fit=0).fit(X)


# The hash


@pytest.mark.parametrize("make", [network, time_first, Normed, lambda: nn.GRU(3, 4)])
def test_copies_have_one_hash(make):
    module = make()
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), copy.copy(module)]
    assert {content_hash(each) for each in copies} == {content_hash(module)}


def test_every_entry_of_every_dtype_counts():
    hashes = set()
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool):
        for shape in ((), (0,), (4,), (2, 2), (1, 4)):
            for value in (0, 1):
                hashes.add(content_hash(torch.full(shape, value, dtype=dtype)))
    assert len(hashes) == 5 * (4 * 2 + 1)


def test_layout_in_memory_does_not_count():
    tensor = torch.tensor(RNG.normal(size=(3, 4)))
    assert content_hash(tensor.T.contiguous().T) == content_hash(tensor)
    assert content_hash(tensor.T) != content_hash(tensor)


def test_another_process_finds_the_same_hash():
    code = (
        "import torch, skspectral.data.memory as c\n"
        "from skspectral.training.network import RecurrentNet\n"
        "torch.manual_seed(0); net = RecurrentNet('gru', 3, 12, 2)\n"
        "print(c.content_hash({'net': net, 'words': ('a', 'b')}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == content_hash({"net": network(), "words": ("a", "b")})


def test_functions_of_the_same_arguments_are_told_apart(tmp_path):
    def plus(value):
        return value + 1

    def minus(value):
        return value - 1

    for function, expected in ((plus, 4), (minus, 2), (plus, 4)):
        assert cached(function, str(tmp_path), 3)(3) == expected
