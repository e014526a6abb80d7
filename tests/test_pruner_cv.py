"""The number of nodes chosen by cross-validation: the same as by a grid search, for less."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from passes import passes
from problems import random_problem
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from test_pruner import LABELS, N_NODES, TARGET, X, network

from skspectral import (
    SOLVERS,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
)
from skspectral.pruners.cross_validation import best_index

pytestmark = pytest.mark.usefixtures("little_training")

MS = (1, 0.5, 1.0)
RATIOS = np.linspace(0.1, 0.9, 10)
FOLDS = KFold(2, shuffle=True, random_state=0)
RAGGED = [X[i, : 3 + i % 6] for i in range(40)]


def small_classifier(**params):
    return RNNClassifier(N_NODES, **{"max_epochs": 3, "random_state": 0} | params)


def small_regressor():
    return RNNRegressor(N_NODES, max_epochs=3, random_state=0)


def frozen():
    return FrozenEstimator(small_classifier().fit(X, LABELS))


def accuracy(pruner, data, y):
    return float(np.mean(pruner.predict(data) == y))


def reach(pruner, data):
    """A score that needs no labels and looks at what only transform gives."""
    return float(np.ptp(pruner.transform(data)))


def weights(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


# As a grid search


@pytest.mark.filterwarnings("ignore:Layer .* too few to estimate")
@pytest.mark.parametrize(
    ("make", "data", "y", "params"),
    [
        (network, X, None, {}),
        (network, RAGGED, None, {}),
        (network, torch.tensor(X), None, {}),
        (network, X, None, {"scoring": reach}),
        (network, X, None, {"solver": "convex"}),
        (network, X, None, {"solver": "random", "random_state": np.random.RandomState(0)}),
        (network, X, None, {"tol": 0.02, "reconstruction": "affine", "objective": "input"}),
        (frozen, X, LABELS, {}),
        (frozen, X, LABELS, {"scoring": "roc_auc"}),
        (small_classifier, X, LABELS, {"scoring": accuracy}),
        (small_classifier, RAGGED, LABELS, {"scoring": "neg_log_loss"}),
        (small_regressor, X, TARGET, {}),
        (lambda: None, X, LABELS, {"scoring": "roc_auc", "random_state": 0}),
    ],
    ids=[
        *("module", "ragged", "tensor", "callable without labels", "convex", "random", "tol"),
        *("frozen", "roc_auc", "callable", "unfitted", "regressor", "None"),
    ],
)
def test_it_finds_what_a_grid_search_finds(make, data, y, params):
    ours = SpectralRNNPrunerCV(make(), MS, cv=FOLDS, **copy.deepcopy(params), trajectory_fit=0).fit(
        data, y
    )
    params = copy.deepcopy(params)
    scoring = params.pop("scoring", None)
    pruner = SpectralRNNPruner(make(), **params, trajectory_fit=0)
    # The oldest scikit-learn cannot split a tensor.
    split = data.numpy() if isinstance(data, torch.Tensor) else data
    theirs = GridSearchCV(pruner, {"m": list(MS)}, scoring=scoring, cv=FOLDS).fit(split, y)
    for name, result in ours.cv_results_.items():
        if name == "param_m":
            assert list(result) == list(theirs.cv_results_[name])
        else:
            np.testing.assert_allclose(result, theirs.cv_results_[name], rtol=1e-12)
    assert ours.best_index_ == theirs.best_index_
    assert ours.m_ == theirs.best_estimator_.m_
    np.testing.assert_equal(
        weights(ours.pruned_module_), weights(theirs.best_estimator_.pruned_module_)
    )


def test_folds_are_stratified_for_a_classifier():
    params = {"ms": MS[:1], "random_state": 0}
    for estimator, labeled in [(small_classifier(), True), (None, True), (network(), False)]:
        kind = StratifiedKFold if labeled else KFold
        default = SpectralRNNPrunerCV(estimator, **params, trajectory_fit=0).fit(X, LABELS)
        given = SpectralRNNPrunerCV(estimator, cv=kind(5), **params, trajectory_fit=0).fit(
            X, LABELS
        )
        np.testing.assert_equal(default.cv_results_, given.cv_results_)


def test_folds_may_be_given_as_indices():
    pairs = list(FOLDS.split(X))
    one, other = (
        SpectralRNNPrunerCV(network(), MS, cv=cv, trajectory_fit=0).fit(X) for cv in (pairs, FOLDS)
    )
    np.testing.assert_equal(one.cv_results_, other.cv_results_)
    one.set_params(cv=pairs[:1], one_standard_error=True).fit(X)
    assert one.m_ == N_NODES


def test_folds_may_run_at_the_same_time():
    params = {"ms": (3, 6), "cv": 2}
    alone = SpectralRNNPrunerCV(small_classifier(), **params, trajectory_fit=0).fit(X, LABELS)
    together = SpectralRNNPrunerCV(small_classifier(), n_jobs=2, **params, trajectory_fit=0).fit(
        X, LABELS
    )
    np.testing.assert_equal(together.cv_results_, alone.cv_results_)
    np.testing.assert_equal(weights(together.pruned_module_), weights(alone.pruned_module_))


def test_of_equal_scores_the_fewest_nodes_win():
    def constant(_pruner, _X, _y=None):
        return 1.0

    pruner = SpectralRNNPrunerCV(network(), [6, 3], cv=2, scoring=constant, trajectory_fit=0)
    assert pruner.fit(X).m_ == 3


# For less


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("solver", ["greedy", "convex"])
def test_ten_sizes_cost_the_passes_of_one(labeled, solver):
    estimator, y = (small_classifier(), LABELS) if labeled else (network(), None)
    counts = []
    for ms in (RATIOS[:1], RATIOS):
        with passes(N_NODES) as count:
            SpectralRNNPrunerCV(estimator, ms, cv=3, solver=solver, trajectory_fit=0).fit(X, y)
        counts.append(count)
    assert counts[0] == counts[1]
    # On every fold and on all of X: layout, moments, and a few sequences to look at again; the
    # sensitivity in nine batches on a fold and in eight on all of X, all but one of which serve
    # the refit; on the folds also the score, and on all of X the batch that is held out.
    expected = 4 * 3 + (3 * 9 + 8) + (3 * 8 + 7) + (1 if labeled else 7)
    assert counts[0]["evaluation"] == expected
    assert (counts[0]["training"] > 0) == labeled


@pytest.mark.parametrize("solver", [kind for kind in SOLVERS.values() if kind.nested])
def test_nested_solvers_choose_parts_of_their_larger_choice(solver):
    solver = solver()
    if "random_state" in solver.get_params():
        solver.set_params(random_state=0)
    problem = random_problem(seed=1, n=12, tau=1e-6)
    whole = solver.select(problem, 12)
    for m in range(1, 13):
        part = solver.select(problem, m)
        np.testing.assert_array_equal(part.order, whole.truncate(m).order)
        np.testing.assert_array_equal(part.loss_path, whole.truncate(m).loss_path)


def test_a_fitted_estimator_is_not_trained():
    fitted = small_classifier().fit(X, LABELS)
    with passes(N_NODES) as count:
        SpectralRNNPrunerCV(fitted, cv=3, trajectory_fit=0).fit(X, LABELS)
    assert count["training"] == 0


def test_memory_serves_the_next_fit(tmp_path):
    params = {"cv": 3, "memory": str(tmp_path)}
    made = SpectralRNNPrunerCV(small_classifier(), (0.1, 0.2), **params, trajectory_fit=0).fit(
        X, LABELS
    )
    with passes(N_NODES) as count:
        found = SpectralRNNPrunerCV(small_classifier(), (0.2, 0.4), **params, trajectory_fit=0).fit(
            X, LABELS
        )
    assert count == {"training": 0, "evaluation": 0}
    for fold in range(3):
        name = f"split{fold}_test_score"
        assert found.cv_results_[name][0] == made.cv_results_[name][1]


# One standard error


def test_one_standard_error_picks_no_larger_m():
    ms = range(2, N_NODES + 1, 2)
    sizes = [
        SpectralRNNPrunerCV(frozen(), list(ms), cv=3, one_standard_error=rule, trajectory_fit=0)
        .fit(X, LABELS)
        .m_
        for rule in (False, True)
    ]
    assert sizes[1] <= sizes[0]


@pytest.mark.parametrize(
    ("scores", "rule", "best"),
    [
        # Means 0.5, 0.7, 0.8; the standard error of the last is 0.2 / √2 / √2 = 0.1.
        ([[0.5, 0.69, 0.7], [0.5, 0.72, 0.9]], True, 1),
        ([[0.5, 0.69, 0.7], [0.5, 0.70, 0.9]], True, 2),
        ([[0.5, 0.69, 0.7], [0.5, 0.72, 0.9]], False, 2),
        ([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9]], False, 0),
        ([[0.9, 0.8, 0.9]], True, 0),
    ],
)
def test_the_fewest_nodes_among_the_best(scores, rule, best):
    scores = np.array(scores)
    results = {f"split{i}_test_score": row for i, row in enumerate(scores)}
    results |= {"mean_test_score": scores.mean(axis=0), "std_test_score": scores.std(axis=0)}
    assert best_index(results, [2, 4, 8], rule) == best
    backwards = {name: result[::-1] for name, result in results.items()}
    assert best_index(backwards, [8, 4, 2], rule) == 2 - best


def test_a_node_is_not_all_nodes():
    pruner = SpectralRNNPrunerCV(network(), (1.0, 1), cv=2, trajectory_fit=0).fit(X)
    assert [type(m) for m in pruner.cv_results_["param_m"]] == [float, int]
    assert pruner.cv_results_["mean_test_score"][0] > pruner.cv_results_["mean_test_score"][1]
    assert pruner.m_ == N_NODES


# As a pruner


def test_it_is_a_pruner():
    pruner = SpectralRNNPrunerCV(small_classifier(), MS, cv=2, output="mean", trajectory_fit=0).fit(
        X, LABELS
    )
    plain = SpectralRNNPruner(small_classifier(), pruner.m_, output="mean", trajectory_fit=0).fit(
        X, LABELS
    )
    assert isinstance(pruner, SpectralRNNPruner)
    assert is_classifier(pruner)
    np.testing.assert_array_equal(pruner.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(pruner.transform(X), plain.transform(X))
    np.testing.assert_array_equal(pruner.get_support(), plain.get_support())
    np.testing.assert_array_equal(pruner.loss_path_, plain.loss_path_)
    assert pruner.score(X, LABELS) == plain.score(X, LABELS)
    assert list(pruner.get_feature_names_out()) == list(plain.get_feature_names_out())


def test_more_sequences_are_added_at_the_chosen_size():
    pruner = SpectralRNNPrunerCV(network(), (2, 5), cv=2, trajectory_fit=0).partial_fit(X[:20])
    results = pruner.cv_results_
    pruner.partial_fit(X[20:])
    whole = (
        SpectralRNNPruner(network(), 5, trajectory_fit=0).partial_fit(X[:20]).partial_fit(X[20:])
    )
    assert pruner.cv_results_ is results
    assert pruner.m_ == 5
    np.testing.assert_array_equal(pruner.covariance_, whole.covariance_)
    np.testing.assert_equal(weights(pruner.pruned_module_), weights(whole.pruned_module_))


def test_it_stands_in_a_pipeline_within_a_grid_search():
    data = X.sum(axis=2)
    pruner = SpectralRNNPrunerCV(
        small_classifier(max_epochs=10), (0.25, 0.5), cv=2, trajectory_fit=0
    )
    pipe = Pipeline([("scale", StandardScaler()), ("prune", pruner)])
    search = GridSearchCV(pipe, {"prune__solver": ["greedy", "random"]}, cv=2).fit(data, LABELS)
    assert search.best_estimator_[-1].m_ in (3, 6)
    assert search.score(data, LABELS) > 0.5


@pytest.mark.parametrize(
    "copied", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_it_survives_copying(copied):
    pruner = SpectralRNNPrunerCV(small_classifier(), MS, cv=2, trajectory_fit=0).fit(X, LABELS)
    other = copied(pruner)
    np.testing.assert_array_equal(other.predict(X), pruner.predict(X))
    np.testing.assert_equal(other.cv_results_, pruner.cv_results_)


def test_clone_is_unfitted_with_equal_parameters():
    pruner = SpectralRNNPrunerCV(
        network(), [2, 3], cv=2, one_standard_error=True, tol=0.1, trajectory_fit=0
    ).fit(X)
    other = clone(pruner)
    assert (other.ms, other.cv, other.one_standard_error, other.tol) == ([2, 3], 2, True, 0.1)
    with pytest.raises(NotFittedError):
        other.transform(X)


def test_neither_the_given_module_nor_the_random_state_is_touched():
    dense = network().train()
    before, state = copy.deepcopy(dense.state_dict()), torch.get_rng_state()
    SpectralRNNPrunerCV(dense, MS, cv=2, trajectory_fit=0).fit(X)
    assert dense.training
    assert joblib.hash(state.numpy()) == joblib.hash(torch.get_rng_state().numpy())
    for name, tensor in dense.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("fitted", [False, True])
def test_failed_fit_leaves_the_estimator_as_it_was(fitted):
    pruner = SpectralRNNPrunerCV(network(), MS, cv=2, trajectory_fit=0)
    if fitted:
        pruner.fit(X)
    before = dict(vars(pruner))
    for bad, message in [(np.full_like(X, np.nan), "NaN"), (X[:, :, :2], "does not go through")]:
        with pytest.raises(ValueError, match=message):
            pruner.fit(bad)
    assert vars(pruner) == before


# Bad input


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"ms": []}, ValueError, r"ms must be a list of at least one int or float; got \[\]"),
        ({"ms": 0.5}, TypeError, r"ms must be a list of at least one int or float; got 0\.5"),
        ({"ms": "half"}, TypeError, "ms must be a list of .*; got 'half'"),
        ({"ms": [[4]]}, TypeError, r"ms\[0\] must be an int from 1 to .*; got \[4\]"),
        ({"ms": [4, 0]}, ValueError, r"ms\[1\] must be an int from 1 to the hidden size.*; got 0"),
        ({"ms": [13]}, ValueError, r"ms\[0\] must be an int from 1 to 12, the hidden .*; got 13"),
        ({"ms": [True]}, TypeError, r"ms\[0\] must be an int from 1 to .*; got True"),
        ({"ms": np.array([0.5, 1.5])}, ValueError, r"ms\[1\] must be .*; got .*1\.5.*give an int"),
        ({"cv": 1}, ValueError, "cv must be an int of at least 2, a splitter, pairs of .*; got 1"),
        ({"cv": True}, ValueError, "cv must be an int of at least 2, a splitter, .*; got True"),
        (
            {"cv": "five"},
            ValueError,
            "cv='five' does not split X into folds: Expected .?cv.? as an",
        ),
        ({"cv": 41}, ValueError, "cv=41 does not split X into folds: .* samples: n_samples=40"),
        ({"scoring": "best"}, ValueError, "scoring must be one of accuracy, .*; got 'best'"),
        ({"scoring": ["r2"]}, TypeError, r"scoring must be the name of a score, .*; got \['r2'\]"),
        ({"scoring": lambda *_: np.nan}, ValueError, "gives NaN for m=0.125; give a score that"),
        ({"one_standard_error": 1}, TypeError, "one_standard_error must be True or False; got 1"),
        ({"solver": "gredy"}, ValueError, "solver must be one of .*; got 'gredy'"),
    ],
)
def test_bad_parameters_are_named(params, error, message):
    with pytest.raises(error, match=message):
        SpectralRNNPrunerCV(network(), **params, trajectory_fit=0).fit(X)


def test_batches_cannot_be_split():
    loader = torch.utils.data.DataLoader(torch.tensor(X), batch_size=16)
    with pytest.raises(
        TypeError, match="X is of type DataLoader, which cannot be split into folds"
    ):
        SpectralRNNPrunerCV(network(), trajectory_fit=0).fit(loader)


def test_labels_are_needed_to_train():
    with pytest.raises(ValueError, match="estimator=None trains a network and requires y"):
        SpectralRNNPrunerCV(trajectory_fit=0).fit(X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SpectralRNNPrunerCV(trajectory_fit=0).fit(X, LABELS[:-1])
