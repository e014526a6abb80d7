"""Mistakes that are easily made, each told in one sentence that says what to give instead."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from skspectral import (
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
    load_pruned,
    prune,
    save_pruned,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6, 3)).astype(np.float32)
Y, NUMBERS = np.arange(24) % 2, X.sum(axis=(1, 2))
TOKENS = RNG.integers(20, size=(24, 6))
QUICK = {"m": 4, "objective": "input", "trajectory_fit": 0, "n_refit": 0}


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(20, 4), nn.GRU(4, 8, batch_first=True)
        self.head = nn.Linear(8, 20)

    def forward(self, tokens):
        return self.head(self.rnn(self.embedding(tokens))[0])


class Locked(Tagger):
    def __init__(self):
        super().__init__()
        self.head.lock = threading.Lock()


def pruner(estimator, **params):
    return SpectralRNNPruner(estimator, **(QUICK | params))


def told(fail, error, message):
    """The message of an error is one sentence, and matches."""
    with pytest.raises(error) as caught:
        fail()
    text = str(caught.value)  # without the note that names a page
    assert re.search(message, text)
    assert text.endswith(".")
    assert not re.search(r"\. [A-Z]", text)


# Estimators and devices


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (LogisticRegression(), "LogisticRegression"),
        (LogisticRegression().fit(X[:, :, 0], Y), "LogisticRegression"),
        (make_pipeline(RNNClassifier()), "Pipeline"),
        (RNNClassifier, "the class RNNClassifier in place of an instance"),
        (Tagger, "the class Tagger in place of an instance"),
        (3, "int"),
    ],
)
@pytest.mark.parametrize("kind", [SpectralRNNPruner, SpectralRNNPrunerCV, NeuronSelectionPruner])
def test_an_estimator_without_a_network_is_refused_before_it_is_trained(kind, given, name):
    message = rf"estimator must be a torch module, .* or None; got {name}\.$"
    told(lambda: kind(given).fit(X, Y), TypeError, message)


DEVICES = ["gpu", torch.device("cuda:99"), 1.5]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "fit",
    [
        lambda device: pruner(Tagger(), device=device).fit(X),
        lambda device: SpectralRNNPrunerCV(Tagger(), ms=[2], device=device).fit(X),
        lambda device: NeuronSelectionPruner(Tagger(), device=device).fit(X, Y),
        lambda device: RNNClassifier(device=device).fit(X, Y),
    ],
)
def test_a_device_that_is_not_there_is_named(fit, device):
    message = rf"device must be .* such as 'cpu'; got {re.escape(repr(device))} \(.+\)\.$"
    told(lambda: fit(device), ValueError, message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_without_cuda_is_named():
    told(lambda: prune(Tagger(), X, m=4, device="cuda"), ValueError, "device must be .*got 'cuda'")


# Token ids


class Other(nn.Module):
    """An embedding whose weight is computed, which has no name of its own."""

    def __init__(self):
        super().__init__()
        self.rnn, self.weight = nn.GRU(4, 8, batch_first=True), nn.Parameter(torch.randn(20, 4))

    def forward(self, tokens):
        return self.rnn(nn.functional.embedding(tokens, 2.0 * self.weight))[0]


def ragged(tokens):
    return [row[: 3 + i % 3] for i, row in enumerate(tokens)]


def late(tokens):
    """Only the last of several batches has what cannot be looked up."""
    return np.concatenate([TOKENS, tokens])


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, ragged, late])
@pytest.mark.parametrize(("shift", "found"), [(3, r"\d to 2[0-2]"), (-1, "-1 to 1[78]")])
def test_token_ids_out_of_the_vocabulary_are_told_with_its_size(form, shift, found):
    message = (
        "X must hold token ids from 0 to 19, since the embedding 'embedding' has 20 rows; "
        rf"got ids from {found}, so encode X"
    )
    told(lambda: pruner(Words(), batch_size=8).fit(form(TOKENS + shift)), ValueError, message)


def test_token_ids_of_batches_and_of_transform_are_checked_too():
    fit, ids = pruner(Words()).fit(TOKENS), torch.as_tensor(TOKENS + 5)
    told(lambda: fit.transform(TOKENS + 5), ValueError, "token ids from 0 to 19.*got ids from")
    told(lambda: fit.partial_fit([(ids,)]), ValueError, "token ids from 0 to 19.*got ids from")


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, ragged, iter])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_token_ids_as_floats_are_told_to_be_integers(form, dtype):
    X = TOKENS.astype(dtype)
    X = iter([(torch.as_tensor(X),)]) if form is iter else form(X)
    message = (
        r"X must hold token ids as integers .*, since the embedding 'embedding' .*got float.*\)"
    )
    told(lambda: pruner(Words()).fit(X), ValueError, message)


def test_a_list_of_batches_of_token_ids_is_told_to_be_an_iterator():
    batches = list(torch.as_tensor(TOKENS).split(4))
    told(lambda: pruner(Words()).fit(batches), ValueError, r"give iter\(X\) if X is a list of")
    assert pruner(Words()).fit(iter(batches)).n_parameters_ > 0


def test_an_embedding_without_a_name_is_told_without_one():
    told(
        lambda: pruner(Other()).fit(iter([(torch.as_tensor(TOKENS + 1),)])),
        ValueError,
        "since the embedding has 20 rows; got ids from 1 to 20",
    )


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.int64])
def test_token_ids_of_any_integer_type_are_read(dtype):
    torch.manual_seed(0)
    net = Words()
    found, expected = (pruner(net).fit(ids) for ids in (TOKENS.astype(dtype), TOKENS))
    np.testing.assert_array_equal(found.covariance_, expected.covariance_)


# Targets


@pytest.mark.parametrize("kind", [RNNRegressor, RNNClassifier])
@pytest.mark.parametrize("is_fitted", [True, False])
@pytest.mark.parametrize("scoring", [None, "r2"])
def test_a_search_that_scores_on_targets_asks_for_them(kind, is_fitted, scoring):
    dense = kind(8, max_epochs=1)
    dense = dense.fit(X, Y) if is_fitted else dense
    message = rf"The score of {kind.__name__} requires y to be passed.*give y, or"
    search = SpectralRNNPrunerCV(dense, ms=[2, 4], scoring=scoring)
    told(lambda: search.fit(X), ValueError, message)


def test_a_score_on_targets_asks_for_them():
    fit = pruner(RNNRegressor(8, max_epochs=1).fit(X, NUMBERS)).fit(X)
    told(lambda: fit.score(X), ValueError, "The score of RNNRegressor requires y to be passed")


def test_a_search_with_a_score_of_its_own_needs_no_targets():
    dense = RNNRegressor(8, max_epochs=1, random_state=0).fit(X, NUMBERS)
    search = SpectralRNNPrunerCV(
        dense, ms=[2, 4], cv=2, scoring=lambda pruner, X: -pruner.m_, trajectory_fit=0
    )
    assert search.fit(X).m_ == 2


# Steps and features


@pytest.mark.parametrize("given", [X.transpose(0, 2, 1), list(X.transpose(0, 2, 1))])
@pytest.mark.parametrize(
    "module", [Tagger(), nn.LSTM(3, 8, batch_first=True), nn.GRU(3, 8), RNNClassifier(8)]
)
def test_features_before_steps_are_told_to_be_exchanged(module, given):
    module = module.fit(X, Y) if isinstance(module, RNNClassifier) else module
    message = (
        r"X with sequences of shape \(3, 6\) does not go through \w+, which takes 3 features .* as "
        r"X\.transpose\(0, 2, 1\)"
    )
    told(lambda: pruner(module).fit(given), ValueError, message)


def test_two_steps_are_told_apart_from_two_features():
    short = X[:, :2].transpose(0, 2, 1)
    told(lambda: pruner(Tagger()).fit(short), ValueError, r"shape \(3, 2\).*X\.transpose")


@pytest.mark.parametrize("wrap", [iter, list])
def test_batches_that_do_not_fit_are_named(wrap):
    x, start = torch.as_tensor(X), "batch 1 of X does not go through Tagger"
    with pytest.raises(ValueError, match=f"{start}: .*Expected 3, got 2; give batches like those"):
        pruner(Tagger()).fit(wrap([(x,), (x[:, :, :2],)]))
    lists = [(x,), ([x, x],)]
    told(lambda: pruner(Tagger()).fit(wrap(lists)), ValueError, f"{start}: 'list' object has no")


@pytest.mark.parametrize("form", [lambda x: (x,), lambda x: {"x": x}, lambda x: x])
def test_batches_with_features_before_steps_are_told_to_be_exchanged(form):
    x = torch.as_tensor(X)
    message = "batch 1 of X goes through Tagger only with its last two axes exchanged"
    told(lambda: pruner(Tagger()).fit([form(x), form(x.mT)]), ValueError, message)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyError])
def test_errors_that_are_not_about_the_batch_are_raised_as_they_are(error):
    class Failing(Tagger):
        def forward(self, x):
            raise error("at all")

    with pytest.raises(error, match="at all"):
        pruner(Failing()).fit(iter([(torch.as_tensor(X),)]))


def test_where_an_exchange_does_not_help_it_is_not_told():
    with pytest.raises(ValueError, match="does not go through") as caught:
        pruner(Tagger()).fit(X[:, :, :2])
    assert "transpose" not in str(caught.value)


@pytest.mark.parametrize("fit", [pruner(Tagger()), RNNClassifier(8, max_epochs=1)])
def test_after_fit_an_exchange_is_told_by_the_number_of_features(fit):
    fit.fit(X, Y)
    read = fit.transform if isinstance(fit, SpectralRNNPruner) else fit.predict
    message = r"X has 6 features, but \w+ is expecting 3 features .*; give X\.transpose\(0, 2, 1\)"
    told(lambda: read(X.transpose(0, 2, 1)), ValueError, message)
    told(
        lambda: read(X[:, :, :2]), ValueError, r"is expecting 3 features as input at every step\.$"
    )


def test_in_a_list_an_exchange_is_told_by_the_equal_number_of_features():
    pieces = [x[: 2 + i % 3].T for i, x in enumerate(X)]
    told(lambda: pruner(Tagger()).fit(pieces), ValueError, r"X\[1\] has 3 features.*\[x\.T for x")


# Methods that there are not


@pytest.mark.parametrize("name", ["predict", "predict_proba", "classes_"])
def test_around_a_module_the_pruned_module_is_pointed_to(name):
    fit = pruner(Tagger())
    message = rf"SpectralRNNPruner has no {name} around a torch module; call pruned_module_"
    if name != "classes_":
        told(lambda: getattr(fit, name), AttributeError, message)
    fit.fit(X)
    told(lambda: getattr(fit, name), AttributeError, message)
    assert not hasattr(fit, name)


def test_what_the_estimator_does_not_have_is_told_of_it():
    fit = pruner(RNNRegressor(8, max_epochs=1).fit(X, NUMBERS)).fit(X)
    assert fit.predict(X).shape == (24,)
    message = r"SpectralRNNPruner has no predict_proba, since its RNNRegressor has none\."
    told(lambda: fit.predict_proba(X), AttributeError, message)
    assert not hasattr(fit, "classes_")


def test_methods_are_documented_and_pickled_as_others_are():
    fit = pruner(RNNClassifier(8, max_epochs=1, random_state=0)).fit(X, Y)
    assert SpectralRNNPruner.predict.__doc__.startswith("Predict with the smaller network.")
    assert fit.predict.__doc__ == SpectralRNNPruner.predict.__doc__
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.predict(X), SpectralRNNPruner.predict(fit, X))


# What cannot be copied


@pytest.mark.parametrize(
    "use",
    [
        lambda net, path: pruner(net).fit(X),
        lambda net, path: prune(net, X, **QUICK),
        lambda net, path: SpectralRNNPrunerCV(net, ms=[2, 4]).fit(X),
        lambda net, path: NeuronSelectionPruner(net).fit(X, Y),
        lambda net, path: load_pruned(path, into=net),
    ],
)
def test_a_lock_in_a_module_is_named(use, tmp_path):
    path = tmp_path / "small.safetensors"
    save_pruned(prune(Tagger(), X, **QUICK), path)
    message = r"Locked cannot be copied because of its attribute 'head\.lock' \(.*lock.*\); keep"
    told(lambda: use(Locked(), path), TypeError, message)


def test_a_lock_in_an_estimator_is_named():
    dense = RNNClassifier(8, max_epochs=1).fit(X, Y)
    dense.lock_ = threading.Lock()
    message = "RNNClassifier cannot be copied because of its attribute 'lock_'"
    told(lambda: pruner(dense).fit(X), TypeError, message)


class Shared:
    """Object that copies share, as the error message advises."""

    def __init__(self):
        self.lock = threading.Lock()

    def __deepcopy__(self, memo):
        return self


def test_a_lock_that_copies_share_is_no_hindrance():
    net = Tagger()
    net.lock = Shared()
    assert prune(net, X, **QUICK).lock is net.lock


def test_what_is_not_found_among_attributes_is_told_by_its_error():
    class Own(Tagger):
        def __deepcopy__(self, memo):
            raise TypeError("of my own")

    told(
        lambda: prune(Own(), X, **QUICK),
        TypeError,
        r"Own cannot be copied \(of my own\); keep",
    )


# Files


@pytest.mark.parametrize(
    ("into", "kind"),
    [
        (Tagger, "the class Tagger in place of an instance"),
        (Tagger().state_dict(), "OrderedDict"),
        ("Tagger", "str"),
    ],
)
def test_only_an_instance_can_be_loaded_into(into, kind, tmp_path):
    path = tmp_path / "small.safetensors"
    save_pruned(prune(Tagger(), X, **QUICK), path)
    message = rf"into must be a torch module, an instance .*; got {kind}\.$"
    told(lambda: load_pruned(path, into=into), TypeError, message)


# Warnings


def test_a_warning_points_at_the_line_that_called_the_package():
    class Rectified(Tagger):
        def forward(self, x):
            return self.head(self.rnn(x)[0].relu())

    for call in (lambda: pruner(Rectified()).fit(X), lambda: prune(Rectified(), X, **QUICK)):
        with pytest.warns(UserWarning, match="remains a separate linear layer") as found:
            call()
        assert {each.filename for each in found} == {__file__}


# Nothing has changed


@pytest.mark.parametrize(
    ("change", "X"),
    [
        ({"estimator": LogisticRegression()}, TOKENS),
        ({"device": "gpu"}, TOKENS),
        ({}, TOKENS + 9),
        ({}, TOKENS.astype(float)),
    ],
)
def test_the_pruner_and_the_module_are_as_before(change, X):
    net = Words()
    fit = pruner(net).fit(TOKENS)
    weights = copy.deepcopy(net.state_dict())
    fit.set_params(**change)
    before = dict(vars(fit))
    with pytest.raises((TypeError, ValueError), match="must"):
        fit.fit(X)
    assert vars(fit) == before
    assert all(map(torch.equal, net.state_dict().values(), weights.values()))
