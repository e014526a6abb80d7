"""The displays show what the fitted pruner knows."""

import importlib
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from networks import N_FEATURES, N_NODES, make_rnn
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skspectral import SpectralRNNPruner, SpectralRNNPrunerCV, inspection
from skspectral.inspection import (
    LayersDisplay,
    LossPathDisplay,
    ScoreCurveDisplay,
    SpectrumDisplay,
    SupportDisplay,
    TrajectoryDisplay,
)
from skspectral.inspection.display import COLORS

OF_A_PRUNER = [LossPathDisplay, SpectrumDisplay, SupportDisplay]


@pytest.fixture(autouse=True)
def drawing():
    """Draws on no screen, and leaves nothing open."""
    with mpl.rc_context({"backend": "agg"}):
        from matplotlib import pyplot as plt

        yield plt
        plt.close("all")


def sequences(n=20, n_steps=6):
    return np.random.default_rng(0).normal(size=(n, n_steps, N_FEATURES))


def fitted(cell="gru", m=3, **options):
    return SpectralRNNPruner(make_rnn(cell, **options), m=m, trajectory_fit=0).fit(sequences())


def shown(display, pruner, **params):
    given = (sequences(),) if display is TrajectoryDisplay else ()
    return display.from_estimator(pruner, *given, **params)


def words(display):
    """All that is written on a figure."""
    ax = display.ax_
    legend = ax.get_legend().get_texts() if ax.get_legend() else []
    return [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(t.get_text() for t in legend)]


@pytest.mark.parametrize("display", [*OF_A_PRUNER, TrajectoryDisplay])
def test_a_display_draws_where_it_is_told_and_names_all_it_draws(display, drawing):
    _, ax = drawing.subplots()
    found = shown(display, fitted(), ax=ax)
    assert found.ax_ is ax
    assert found.figure_ is ax.figure
    assert all(words(found))
    assert found.plot() is found
    assert found.ax_ is not ax


def test_the_spectrum_is_that_of_the_covariance():
    pruner = fitted()
    found = SpectrumDisplay.from_estimator(pruner)
    expected = np.sort(np.linalg.eigvalsh(pruner.covariance_))[::-1] / np.trace(pruner.covariance_)
    np.testing.assert_allclose(found.spectrum_.get_ydata(), expected, rtol=1e-9)
    freedom, lams = found.freedom_.get_data()
    by_hand = (expected[:, None] / (expected[:, None] + lams)).sum(0)
    np.testing.assert_allclose(freedom, by_hand, rtol=1e-9)
    assert found.kept_.get_xdata() == [3, 3]


def test_the_losses_end_at_the_chosen_number_above_the_bound():
    pruner = fitted()
    found = LossPathDisplay.from_estimator(pruner)
    np.testing.assert_array_equal(found.loss_.get_ydata(), pruner.loss_path_)
    bound = found.bound_.get_ydata()
    assert bound[3] == pytest.approx(pruner.loss_lower_bound_)
    assert (bound[:4] <= pruner.loss_path_ * (1.0 + 1e-9)).all()
    assert len(bound) == N_NODES + 1
    np.testing.assert_allclose(found.chosen_.get_xydata()[0], [3, pruner.loss_path_[3]])


def test_a_loss_of_zero_leaves_a_gap_on_the_axis():
    found = LossPathDisplay.from_estimator(fitted(m=N_NODES))
    assert np.isnan(found.bound_.get_ydata()[-1])


def test_the_heat_map_begins_with_the_kept_nodes():
    pruner = fitted()
    found = SupportDisplay.from_estimator(pruner)
    order = found.nodes_
    assert sorted(order) == list(range(N_NODES))
    np.testing.assert_array_equal(pruner.ranking_[order[:3]], [1, 2, 3])
    size = np.sqrt(pruner.covariance_.diagonal())
    alike = (pruner.covariance_ / size / size[:, None])[np.ix_(order, order)]
    np.testing.assert_allclose(found.image_.get_array(), alike, rtol=1e-9)
    nearest = np.abs(alike[3:, :3]).argmax(1)
    assert (np.diff(nearest) >= 0).all()


def test_a_heat_map_of_all_nodes_has_none_lost():
    found = SupportDisplay.from_estimator(fitted(m=N_NODES))
    assert [tick.get_text() for tick in found.ax_.get_xticklabels()] == [f"{N_NODES} kept"]


@pytest.mark.parametrize("cell", ["gru", "tanh"])
def test_trajectories_are_those_of_both_networks(cell):
    pruner, X = fitted(cell), sequences()
    found = TrajectoryDisplay.from_estimator(pruner, X[4:], nodes=[0, 5])
    dense = pruner.estimator_(*map(to_torch, [X[4:5]]))[0][0].detach().numpy()
    small = pruner.pruned_module_(*map(to_torch, [X[4:5]]))[0][0].detach().numpy()
    np.testing.assert_allclose([line.get_ydata() for line in found.dense_], dense.T[[0, 5]])
    rebuilt = small @ pruner.reconstruction_.T + pruner.intercept_
    np.testing.assert_allclose([line.get_ydata() for line in found.rebuilt_], rebuilt.T[[0, 5]])


def to_torch(array):
    import torch

    return torch.as_tensor(array)


def test_the_lost_nodes_that_move_most_are_shown():
    pruner = fitted()
    found = TrajectoryDisplay.from_estimator(pruner, sequences())
    variance = pruner.covariance_.diagonal() - pruner.mean_**2
    lost = np.setdiff1d(np.arange(N_NODES), pruner.support_)
    assert found.nodes == lost[np.argsort(-variance[lost])][:3].tolist()


def test_a_layer_that_runs_backward_is_shown_forward():
    pruner = fitted(bidirectional=True)
    X = sequences()
    found = TrajectoryDisplay.from_estimator(pruner, X, layer="l0_reverse", nodes=[2])
    dense = pruner.estimator_(to_torch(X[:1]))[0][0, :, N_NODES + 2].detach().numpy()
    np.testing.assert_allclose(found.dense[:, 0], dense)


@pytest.mark.parametrize("nodes", [[0, 7], [-1]])
def test_nodes_that_are_not_there_are_refused(nodes):
    with pytest.raises(ValueError, match=r"nodes must be from 0 to 6, those of 'l0'; got"):
        TrajectoryDisplay.from_estimator(fitted(), sequences(), nodes=nodes)


@pytest.mark.parametrize("display", [*OF_A_PRUNER, TrajectoryDisplay])
@pytest.mark.parametrize("options", [{"num_layers": 2}, {"num_layers": 2, "bidirectional": True}])
def test_all_of_several_layers_are_drawn(display, options, drawing):
    pruner = fitted(**options)
    found = shown(display, pruner)
    assert isinstance(found, LayersDisplay)
    assert list(found.displays) == list(pruner.layers_)
    assert drawing.get_fignums() == [found.figure_.number]
    for ax, (name, each) in zip(found.axes_, found.displays.items(), strict=True):
        assert each.ax_ is ax
        assert ax.figure is each.figure_ is found.figure_
        assert ax.get_title().endswith(f", {name}")
        alone = shown(display, pruner, layer=name)
        assert type(alone) is type(each) is display
        assert words(alone) == words(each)


@pytest.mark.parametrize("display", [*OF_A_PRUNER, TrajectoryDisplay])
def test_layers_are_drawn_where_it_is_told(display, drawing):
    pruner = fitted(num_layers=2)
    _, axes = drawing.subplots(1, 2)
    for ax in (axes, list(axes), axes[:, None]):
        found = shown(display, pruner, ax=ax)
        assert list(found.axes_) == list(axes)
    assert found.plot() is found
    assert found.figure_ is not axes[0].figure
    for ax in (axes[0], axes[:1]):
        with pytest.raises(ValueError, match=r"ax must be 2 .*\['l0', 'l1'\]; got 1, .*layer="):
            shown(display, pruner, ax=ax)


@pytest.mark.parametrize("display", [*OF_A_PRUNER, TrajectoryDisplay])
def test_one_of_several_layers_can_be_named(display):
    pruner = fitted(num_layers=2)
    assert shown(display, pruner, layer="l1").ax_.get_title().endswith(", l1")
    with pytest.raises(ValueError, match=r"layer must be one of \['l0', 'l1'\].*; got 'l2'"):
        shown(display, pruner, layer="l2")


@pytest.mark.parametrize("display", OF_A_PRUNER)
def test_what_is_not_a_fitted_pruner_is_refused(display):
    with pytest.raises(NotFittedError):
        display.from_estimator(SpectralRNNPruner(make_rnn(), trajectory_fit=0))
    other = DummyRegressor().fit([[0.0]], [0.0])
    with pytest.raises(TypeError, match=r"a fitted SpectralRNNPruner .*; got DummyRegressor"):
        display.from_estimator(other)


# Scores


def test_scores_of_a_pruner_that_searches_are_its_own():
    pruner = SpectralRNNPrunerCV(make_rnn(), ms=[5, 1, 3], trajectory_fit=0).fit(sequences())
    found = ScoreCurveDisplay.from_estimator(pruner, score_name="kept")
    (line,) = found.lines_
    means = pruner.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(line.get_xdata(), [1, 3, 5])
    np.testing.assert_array_equal(line.get_ydata(), means[[1, 2, 0]])
    np.testing.assert_array_equal(found.chosen_.get_xydata(), [[pruner.m_, means.max()]])
    assert found.ax_.get_xlabel() == "nodes kept"
    assert found.ax_.get_ylabel().startswith("kept")


def test_every_other_parameter_has_a_line_of_its_own():
    pipe = Pipeline(
        [
            ("same", FunctionTransformer()),
            ("prune", SpectralRNNPruner(make_rnn(), trajectory_fit=0)),
        ]
    )
    grid = {"prune__m": [0.3, 0.6], "prune__solver": ["greedy", "variance", "backward"]}
    search = GridSearchCV(pipe, grid, cv=2).fit(sequences())
    found = ScoreCurveDisplay.from_estimator(search)
    assert list(found.curves) == ["solver=greedy", "solver=variance", "solver=backward"]
    for solver, line in zip(grid["prune__solver"], found.lines_, strict=True):
        rows = search.cv_results_["param_prune__solver"] == solver
        np.testing.assert_array_equal(line.get_ydata(), search.cv_results_["mean_test_score"][rows])
    assert found.ax_.get_xlabel() == "part of the nodes kept"
    assert all(words(found))
    best = found.chosen_.get_xydata()[0]
    np.testing.assert_allclose(best, [search.best_params_["prune__m"], search.best_score_])


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"solver": ["greedy", "random"]}, r"over m, .*; it was over \['solver'\]"),
        ({"m": [0.5, 3]}, r"numbers of nodes, or over parts .*; got m of \[0\.5, 3"),
        ({"m": [{"l0": 2}, {"l0": 3}]}, r"numbers of nodes, or over parts .*; got m of"),
    ],
    ids=["no m", "both kinds", "by layer"],
)
def test_a_search_over_something_else_is_refused(grid, message):
    search = GridSearchCV(SpectralRNNPruner(make_rnn(), trajectory_fit=0), grid, cv=2).fit(
        sequences()
    )
    with pytest.raises(ValueError, match=message):
        ScoreCurveDisplay.from_estimator(search)


def test_a_search_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        ScoreCurveDisplay.from_estimator(SpectralRNNPrunerCV(make_rnn(), trajectory_fit=0))


# Colors, and what is loaded


def test_colors_are_told_apart_in_gray():
    from matplotlib.colors import to_rgb

    luminance = sorted(float(np.dot(to_rgb(color), [0.299, 0.587, 0.114])) for color in COLORS)
    assert min(np.diff(luminance)) > 0.02


def test_matplotlib_is_loaded_when_something_is_drawn():
    code = "import sys, skspectral.inspection; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"LossPathDisplay draws with matplotlib.*\[plot\]"):
        LossPathDisplay.from_estimator(fitted())


def test_all_displays_are_named():
    displays = {name for name in dir(inspection) if name.endswith("Display")}
    assert displays == set(inspection.__all__)
    assert importlib.import_module("skspectral.inspection") is inspection
