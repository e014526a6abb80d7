"""Training of the pruned network on targets."""

import copy

import numpy as np
import pytest
import torch
from networks import N_FEATURES, Net, make_rnn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skspectral import (
    FineTune,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
)
from skspectral.data.labeled import task_loss
from skspectral.rnn.losses.likelihood import Likelihood

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 10, N_FEATURES)).astype(np.float32)
NUMBERS = (X.sum(axis=(1, 2)) > 0).astype(np.int64)
LABELS = np.array(["down", "up"])[NUMBERS]
N_NODES = 16


BRISK = FineTune(6, lr=2e-2, batch_size=16)


def last_state(net, states, h):
    return net.head(h[-1])


def network(read=last_state):
    """Random weights, which have much to learn."""
    rnn = make_rnn("gru", n_nodes=N_NODES, dtype=torch.float32)
    return Net(rnn, read).eval()


def every_step(net, states, h):
    return net.head(states)


def history(module, data, y=None, finetune=BRISK, **params):
    pruner = SpectralRNNPruner(
        module, 4, objective="one-step", finetune=finetune, random_state=0, trajectory_fit=0
    )
    return pruner.set_params(**params).fit(data, y).fine_tuning_history_["held_out"]


def cross_entropy(module, x, y):
    with torch.no_grad():
        answers = module(torch.as_tensor(x))
        return float(nn.functional.cross_entropy(answers, torch.as_tensor(y)))


@pytest.fixture(scope="module")
def classifier():
    return RNNClassifier(N_NODES, max_epochs=15, random_state=0).fit(X, LABELS)


def test_training_brings_the_answers_to_the_targets():
    net = network()
    losses = []
    for finetune in (None, BRISK):
        pruner = SpectralRNNPruner(
            net, 4, objective="one-step", finetune=finetune, trajectory_fit=0
        )
        losses.append(cross_entropy(pruner.fit(X, NUMBERS).pruned_module_, X, NUMBERS))
    assert losses[1] < 0.8 * losses[0]


def test_the_history_starts_at_the_fold_and_the_best_weights_are_kept():
    net = network()
    pruner = SpectralRNNPruner(
        net, 4, objective="one-step", finetune=FineTune(5, lr=0.3), trajectory_fit=0
    )
    pruner.fit(X, NUMBERS)
    found = pruner.fine_tuning_history_
    assert len(found["train"]) == len(found["held_out"]) <= 6
    assert np.isnan(found["train"][0])
    folded = SpectralRNNPruner(net, 4, objective="one-step", trajectory_fit=0).fit(X)
    everything = cross_entropy(folded.pruned_module_, X, NUMBERS)
    assert found["held_out"][0] == pytest.approx(everything, rel=0.3)
    assert cross_entropy(pruner.pruned_module_, X, NUMBERS) < 1.2 * everything


@pytest.mark.parametrize("finetune", [None, 0])
def test_none_is_no_training(finetune):
    pruner = SpectralRNNPruner(network(), 4, finetune=finetune, trajectory_fit=0).fit(X)
    assert pruner.fine_tuning_history_ == {"train": [], "held_out": []}


def test_it_is_the_same_every_time_and_leaves_the_dense_network_alone():
    net = network()
    net.train()
    before = copy.deepcopy(net.state_dict())
    first, second = (history(net, X, NUMBERS) for _ in range(2))
    assert first == second
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)


def test_it_stops_early():
    assert len(history(network(), X, NUMBERS, FineTune(30, lr=0.5, patience=2))) < 20


def test_after_distillation():
    pruner = SpectralRNNPruner(
        network(), 4, objective="one-step", distill=3, finetune=3, trajectory_fit=0
    )
    pruner.fit(X, NUMBERS)
    assert len(pruner.distillation_history_["held_out"]) == 4
    assert len(pruner.fine_tuning_history_["held_out"]) == 4


def test_frozen_parts_stay_frozen():
    net = network()
    net.head.requires_grad_(False)
    pruner = SpectralRNNPruner(net, 4, objective="one-step", n_refit=0, trajectory_fit=0)
    folded = pruner.fit(X, NUMBERS).pruned_module_.head.weight
    tuned = clone(pruner).set_params(finetune=3).fit(X, NUMBERS).pruned_module_
    torch.testing.assert_close(tuned.head.weight, folded, rtol=0, atol=0)
    assert tuned.rnn.weight_hh_l0.requires_grad


def test_dropout_is_on_while_it_trains():
    seen = []
    net = network(lambda net, states, h: net.head(net.dropout(h[-1])))
    net.dropout.register_forward_hook(lambda part, *_: seen.append(part.training))
    history(net, X, NUMBERS, 1)
    assert {True, False} == set(seen)


def test_in_rounds():
    net, seen = network(), []
    settings = FineTune(2, n_rounds=3)
    pruner = SpectralRNNPruner(
        net, 2, objective="one-step", finetune=settings, random_state=0, trajectory_fit=0
    )
    pruner.fit(X, NUMBERS)
    assert pruner.pruned_module_.rnn.hidden_size == 2
    nodes = np.arange(net.rnn.hidden_size)
    for m in (8, 4, 2):
        one = SpectralRNNPruner(
            net, m, objective="one-step", finetune=FineTune(2), random_state=0, trajectory_fit=0
        )
        net = one.fit(X, NUMBERS).pruned_module_
        nodes = nodes[one.support_]
        seen.append(net.rnn.hidden_size)
    assert seen == [8, 4, 2]
    assert pruner.support_.tolist() == nodes.tolist()
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(pruner.pruned_module_.state_dict()[name], weight)


def test_rounds_of_several_levels_and_tol():
    rnn = make_rnn("lstm", n_nodes=8, num_layers=2, dtype=torch.float32)
    pruner = SpectralRNNPruner(
        Net(rnn, last_state).eval(),
        0.25,
        allocation="global",
        tol=0.5,
        objective="one-step",
        finetune=FineTune(1, n_rounds=2),
        trajectory_fit=0,
    ).fit(X, NUMBERS)
    assert sum(pruner.m_.values()) <= 4
    assert {name: len(ranking) for name, ranking in pruner.ranking_.items()} == {
        "rnn.l0": 8,
        "rnn.l1": 8,
    }


@pytest.mark.parametrize("reconstruction", ["linear", "affine"])
def test_rounds_are_told_of_the_dense_network(reconstruction):
    net, params = network(), {"objective": "one-step", "reconstruction": reconstruction}
    pruner = SpectralRNNPruner(
        net, 4, finetune=FineTune(1, n_rounds=2), **params, trajectory_fit=0
    ).fit(X, NUMBERS)
    first = SpectralRNNPruner(net, 8, finetune=FineTune(1), **params, trajectory_fit=0).fit(
        X, NUMBERS
    )
    second = SpectralRNNPruner(
        first.pruned_module_, 4, finetune=FineTune(1), **params, trajectory_fit=0
    )
    second.fit(X, NUMBERS)
    assert pruner.support_.tolist() == first.support_[second.support_].tolist()
    dense = SpectralRNNPruner(net, 4, **params, trajectory_fit=0).fit(X)
    pairs = (each.estimator_.state_dict().values() for each in (pruner, dense))
    assert all(map(torch.equal, *pairs))
    np.testing.assert_array_equal(pruner.covariance_, dense.covariance_)
    np.testing.assert_array_equal(pruner.moments_.mean, dense.mean_)
    assert sorted(pruner.ranking_) == [1, 2, 3, 4] + [5] * 12
    assert np.flatnonzero(pruner.ranking_ <= 4).tolist() == pruner.support_.tolist()
    assert pruner.reconstruction_.shape == (16, 4)
    assert pruner.loss_lower_bound_ == dense.loss_lower_bound_
    assert (
        pruner.loss_lower_bound_
        <= pruner.information_loss_
        == pytest.approx(1.0 - pruner.score(X), rel=1e-6)
    )
    row, expected = (each.summary(as_frame=True).iloc[0] for each in (pruner, dense))
    assert (row["kept"], row["nodes"]) == (4, 16)
    assert row["parameters_before"] == expected["parameters_before"]


def test_further_sequences_after_rounds_start_from_the_dense_network():
    net, params = network(), {"objective": "one-step", "finetune": FineTune(1, n_rounds=2)}
    pruner = SpectralRNNPruner(net, 0.25, **params, trajectory_fit=0).fit(X[:80], NUMBERS[:80])
    pruner.partial_fit(X[80:], NUMBERS[80:])
    whole = SpectralRNNPruner(net, 0.25, objective="one-step", trajectory_fit=0).fit(X)
    assert pruner.m_ == 4
    np.testing.assert_allclose(pruner.covariance_, whole.covariance_, rtol=1e-12)


# What is trained, and on what


def test_classifiers_have_their_classes_encoded(classifier):
    pruner = SpectralRNNPruner(
        FrozenEstimator(classifier), 1, finetune=5, random_state=0, trajectory_fit=0
    )
    plain = clone(pruner).set_params(finetune=None).fit(X, LABELS)
    found = pruner.fit(X, LABELS).fine_tuning_history_["held_out"]
    assert min(found) < found[0]
    assert pruner.score(X, LABELS) >= plain.score(X, LABELS)


def test_regressors():
    y = X.sum(axis=(1, 2)) * 100.0
    dense = RNNRegressor(N_NODES, max_epochs=20, random_state=0).fit(X, y)
    plain, tuned = (
        SpectralRNNPruner(dense, 2, finetune=epochs, random_state=0, trajectory_fit=0).fit(X, y)
        for epochs in (0, 8)
    )
    assert tuned.score(X, y) > plain.score(X, y)


@pytest.mark.parametrize(
    ("kind", "y"), [(NeuralNetClassifier, NUMBERS), (NeuralNetRegressor, X[:, -1, :2])]
)
def test_skorch_nets_are_trained_by_their_own_loss(kind, y):
    options = {"criterion": nn.CrossEntropyLoss} if kind is NeuralNetClassifier else {}
    net = kind(network(), max_epochs=1, verbose=0, train_split=None, **options).fit(X, y)
    found = history(net, X, y)
    with torch.no_grad():
        loss = net.get_loss(network()(torch.as_tensor(X)), torch.as_tensor(y))
    assert min(found) < found[0] < 3.0 * float(loss)


def test_a_target_for_every_step():
    steps = (X.sum(-1) > 0).astype(np.int64)
    found = history(network(every_step), X, steps)
    assert min(found) < 0.8 * found[0]


def test_numbers_for_every_step():
    found = history(network(every_step), X, X.cumsum(1)[..., :2].astype(np.float32))
    assert min(found) < 0.8 * found[0]


def test_yes_or_no():
    net = network(lambda net, states, h: net.head(h[-1])[:, :1])
    found = history(net, X, NUMBERS.astype(np.float32), likelihood="bernoulli")
    assert min(found) < 0.9 * found[0]


def test_probabilities():
    net = network(lambda net, states, h: net.head(h[-1]).softmax(-1))
    found = history(net, X, NUMBERS)
    assert found[0] == pytest.approx(np.log(2.0), rel=0.2)
    assert min(found) < 0.9 * found[0]


def test_sequences_of_unequal_length():
    ragged = [x[: 4 + i % 3] for i, x in enumerate(X)]
    labels = np.array([x.sum() > 0 for x in ragged]).astype(int)
    found = history(network(), ragged, labels)
    assert min(found) < 0.9 * found[0]
    steps = [(x.sum(-1) > 0).astype(int) for x in ragged]
    found = history(network(every_step), ragged, steps)
    assert min(found) < 0.8 * found[0]


def test_a_loader_brings_its_targets():
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(NUMBERS))
    found = history(network(), DataLoader(data, batch_size=16, shuffle=True), None)
    assert min(found) < 0.9 * found[0]


def test_a_generator_of_labeled_batches():
    batches = ([torch.from_numpy(X[i : i + 20]), NUMBERS[i : i + 20]] for i in range(0, 160, 20))
    found = history(network(), batches)
    assert min(found) < found[0]


def test_further_sequences():
    pruner = SpectralRNNPruner(network(), 4, finetune=2, trajectory_fit=0).fit(X[:80], NUMBERS[:80])
    pruner.partial_fit(X[80:], NUMBERS[80:])
    assert len(pruner.fine_tuning_history_["held_out"]) == 3


# Taggers, as people have them


class Tagger(nn.Module):
    """A label for every step; lengths are optional, as in many a tagger."""

    def __init__(self, n_classes=2):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(3, N_NODES, batch_first=True), nn.Linear(N_NODES, n_classes)
        self.seen = []

    def forward(self, x, lengths=None):
        self.seen.append(lengths is not None)
        return self.head(self.rnn(x)[0])


class Scaled(Tagger):
    def forward(self, x, scale):
        return super().forward(x) * scale


STEPS = (X.sum(-1) > 0).astype(np.int64)
PARTS = [
    (torch.from_numpy(X[i : i + 20]), torch.full((20,), 10), torch.from_numpy(STEPS[i : i + 20]))
    for i in range(0, 160, 20)
]
SCALE = torch.ones(20, 10, 1)

TAGGED = {
    "tuples": (Tagger, lambda x, n, y: (x, y)),
    "lists": (Tagger, lambda x, n, y: [x, y]),
    "tuples of arrays": (Tagger, lambda x, n, y: (x.numpy(), y.numpy())),
    "labels in lists": (Tagger, lambda x, n, y: (x, y.tolist())),
    "an optional input": (Tagger, lambda x, n, y: (x, n, y)),
    "an optional input, in a list": (Tagger, lambda x, n, y: [x, n, y]),
    "an inner list": (Tagger, lambda x, n, y: [[x, n], y]),
    "an inner tuple": (Tagger, lambda x, n, y: ((x, n), y)),
    "a tuple of one": (Tagger, lambda x, n, y: [(x,), y]),
    "an inner dict": (Tagger, lambda x, n, y: ({"x": x, "lengths": n}, y)),
    "two inputs": (Scaled, lambda x, n, y: (x, SCALE, y)),
    "two inputs, in a list": (Scaled, lambda x, n, y: [x, SCALE, y]),
    "two inputs, in an inner list": (Scaled, lambda x, n, y: [[x, SCALE], y]),
    "two inputs, in an inner tuple": (Scaled, lambda x, n, y: ((x, SCALE), y)),
    "two inputs, in a dict": (Scaled, lambda x, n, y: ({"x": x, "scale": SCALE}, y)),
}


@pytest.mark.parametrize("name", TAGGED)
@pytest.mark.parametrize("wrap", [iter, list])
def test_labeled_batches_of_every_form_are_the_same(name, wrap):
    kind, form = TAGGED[name]
    pruner = SpectralRNNPruner(
        kind(), 4, objective="input", n_refit=0, trajectory_fit=0, finetune=BRISK, random_state=0
    )
    found = pruner.fit(wrap([form(*part) for part in PARTS])).fine_tuning_history_["held_out"]
    expected = history(Tagger(), PARTS_IN_LISTS, objective="input", n_refit=0)
    assert found == pytest.approx(expected, rel=1e-5)
    assert min(found) < 0.9 * found[0]
    lengths = kind is Tagger and any(
        word in name for word in ("optional", "inner list", "inner tuple", "inner dict")
    )
    assert set(pruner.pruned_module_.seen) <= {lengths}


PARTS_IN_LISTS = [[x, y] for x, _, y in PARTS]


def test_tuples_may_go_on():
    pruner = SpectralRNNPruner(
        Tagger(), 4, objective="input", n_refit=0, trajectory_fit=0, finetune=2
    )
    pruner.fit([(x, y) for x, _, y in PARTS[:4]])
    pruner.partial_fit([(x, y) for x, _, y in PARTS[4:]])
    assert pruner.moments_.n_steps == 1600
    assert len(pruner.fine_tuning_history_["held_out"]) == 3


def padded_by(value, labels=STEPS):
    """Half of the steps have no label."""
    padded = labels.copy()
    padded[:, 5:] = value
    return padded


def test_whole_numbers_are_classes_only_where_outputs_can_tell_them():
    counts = (NUMBERS * 5 + 3)[:, None]
    single = network(lambda net, states, h: net.head(h[-1])[:, :1])
    found = history(single, X, counts)
    assert min(found) < 0.5 * found[0]
    assert min(found) > 0.0  # half a squared error, not a cross entropy
    with torch.no_grad():
        first = nn.functional.mse_loss(
            single(torch.from_numpy(X)), torch.from_numpy(counts).float()
        )
    assert found[0] == pytest.approx(0.5 * first.item(), rel=0.5)
    with pytest.raises(ValueError, match=r"y must hold 0 and 1.*got 3 to 8. For numbers, give"):
        history(single, X, counts, likelihood="bernoulli")


def test_padded_labels_are_left_out():
    class Half(Tagger):
        def forward(self, x):
            return super().forward(x)[:, :5]

    found = history(Tagger(), X, padded_by(-100))
    assert min(found) < 0.8 * found[0]
    # The same numbers from a network that answers only where there are labels.
    expected = history(Half(), X, STEPS[:, :5], n_refit=0, objective="input")
    found = history(Tagger(), X, padded_by(-100), n_refit=0, objective="input")
    np.testing.assert_allclose(found[0], expected[0], rtol=0.05)
    np.testing.assert_allclose(min(found), min(expected), rtol=0.2)


@pytest.mark.parametrize("family", ["categorical", "bernoulli"])
def test_the_loss_is_the_mean_over_steps_that_have_labels(family):
    outputs = torch.randn(4, 10, 2 if family == "categorical" else 1)
    labels = torch.from_numpy(padded_by(-100)[:4])
    loss = task_loss(None, Likelihood(family))
    expected = Likelihood(family).negative_log_likelihood(outputs[:, :5], labels[:, :5])
    torch.testing.assert_close(loss(outputs, labels), expected)
    nothing = outputs.requires_grad_()
    value = loss(nothing, torch.full((4, 10), -100))
    value.backward()
    assert value == 0.0
    assert not nothing.grad.any()


def test_a_hundred_below_zero_is_a_number_where_outputs_are_numbers():
    outputs, targets = torch.zeros(2, 3), torch.full((2, 3), -100.0)
    assert task_loss(None, Likelihood("gaussian"))(outputs, targets) == 5000.0


def test_labels_of_another_number_are_told_with_and_without_padding():
    for labels in (STEPS[:, :4], padded_by(-100)[:, 2:]):
        with pytest.raises(ValueError, match="y has targets of shape"):
            history(Tagger(), X, labels)
    with pytest.raises(ValueError, match="y must hold class numbers from 0 to 1"):
        history(Tagger(), X, padded_by(-1))


@pytest.mark.parametrize("form", [tuple, list, "object"])
def test_labels_of_unequal_length_in_any_container(form):
    ragged = [x[: 4 + i % 3] for i, x in enumerate(X)]
    steps = [y[: 4 + i % 3] for i, y in enumerate(STEPS)]
    expected = history(Tagger(), ragged, steps)
    if form == "object":
        given = np.empty(len(steps), dtype=object)
        given[:] = steps
    else:
        given = form(each.tolist() for each in steps)
    assert history(Tagger(), ragged, given) == expected


def test_read_only_arrays():
    frozen = [np.array(each) for each in (X, STEPS, *(x[: 4 + i % 3] for i, x in enumerate(X)))]
    for each in frozen:
        each.setflags(write=False)
    x, y, *ragged = frozen
    assert history(Tagger(), x, y) == history(Tagger(), X, STEPS)
    steps = [each[: 4 + i % 3] for i, each in enumerate(y)]
    assert history(Tagger(), ragged, steps) == history(
        Tagger(), [np.array(each) for each in ragged], [np.array(each) for each in steps]
    )
    assert history(Tagger(), iter([[x, y]])) == history(Tagger(), iter([[X, STEPS]]))


class Labeled(ClassifierMixin, BaseEstimator):
    """An estimator around a tagger, whose labels are words."""

    classes_ = np.array(["no", "yes"])

    def __init__(self):
        self.module_ = Tagger()

    def fit(self, X, y):
        return self


WORDS = Labeled.classes_[STEPS]


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, lambda y: y.astype(object)])
def test_labels_in_words_are_numbered_by_the_classes_of_the_estimator(form):
    found = history(Labeled(), X, form(WORDS))
    assert found == history(Labeled(), X, STEPS)
    assert found == history(Tagger(), X, STEPS)


def test_labels_in_words_in_batches():
    parts = [(x, Labeled.classes_[y.numpy()].tolist()) for x, _, y in PARTS]
    assert history(Labeled(), parts) == history(Labeled(), PARTS_IN_LISTS)


def test_batches_have_their_classes_encoded_too():
    dense = RNNClassifier(N_NODES, max_epochs=2, random_state=0).fit(X, NUMBERS + 3)
    batches = [(torch.from_numpy(X), torch.from_numpy(NUMBERS + 3))]
    found = history(FrozenEstimator(dense), batches)
    expected = history(dense.module_, [(torch.from_numpy(X), torch.from_numpy(NUMBERS))])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("module", [Tagger, network])
def test_labels_in_words_are_refused_where_nobody_has_numbered_them(module):
    labels = WORDS if module is Tagger else LABELS
    with pytest.raises(ValueError, match=r"y must hold numbers.*got <U\d, so encode the labels"):
        history(module(), X, labels)


def test_a_label_that_the_estimator_has_not_seen_is_named(classifier):
    labels = LABELS.astype(object)
    labels[7] = "sideways"
    message = r"labels that estimator was trained on, \['down', 'up'\]; got 'sideways'"
    with pytest.raises(ValueError, match=message):
        history(FrozenEstimator(classifier), X, labels)


# In scikit-learn


def test_in_a_pipeline_and_a_grid_search(classifier):
    pruner = SpectralRNNPruner(
        FrozenEstimator(classifier), m=2, finetune=FineTune(2), trajectory_fit=0
    )
    pipe = Pipeline([("same", FunctionTransformer()), ("prune", pruner)])
    grid = {"prune__finetune__lr": [1e-3, 1e-2], "prune__m": [2, 4]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_[-1].finetune.lr in (1e-3, 1e-2)


def test_with_the_number_of_nodes_chosen_by_cross_validation(classifier):
    search = SpectralRNNPrunerCV(classifier, ms=[1, 4], cv=2, finetune=3, trajectory_fit=0).fit(
        X, LABELS
    )
    assert len(search.fine_tuning_history_["held_out"]) == 4


# Refused


@pytest.mark.parametrize(
    ("data", "y", "message"),
    [
        (X, None, "Training on targets requires y to be passed"),
        (X, NUMBERS[:-1], "inconsistent numbers of samples"),
        (X, NUMBERS + 1, "y must hold class numbers from 0 to 1.*from 1 to 2"),
        (X, np.stack([NUMBERS] * 3, 1), r"y has targets of shape \(\d+, 3\).*\(\d+, 2\)"),
        ([torch.from_numpy(X)], None, "batch 0 of X brings no targets to train on"),
    ],
)
def test_targets_that_do_not_fit(data, y, message):
    pruner = SpectralRNNPruner(network(), 4, trajectory_fit=0).fit(X)
    before = dict(vars(pruner))
    pruner.finetune = 1
    data = iter([(data[0],)]) if isinstance(data, list) else data
    with pytest.raises(ValueError, match=message):
        pruner.fit(data, y)
    del before["finetune"]
    assert {name: value for name, value in vars(pruner).items() if name != "finetune"} == before


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        (-1, "finetune must be None, a number of epochs of at least 0, or a FineTune; got -1"),
        ("yes", "finetune must be None, a number of epochs"),
        (FineTune(lr=2.0), "lr of FineTune must be .*; got 2"),
        (FineTune(n_rounds=0), "n_rounds must be an int of at least 1; got 0"),
        (FineTune(max_epochs=0), "max_epochs must be an int of at least 1; got 0"),
    ],
)
def test_bad_settings(finetune, message):
    with pytest.raises(ValueError, match=message):
        SpectralRNNPruner(network(), 4, finetune=finetune, trajectory_fit=0).fit(X, NUMBERS)


def test_rounds_that_cannot_be():
    rounds = FineTune(1, n_rounds=2)
    with pytest.raises(ValueError, match="n_rounds of FineTune must be 1 in SpectralRNNPrunerCV"):
        SpectralRNNPrunerCV(network(), ms=[2, 4], finetune=rounds, trajectory_fit=0).fit(X, NUMBERS)
    relu = network(lambda net, states, h: net.head(states[:, -1].relu()))
    with (
        pytest.warns(UserWarning, match="The reconstruction of"),
        pytest.raises(ValueError, match="n_rounds of FineTune must be 1 here"),
    ):
        SpectralRNNPruner(relu, 4, finetune=rounds, trajectory_fit=0).fit(X, NUMBERS)
