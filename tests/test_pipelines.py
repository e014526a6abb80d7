"""Sequences in pipelines of scikit-learn, as the quick start and the recipes have them."""

import pickle
from operator import methodcaller

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler

from skspectral import RNNClassifier, SpectralRNNPruner

RNG = np.random.default_rng(0)
SCALE = np.array([1.0, 10.0, 100.0])
X = (RNG.normal(size=(40, 6, 3)) * SCALE + SCALE).astype(np.float32)
Y = np.array(["down", "up"])[np.arange(40) % 2]


def pruner():
    dense = RNNClassifier(8, max_epochs=2, random_state=0)
    return SpectralRNNPruner(dense, m=4, n_refit=0, objective="input", trajectory_fit=0)


def scaled():
    return make_pipeline(
        FunctionTransformer(methodcaller("reshape", -1, 3)),
        StandardScaler(),
        FunctionTransformer(methodcaller("reshape", -1, 6, 3)),
        pruner(),
    )


def test_every_feature_is_scaled_over_all_steps():
    pipe = scaled().fit(X, Y)
    by_hand = (X - X.mean(axis=(0, 1))) / X.std(axis=(0, 1))
    np.testing.assert_allclose(pipe[:-1].transform(X), by_hand, rtol=1e-3, atol=1e-4)
    expected = pruner().fit(pipe[:-1].transform(X), Y)
    np.testing.assert_array_equal(pipe.transform(X), expected.transform(pipe[:-1].transform(X)))


def test_a_search_scales_every_fold_by_its_own():
    search = GridSearchCV(scaled(), {"spectralrnnpruner__m": [2, 4]}, cv=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X[:5]).shape == (5,)


@pytest.mark.parametrize("through", ["pickle", "joblib"])
def test_pipelines_are_saved(through, tmp_path):
    as_rows = FunctionTransformer(methodcaller("reshape", -1, 6, 3))
    table = X.reshape(40, 18)
    for pipe, given in ((scaled(), X), (make_pipeline(MaxAbsScaler(), as_rows, pruner()), table)):
        pipe.fit(given, Y)
        if through == "pickle":
            again = pickle.loads(pickle.dumps(pipe))
        else:
            joblib.dump(pipe, tmp_path / "pipe.joblib")
            again = joblib.load(tmp_path / "pipe.joblib")
        np.testing.assert_array_equal(again.predict_proba(given), pipe.predict_proba(given))
