"""The pruner by gates, as an estimator."""

import copy

import numpy as np
import pytest
import torch
from models import answers, assert_same
from networks import Net, make_rnn
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skspectral import (
    FineTune,
    NeuronSelectionPruner,
    RNNClassifier,
    SpectralRNNPruner,
    load_pruned,
    save_pruned,
)

N_NODES, N_FEATURES = 16, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(320, 8, N_FEATURES)).astype(np.float32)
NUMBERS = (X[..., 0].sum(axis=1) > 0).astype(np.int64)  # the other inputs say nothing
LABELS = np.array(["down", "up"])[NUMBERS]
DEAR = {"penalty_inputs": 3e-3, "penalty_nodes": 3e-3}
TRAINING = FineTune(12, lr=5e-3, batch_size=16, patience=12)
LONG = FineTune(24, lr=2e-2, batch_size=16, patience=24)


def last_state(net, states, h):
    return net.head(h[-1])


def network(cell="gru", **options):
    rnn = make_rnn(cell, n_nodes=N_NODES, dtype=torch.float32, **options)
    return Net(rnn, last_state).eval()


def pruner_of(estimator, **params):
    params = {"training": TRAINING, "gate_lr": 0.2, "random_state": 0} | DEAR | params
    return NeuronSelectionPruner(estimator, **params)


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng(devices=[]):
        return RNNClassifier(N_NODES, max_epochs=15, random_state=0).fit(X, LABELS)


@pytest.fixture(scope="module")
def fitted(classifier):
    with torch.random.fork_rng(devices=[]):
        return pruner_of(FrozenEstimator(classifier)).fit(X, LABELS)


def test_it_keeps_the_nodes_and_the_inputs_that_matter(fitted, classifier):
    assert fitted.m_ <= N_NODES / 2
    np.testing.assert_array_equal(fitted.input_support_, [0])
    assert fitted.score(X, LABELS) > classifier.score(X, LABELS) - 0.05
    assert fitted.n_parameters_ < sum(p.numel() for p in classifier.module_.parameters()) / 3
    assert fitted.pruned_module_.rnn.hidden_size == fitted.m_
    assert fitted.gate_history_["held_out"][-1] < fitted.gate_history_["held_out"][0]


def test_what_it_tells_belongs_together(fitted):
    assert len(fitted.support_) == fitted.m_
    np.testing.assert_array_equal(np.flatnonzero(fitted.ranking_ <= fitted.m_), fitted.support_)
    assert sorted(fitted.ranking_[fitted.support_]) == list(range(1, fitted.m_ + 1))
    np.testing.assert_array_equal(fitted.get_support(indices=True), fitted.support_)
    assert fitted.transform(X[:5]).shape == (5, fitted.m_)
    assert list(fitted.get_feature_names_out()) == [f"h{node}" for node in fitted.support_]
    assert set(fitted.predict(X)) == {"down", "up"}
    assert fitted.predict_proba(X[:5]).shape == (5, 2)
    assert fitted.n_features_in_ == N_FEATURES


def test_a_higher_price_keeps_less(classifier):
    sizes = [
        pruner_of(classifier, penalty_inputs=price, penalty_nodes=price)
        .fit(X, LABELS)
        .n_parameters_
        for price in (0.0, 1e-3, 1e-1)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_from_a_fresh_network(cell):
    net = network(cell)
    before = copy.deepcopy(net.state_dict())
    pruner = pruner_of(net, training=LONG, penalty_inputs=1e-3, penalty_nodes=1e-3)
    pruner.fit(X, NUMBERS)
    with torch.no_grad():
        accuracy = (pruner.pruned_module_(torch.from_numpy(X)).argmax(-1).numpy() == NUMBERS).mean()
    assert accuracy > 0.85
    assert pruner.m_ < N_NODES
    assert_same(net.state_dict().values(), before.values(), tolerance=0.0)
    assert not hasattr(pruner, "predict")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    net = Net(make_rnn(n_nodes=N_NODES, dtype=dtype), last_state).eval()
    pruner = pruner_of(net, training=FineTune(3)).fit(X, NUMBERS)
    assert {weight.dtype for weight in pruner.pruned_module_.parameters()} == {dtype}
    found = pruner.gate_history_["held_out"]
    assert found[-1] < found[0]


def test_levels_and_directions():
    net = Net(make_rnn("lstm", n_nodes=8, dtype=torch.float32, num_layers=2), last_state).eval()
    pruner = pruner_of(net).fit(X, NUMBERS)
    assert list(pruner.m_) == ["rnn.l0", "rnn.l1"]
    assert sum(pruner.m_.values()) < 16
    assert pruner.transform(X[:4]).shape == (4, pruner.m_["rnn.l1"])
    assert list(pruner.input_support_) == [0]


def test_it_is_the_same_every_time():
    net = network()
    one, other = (pruner_of(net).fit(X, NUMBERS) for _ in range(2))
    np.testing.assert_array_equal(one.support_, other.support_)
    assert one.gate_history_["held_out"] == other.gate_history_["held_out"]
    weights = (p.pruned_module_.state_dict().values() for p in (one, other))
    assert_same(*weights, tolerance=0.0)


def test_gates_start_from_a_selection(classifier):
    support = SpectralRNNPruner(classifier, m=3, trajectory_fit=0).fit(X, LABELS).support_
    short = {"training": FineTune(1, lr=1e-5), "gate_lr": 1e-5}
    pruner = pruner_of(classifier, initial_support=support, **short)
    np.testing.assert_array_equal(pruner.fit(X, LABELS).support_, support)
    pruner.set_params(initial_support={"rnn.l0": support})
    np.testing.assert_array_equal(pruner.fit(X, LABELS).support_, support)


def test_training_after_the_gates_are_fixed(classifier):
    pruner = pruner_of(classifier, training=FineTune(2), finetune=3).fit(X, LABELS)
    found = pruner.fine_tuning_history_["held_out"]
    assert len(found) == 4
    assert min(found) < found[0]


# What it reads


def test_a_loader_and_sequences_of_unequal_length():
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(NUMBERS))
    pruner = pruner_of(network()).fit(DataLoader(data, batch_size=32))
    assert pruner.m_ < N_NODES
    assert pruner.n_features_in_ == N_FEATURES
    ragged = [x[: 6 + i % 3] for i, x in enumerate(X)]
    assert pruner_of(network()).fit(ragged, NUMBERS).m_ < N_NODES


def test_a_skorch_net():
    net = NeuralNetClassifier(
        network(), criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None
    )
    pruner = pruner_of(net.fit(X, NUMBERS), training=LONG).fit(X, NUMBERS)
    assert pruner.m_ < N_NODES
    assert pruner.score(X, NUMBERS) > 0.85


def test_what_is_saved_is_loaded(fitted, classifier, tmp_path):
    path, small = tmp_path / "small.safetensors", fitted.pruned_module_
    save_pruned(small, path)
    again = load_pruned(path, into=classifier.module_)
    batch = (torch.from_numpy(X[:5]),)
    assert_same(answers(again, batch), answers(small, batch), tolerance=0.0)
    assert repr(again) == repr(small)


def test_in_a_pipeline_and_a_grid_search(classifier):
    pruner = pruner_of(FrozenEstimator(classifier), training=FineTune(2))
    pipe = Pipeline([("same", FunctionTransformer()), ("prune", pruner)])
    grid = {"prune__penalty_nodes": [1e-5, 1e-2], "prune__training__lr": [1e-3]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_network_that_is_trained_first():
    pruner = clone(pruner_of(RNNClassifier(8, max_epochs=2, random_state=0)))
    pruner.fit(X, LABELS)
    assert pruner.estimator_.module_.rnn.hidden_size == 8
    assert pruner.m_ < 8


# Refused


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty_inputs": -1.0}, "penalty_inputs must be a number of at least 0; got -1"),
        ({"penalty_nodes": "much"}, "penalty_nodes must be a number of at least 0; got 'much'"),
        ({"gate_lr": 0.0}, "gate_lr must be a number above 0; got 0"),
        (
            {"training": 0},
            "training must be a number of epochs of at least 1, or a FineTune; got 0",
        ),
        ({"finetune": -1}, "finetune must be None, a number of epochs"),
        ({"training": FineTune(1, n_rounds=2)}, "n_rounds of training must be 1 in Neuron"),
        ({"finetune": FineTune(1, n_rounds=3)}, "n_rounds of finetune must be 1 in Neuron"),
        ({"initial_support": {"l0": [1]}}, r"initial_support must hold nodes .*\['rnn.l0'\]"),
        ({"initial_support": [1, N_NODES]}, rf"of the layer 'rnn.l0' .* to {N_NODES - 1}, each on"),
        ({"initial_support": [-1, 2]}, "initial_support of the layer 'rnn.l0' must hold at least"),
        ({"initial_support": [1, 1]}, "each once, as support_ of a fitted pruner does; got"),
        ({"initial_support": []}, "initial_support of the layer 'rnn.l0' must hold at least one"),
        ({"initial_support": [[0, 1]]}, "initial_support of the layer 'rnn.l0' must hold at lea"),
        ({"output": "first"}, "output must be one of"),
        ({"likelihood": "poisson"}, "likelihood must be one of"),
    ],
)
def test_bad_parameters(params, message):
    pruner = pruner_of(network(), training=FineTune(1)).fit(X, NUMBERS)
    pruner.set_params(**params)
    before = dict(vars(pruner))
    with pytest.raises(ValueError, match=message):
        pruner.fit(X, NUMBERS)
    assert vars(pruner) == before


@pytest.mark.parametrize("support", [[0.5, 1.0], "first", [True] * N_NODES, [[0], [1, 2]]])
def test_what_are_no_ints_are_no_nodes_to_start_from(support):
    pruner = pruner_of(network(), training=FineTune(1), initial_support=support)
    with pytest.raises(TypeError, match=r"initial_support of the layer 'rnn.l0' must hold"):
        pruner.fit(X, NUMBERS)


def test_networks_that_cannot_be_gated():
    relu = Net(make_rnn(dtype=torch.float32), lambda net, states, h: net.head(states.relu())).eval()
    with pytest.raises(
        ValueError, match=r"a layer 'rnn' whose readers no gates can stand at.*relu"
    ):
        pruner_of(relu).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="estimator is a recurrent layer and nothing else"):
        pruner_of(make_rnn(dtype=torch.float32)).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="requires y to be passed"):
        pruner_of(network()).fit(X)
