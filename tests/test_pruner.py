"""The estimator: its uses in scikit-learn, its laws, and what it leaves untouched."""

import copy
import io
import pickle
import re
import weakref
from itertools import pairwise
from typing import get_args

import joblib
import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skspectral import (
    SOLVERS,
    Distillation,
    HiddenStateMoments,
    InformationLoss,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    prune,
)
from skspectral.pruners.options import ObjectiveName, PruneOptions, SolverName
from skspectral.selection.objective import OBJECTIVES
from skspectral.solvers import ConvexSolver
from skspectral.training.network import RecurrentNet

N_NODES = 12
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 9, 3)).astype(np.float32)
LABELS = np.where(X.sum(axis=(1, 2)) > 0, "up", "down")
TARGET = X.sum(axis=(1, 2)).astype(np.float32)


def network(n_outputs=2, cell="gru", n_features=3):
    """A network with fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RecurrentNet(cell, n_features, N_NODES, n_outputs)


@pytest.fixture(scope="module")
def classifier():
    return RNNClassifier(N_NODES, max_epochs=5, random_state=0).fit(X, LABELS)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def random_state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002  the global one


def assert_same_weights(module, before):
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


# In scikit-learn


def univariate():
    return make_classification(n_samples=90, n_features=8, random_state=0)


def small_classifier():
    return RNNClassifier(hidden_size=16, max_epochs=8, random_state=0)


def test_pipeline_ends_in_the_pruner_as_a_classifier():
    data, y = univariate()
    pipe = Pipeline(
        [
            ("scale", StandardScaler()),
            ("prune", SpectralRNNPruner(m=64, random_state=0, trajectory_fit=0)),
        ]
    ).fit(data, y)
    assert pipe.score(data, y) > 0.8
    assert pipe.predict(data).shape == y.shape
    assert pipe[-1].pruned_module_.rnn.hidden_size == 64
    assert isinstance(pipe[-1].pruned_estimator_, RNNClassifier)


def test_pipeline_has_the_pruner_as_a_transformer():
    data, y = univariate()
    pruner = SpectralRNNPruner(small_classifier(), m=8, trajectory_fit=0)
    pipe = Pipeline([("prune", pruner), ("regress", LogisticRegression())]).fit(data, y)
    assert pipe.score(data, y) > 0.8
    assert pipe[:-1].transform(data).shape == (90, 8)


def test_grid_search_over_ratios_and_solvers():
    data, y = univariate()
    pipe = Pipeline(
        [
            ("scale", StandardScaler()),
            ("prune", SpectralRNNPruner(small_classifier(), trajectory_fit=0)),
        ]
    )
    grid = {"prune__m": [0.125, 0.25, 0.5, 1.0], "prune__solver": ["greedy", "convex"]}
    search = GridSearchCV(pipe, grid, cv=2).fit(data, y)
    assert set(search.cv_results_["param_prune__m"]) == {0.125, 0.25, 0.5, 1.0}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    full = search.cv_results_["param_prune__m"] == 1.0
    assert search.best_score_ >= search.cv_results_["mean_test_score"][full].max()


def test_grid_search_without_labels_scores_by_the_loss_kept():
    grid = {"prune__solver__tol": [1e-2, 1e-3], "prune__objective__recurrent": [0.0, 1.0]}
    pruner = SpectralRNNPruner(
        network(), m=4, solver=ConvexSolver(), objective=InformationLoss(), trajectory_fit=0
    )
    search = GridSearchCV(Pipeline([("prune", pruner)]), grid, cv=2).fit(X)
    assert np.all(search.cv_results_["mean_test_score"] < 1.0)
    assert np.all(search.cv_results_["mean_test_score"] > 0.0)


def test_unlabeled_score_is_one_minus_the_loss_on_the_same_sequences():
    pruner = SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X)
    assert pruner.score(X) == pytest.approx(1.0 - pruner.information_loss_, abs=1e-12)


def test_frozen_estimator_is_not_trained_again(classifier):
    pruner = clone(SpectralRNNPruner(FrozenEstimator(classifier), m=N_NODES, trajectory_fit=0)).fit(
        X
    )
    np.testing.assert_array_equal(pruner.predict(X), classifier.predict(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_frames(library):
    frame = (
        SpectralRNNPruner(network(), m=3, trajectory_fit=0)
        .set_output(transform=library)
        .fit_transform(X)
    )
    assert type(frame).__module__.split(".")[0] == library
    assert list(frame.columns) == [
        f"h{node}" for node in SpectralRNNPruner(network(), m=3, trajectory_fit=0).fit(X).support_
    ]


def test_states_of_every_step_are_no_table():
    pruner = SpectralRNNPruner(network(), m=3, output="sequence", trajectory_fit=0).fit(X)
    expected = pruner.transform(X)
    match = 'output="sequence" gives states of every step, which a pandas table cannot hold; use'
    with config_context(transform_output="pandas"), pytest.raises(ValueError, match=match):
        pruner.transform(X)
    with pytest.raises(ValueError, match=match):
        pruner.set_output(transform="pandas").transform(X)
    with config_context(transform_output="pandas"):
        found = pruner.set_output(transform="default").transform(X)
    np.testing.assert_array_equal(found, expected)


def test_html_repr_names_the_estimator():
    assert (
        "SpectralRNNPruner"
        in SpectralRNNPruner(network(), m=3, trajectory_fit=0).fit(X)._repr_html_()
    )


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("copied", [through_pickle, through_joblib, copy.deepcopy])
def test_fitted_pruner_survives_copying(copied, classifier):
    pruner = SpectralRNNPruner(classifier, m=5, trajectory_fit=0).fit(X)
    other = copied(pruner)
    np.testing.assert_array_equal(other.transform(X), pruner.transform(X))
    np.testing.assert_array_equal(other.predict(X), pruner.predict(X))


def test_clone_is_unfitted_with_equal_parameters():
    pruner = SpectralRNNPruner(network(), m=5, tol=0.1, solver="convex", trajectory_fit=0).fit(X)
    other = clone(pruner)
    assert not hasattr(other, "support_")
    assert (other.m, other.tol, other.solver) == (5, 0.1, "convex")


# What can be wrapped


def test_skorch_classifier_keeps_its_interface_and_trains_on():
    net = NeuralNetClassifier(
        network(), criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None
    ).fit(X, (LABELS == "up").astype(np.int64))
    pruner = SpectralRNNPruner(net, m=6, trajectory_fit=0).fit(X.astype(np.float64))
    assert isinstance(pruner.pruned_estimator_, NeuralNetClassifier)
    assert pruner.predict(X.astype(np.float64)).shape == (40,)
    before = weights(pruner.pruned_module_)
    pruner.pruned_estimator_.partial_fit(X, (LABELS == "up").astype(np.int64))
    assert any(
        not torch.equal(tensor, before[name])
        for name, tensor in pruner.pruned_module_.state_dict().items()
    )
    assert net.module_.rnn.hidden_size == N_NODES


def test_unfitted_skorch_regressor_is_trained_first():
    net = NeuralNetRegressor(network(1), max_epochs=2, verbose=0, train_split=None)
    pruner = SpectralRNNPruner(net, m=6, trajectory_fit=0).fit(X, TARGET[:, None])
    assert pruner.predict(X).shape == (40, 1)
    assert not hasattr(net, "module_")


@pytest.mark.parametrize(
    ("y", "kind"), [(LABELS, RNNClassifier), (TARGET, RNNRegressor)], ids=["classes", "numbers"]
)
def test_none_trains_by_the_kind_of_y(y, kind):
    assert isinstance(
        SpectralRNNPruner(m=6, random_state=0, trajectory_fit=0).fit(X, y).estimator_, kind
    )


def test_bare_module_has_no_predict():
    pruner = SpectralRNNPruner(network(), m=6, trajectory_fit=0).fit(X)
    assert not hasattr(pruner, "predict")
    assert not hasattr(pruner, "classes_")


def test_prune_gives_the_module():
    small = prune(network(), X, m=7, trajectory_fit=0)
    assert isinstance(small, RecurrentNet)
    assert (small.rnn.hidden_size, small.head.in_features) == (7, 7)


# Laws


@pytest.mark.parametrize("cell", ["gru", "irnn", "lstm", "tanh"])
@pytest.mark.parametrize("solver", ["greedy", "convex"])
def test_keep_all_is_the_identity(cell, solver):
    dense = network(cell=cell).double()
    small = prune(dense, X, m=1.0, solver=solver, trajectory_fit=0)
    torch.testing.assert_close(small(torch.tensor(X).double()), dense(torch.tensor(X).double()))


def test_losses_never_rise_with_m_and_never_pass_the_bound():
    pruners = [
        SpectralRNNPruner(network(), m=m, trajectory_fit=0).fit(X) for m in range(1, N_NODES + 1)
    ]
    losses = np.array([pruner.information_loss_ for pruner in pruners])
    assert (np.diff(losses) <= 1e-12).all()
    assert all(p.loss_lower_bound_ <= p.information_loss_ + 1e-12 for p in pruners)
    assert (np.diff(pruners[-1].loss_path_) <= 0.0).all()


def test_greedy_supports_are_nested():
    supports = [
        set(SpectralRNNPruner(network(), m=m, solver="greedy", trajectory_fit=0).fit(X).support_)
        for m in range(1, N_NODES)
    ]
    assert all(small < large for small, large in pairwise(supports))


def test_permuted_nodes_give_the_same_answers():
    dense = network().double()
    permuted = copy.deepcopy(dense)
    order = torch.randperm(N_NODES, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([order + gate * N_NODES for gate in range(3)])
    with torch.no_grad():
        for name, parameter in permuted.rnn.named_parameters():
            parameter.copy_(
                parameter[rows][:, order] if name == "weight_hh_l0" else parameter[rows]
            )
        permuted.head.weight.copy_(permuted.head.weight[:, order])
    x = torch.tensor(X).double()
    torch.testing.assert_close(
        prune(permuted, X, m=5, trajectory_fit=0)(x), prune(dense, X, m=5, trajectory_fit=0)(x)
    )


def test_tol_keeps_the_fewest_nodes_that_are_enough():
    path = SpectralRNNPruner(network(), m=N_NODES, trajectory_fit=0).fit(X).loss_path_
    pruner = SpectralRNNPruner(network(), m=N_NODES, tol=0.05, trajectory_fit=0).fit(X)
    assert path[pruner.m_] <= 0.05 < path[pruner.m_ - 1]
    assert SpectralRNNPruner(network(), m=2, tol=0.0, trajectory_fit=0).fit(X).m_ == 2


@pytest.mark.parametrize(
    ("m", "kept"), [(1, 1), (12, 12), (0.5, 6), (0.33, 4), (1e-9, 1), (1.0, 12)]
)
def test_m_counts_nodes_or_is_a_ratio(m, kept):
    pruner = SpectralRNNPruner(network(), m=m, trajectory_fit=0).fit(X)
    assert pruner.m_ == len(pruner.support_) == pruner.get_support().sum() == kept
    np.testing.assert_array_equal(np.flatnonzero(pruner.get_support()), pruner.get_support(True))
    assert sorted(pruner.ranking_[pruner.support_]) == list(range(1, kept + 1))


def test_affine_loss_is_at_most_the_linear_one_and_deletion_loses_more():
    losses = [
        SpectralRNNPruner(network(), m=5, reconstruction=kind, trajectory_fit=0)
        .fit(X)
        .information_loss_
        for kind in ("affine", "linear", "none")
    ]
    assert losses == sorted(losses)


def test_partial_fit_adds_up_to_fit():
    dense = network().double()
    pruner = SpectralRNNPruner(dense, m=5, objective="one-step", trajectory_fit=0)
    whole, parts = clone(pruner).fit(X), clone(pruner).partial_fit(X[:13]).partial_fit(X[13:])
    np.testing.assert_allclose(parts.covariance_, whole.covariance_, rtol=1e-12)
    np.testing.assert_array_equal(parts.support_, whole.support_)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_goes_on_as_the_original_would(copied):
    pruner = SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X[:25])
    other, before = copied(pruner), weights(pruner.pruned_module_)
    other.partial_fit(X[25:])
    after = weights(pruner.pruned_module_)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    pruner.partial_fit(X[25:])
    expected, found = weights(pruner.pruned_module_), weights(other.pruned_module_)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], weight) for name, weight in found.items())


def test_sequences_are_not_pickled():
    pruner = SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X)
    assert not hasattr(pickle.loads(pickle.dumps(pruner)), "_sample")


def test_moments_that_are_handed_out_may_be_merged():
    pruner, other = (
        SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(part) for part in (X[:20], X[20:])
    )
    covariances = [each.covariance_.copy() for each in (pruner, other)]
    n_steps = pruner.moments_.n_steps
    assert pruner.moments_.merge(other.moments_).n_steps == 2 * n_steps
    SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X, moments=other.moments_)
    for each, covariance in zip((pruner, other), covariances, strict=True):
        assert each.moments_.n_steps == n_steps
        np.testing.assert_array_equal(each.moments_.covariance, covariance)
    both, fresh = pruner.partial_fit(X[20:]), SpectralRNNPruner(network(), m=5, trajectory_fit=0)
    fresh.partial_fit(X[:20]).partial_fit(X[20:])
    np.testing.assert_array_equal(both.covariance_, fresh.covariance_)
    with pytest.raises(NotFittedError):
        _ = SpectralRNNPruner(network(), m=5, trajectory_fit=0).moments_


def test_partial_fit_averages_the_sensitivity_over_the_steps():
    dense = network().double()
    one, other = (
        SpectralRNNPruner(dense, m=5, trajectory_fit=0).fit(part)._weights
        for part in (X[:13], X[13:])
    )
    both = SpectralRNNPruner(dense, m=5, trajectory_fit=0).partial_fit(X[:13]).partial_fit(X[13:])
    for name, pair in both._weights.items():
        np.testing.assert_allclose(pair, 13 / 40 * one[name] + 27 / 40 * other[name], rtol=1e-12)


@pytest.mark.parametrize("output", ["last", "mean", "sequence"])
def test_transform_gives_the_states_of_the_small_layer(output):
    pruner = SpectralRNNPruner(network(), m=5, output=output, trajectory_fit=0).fit(X)
    states = pruner.pruned_module_.rnn(torch.tensor(X))[0].detach().numpy()
    wanted = {"last": states[:, -1], "mean": states.mean(axis=1), "sequence": states}[output]
    np.testing.assert_allclose(pruner.transform(X), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output", ["last", "mean", "sequence"])
def test_ragged_sequences_are_transformed_as_each_alone(output):
    ragged = [X[i, : 3 + i % 6] for i in range(20)]
    pruner = SpectralRNNPruner(network(), m=5, output=output, trajectory_fit=0).fit(X)
    together = pruner.transform(ragged)
    for i, sequence in enumerate(ragged):
        np.testing.assert_allclose(together[i], pruner.transform(sequence[None])[0], atol=1e-6)


# Nothing is touched


def test_given_module_and_random_state_stay_as_they_were():
    dense = network().train()
    dense.head.weight.requires_grad_(False)
    before, flags = weights(dense), [p.requires_grad for p in dense.parameters()]
    state = random_state()
    loader = torch.utils.data.DataLoader(torch.tensor(X), batch_size=16, shuffle=True)
    pruner = SpectralRNNPruner(dense, m=5, trajectory_fit=0)
    for data in (X, loader):
        pruner.fit(data).transform(X)
    assert_same_weights(dense, before)
    assert dense.training
    assert flags == [p.requires_grad for p in dense.parameters()]
    assert not dense.rnn._forward_hooks
    assert random_state() == state


def test_given_estimator_stays_as_it_was(classifier):
    before = weights(classifier.module_)
    SpectralRNNPruner(classifier, m=5, trajectory_fit=0).fit(X)
    assert_same_weights(classifier.module_, before)
    assert classifier.module_.rnn.hidden_size == N_NODES


def test_training_with_a_seed_leaves_the_random_state():
    state = random_state()
    SpectralRNNPruner(m=5, random_state=0, trajectory_fit=0).fit(X, LABELS)
    assert random_state() == state


@pytest.mark.parametrize("fitted", [False, True])
def test_failed_fit_leaves_the_estimator_as_it_was(fitted):
    pruner = SpectralRNNPruner(network(), m=5, trajectory_fit=0)
    if fitted:
        pruner.fit(X)
    before = dict(vars(pruner))
    with pytest.raises(ValueError, match="NaN"):
        pruner.fit(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="does not go through"):
        pruner.fit(X[:, :, :2])
    assert vars(pruner) == before


def test_states_are_forgotten_batch_by_batch(monkeypatch):
    blocks, most = [], 0

    def update(moments, states):
        nonlocal most
        blocks.append(weakref.ref(states))
        most = max(most, sum(block() is not None for block in blocks))
        return original(moments, states)

    original = HiddenStateMoments.update
    monkeypatch.setattr(HiddenStateMoments, "update", update)
    SpectralRNNPruner(network(), m=5, batch_size=4, trajectory_fit=0).fit(X)
    assert len(blocks) == 11  # ten batches, and one that is held out
    assert most <= 2


# Bad input


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"m": 0}, ValueError, r"m must be an int from 1 to .*, or a float in \(0, 1\]; got 0"),
        ({"m": 13}, ValueError, "m must be an int from 1 to 12, the hidden size, .*; got 13"),
        ({"m": True}, TypeError, "m must be an int .*; got True"),
        ({"m": "64"}, TypeError, "m must be an int .*; got '64'"),
        ({"m": 1.5}, ValueError, r"m must be .*; got 1\.5\. For a number of nodes give an int"),
        ({"m": 0.0}, ValueError, "m must be .*; got 0.0"),
        ({"m": float("nan")}, ValueError, "m must be .*; got nan"),
        ({"tol": -0.1}, ValueError, r"tol must be None or .* in \[0, 1\); got -0.1"),
        ({"solver": "gredy"}, ValueError, "solver must be one of .*greedy, .*; got 'gredy'"),
        ({"solver": 3}, TypeError, "solver must be one of .* or an instance of Solver"),
        ({"objective": "total"}, ValueError, "objective must be one of combined, input, one-step"),
        ({"objective": 1.0}, TypeError, "objective must be .* an instance of Objective"),
        ({"objective": InformationLoss(tau=-1)}, ValueError, "tau of InformationLoss must be"),
        ({"objective": InformationLoss(sensitivity="no")}, TypeError, "sensitivity of Information"),
        ({"objective": InformationLoss(n_sensitivity=0)}, ValueError, "n_sensitivity of Info"),
        ({"objective": InformationLoss(n_sensitivity=1.5)}, ValueError, "n_sensitivity of Inf"),
        (
            {"reconstruction": "cubic"},
            ValueError,
            "reconstruction must be one of affine, linear, none",
        ),
        ({"likelihood": "poisson"}, ValueError, "likelihood must be one of auto, bernoulli"),
        (
            {"distill": -1},
            ValueError,
            "distill must be a number of epochs of at least 0, or a",
        ),
        ({"distill": Distillation(lr=2)}, ValueError, "lr of Distillation must be .*; got 2"),
        ({"output": "first"}, ValueError, "output must be one of last, mean, sequence"),
        ({"batch_size": 0}, ValueError, "batch_size must be an int of at least 1; got 0"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be None or an int other than 0; got 0"),
        ({"n_jobs": 1.5}, TypeError, "n_jobs must be None or an int other than 0; got 1.5"),
    ],
)
def test_bad_parameters_are_named(params, error, message):
    with pytest.raises(error, match=message):
        SpectralRNNPruner(network(), **params, trajectory_fit=0).fit(X)


def test_modules_that_cannot_be_pruned_are_refused():
    diverged = network()
    with torch.no_grad():
        diverged.head.weight[0, 0] = torch.nan
    for module, message in [
        (nn.Linear(3, 2), "estimator holds no recurrent layer: Linear has no"),
        (nn.LSTM(3, 8, proj_size=4), "LSTM with proj_size=4"),
        (nn.Sequential(nn.LSTM(3, 8, proj_size=4)), "layer '0' is an LSTM with proj_size=4"),
        (diverged, "NaN or infinity in its parameter 'head.weight'"),
    ]:
        with pytest.raises(ValueError, match=message):
            SpectralRNNPruner(module, m=2, trajectory_fit=0).fit(X)


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"estimator must be a torch module, .*; got LogisticReg"):
        SpectralRNNPruner(LogisticRegression(), trajectory_fit=0).fit(X[:, :, 0], LABELS)
    with pytest.raises(TypeError, match=r"estimator must be a torch module, .*; got str"):
        SpectralRNNPruner("gru", trajectory_fit=0).fit(X)
    with pytest.raises(ValueError, match="estimator=None trains a network and requires y"):
        SpectralRNNPruner(trajectory_fit=0).fit(X)


def test_other_sizes_after_fit_are_refused():
    pruner = SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X)
    with pytest.raises(ValueError, match=r"X has 2 features, but .* expecting 3 features"):
        pruner.transform(X[:, :, :2])
    with pytest.raises(NotFittedError):
        SpectralRNNPruner(network(), trajectory_fit=0).transform(X)


def test_states_that_overflow_are_refused():
    wild = nn.RNN(3, N_NODES, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        for parameter in wild.parameters():
            parameter.fill_(1e30)
    with pytest.raises(ValueError, match="hidden states of layer 'l0' are not finite on X"):
        SpectralRNNPruner(wild, m=2, trajectory_fit=0).fit(np.abs(X))


def test_progress_is_shown_when_verbose(capsys):
    pruner = SpectralRNNPruner(network(), m=5, verbose=1, trajectory_fit=0, batch_size=10)
    pruner.fit(X)
    shown = capsys.readouterr().err
    n_batches = -(-len(X) // 10)
    assert re.search(rf"hidden states: 100%.* {n_batches}/{n_batches} ", shown)
    assert re.search(r"sensitivity: 100%.* (\d+)/\1 ", shown)
    pruner.fit([torch.as_tensor(X[:4]), torch.as_tensor(X[4:])])
    assert re.search(r"hidden states: 100%.* 2/2 ", capsys.readouterr().err)
    pruner.fit(torch.as_tensor(X[i : i + 4]) for i in range(0, 12, 4))
    assert "hidden states: 3 batches [" in capsys.readouterr().err


def test_feature_names_are_remembered():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X[:, :, 0], columns=[f"t{i}" for i in range(9)])
    pruner = SpectralRNNPruner(network(n_features=1), m=4, trajectory_fit=0).fit(frame)
    assert list(pruner.feature_names_in_) == list(frame.columns)
    with config_context(transform_output="pandas"):
        assert pruner.transform(frame).shape == (40, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_and_sequences_of_any_precision(dtype):
    dense = network().to(dtype)
    given = torch.tensor(X, dtype=dtype)
    pruner = SpectralRNNPruner(dense, m=5, trajectory_fit=0).fit(given)
    assert {p.dtype for p in pruner.pruned_module_.parameters()} == {dtype}
    single = SpectralRNNPruner(network(), m=5, trajectory_fit=0).fit(X)
    np.testing.assert_allclose(pruner.covariance_, single.covariance_, atol=0.01)
    assert pruner.score(given) == pytest.approx(single.score(X), abs=0.05)
    assert pruner.transform(given).shape == (len(X), 5)


def test_types_name_what_there_is():
    given = SpectralRNNPruner().get_params(deep=False).keys()
    assert given - PruneOptions.__annotations__.keys() == {"estimator", "m"}
    assert PruneOptions.__annotations__.keys() < given
    assert set(get_args(SolverName)) == SOLVERS.keys()
    assert set(get_args(ObjectiveName)) == OBJECTIVES.keys()
