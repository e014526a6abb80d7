"""The same moments from one process or many, whatever becomes of the processes."""

import os
import signal
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
import torch.multiprocessing
from sklearn.model_selection import GridSearchCV
from torch import distributed, nn

from skspectral import HiddenStateMoments, SpectralRNNPruner, SpectralRNNPrunerCV
from skspectral.calibration.dask_pass import merge_chunks
from skspectral.calibration.witnesses import Witnesses

N_NODES = 24
RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 12, 3)).astype(np.float32)
RAGGED = [x[: 2 + i % 11] for i, x in enumerate(X)]


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.GRU(3, N_NODES, batch_first=True)


def small_batches(**params):
    return SpectralRNNPruner(network(), m=8, batch_size=32, **params, trajectory_fit=0)


def assert_same(pruner, serial):
    for name in ("products_", "sum_"):
        found, expected = (getattr(each.moments_, name) for each in (pruner, serial))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max())
    assert pruner.moments_.n_steps == serial.moments_.n_steps
    np.testing.assert_array_equal(pruner.support_, serial.support_)


class Fatal(nn.Module):
    """Kills the process that runs it, once."""

    def __init__(self, note):
        super().__init__()
        self.net, self.head = network(), nn.Linear(N_NODES, 2)
        self.note, self.main = str(note), os.getpid()

    def forward(self, x):
        if os.getpid() != self.main:
            try:
                Path(self.note).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.net(x)[0])


# joblib


@pytest.mark.parametrize("data", [X, RAGGED], ids=["array", "ragged"])
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_jobs_of_joblib_give_the_serial_result(backend, data):
    with joblib.parallel_config(backend=backend):
        assert_same(small_batches(n_jobs=2).fit(data), small_batches().fit(data))


def test_batches_are_handed_to_jobs_as_they_come():
    batches = [torch.from_numpy(part) for part in np.array_split(X, 19)]
    found, serial = (small_batches(n_jobs=n_jobs).fit(iter(batches)) for n_jobs in (2, 1))
    assert_same(found, serial)


def test_parallel_config_sets_the_jobs_where_none_are_asked_for():
    batches = iter([torch.from_numpy(part) for part in np.array_split(X, 19)])
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert_same(small_batches().fit(batches), small_batches().fit(X))


def test_cross_validation_has_its_folds_in_parallel_and_nothing_inside():
    pruner = SpectralRNNPrunerCV(network(), ms=[4, 8], cv=2, n_jobs=2, trajectory_fit=0).fit(X)
    assert pruner.cv_results_["mean_test_score"].shape == (2,)
    assert pruner._candidate().n_jobs is None


def test_a_killed_process_of_loky_leaves_the_pruner_as_it_was(tmp_path):
    fatal = Fatal(tmp_path / "killed")
    pruner = small_batches(n_jobs=2).set_params(estimator=fatal)
    with pytest.raises(Exception, match="terminated"):
        pruner.fit(X)
    assert not hasattr(pruner, "moments_")
    assert_same(pruner.fit(X), small_batches().set_params(estimator=fatal).fit(X))


# dask


@pytest.fixture(scope="module")
def cluster():
    dask = pytest.importorskip("distributed", reason="the extra dask is not installed")
    kinds = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with dask.LocalCluster(**kinds) as workers, dask.Client(workers):
        yield workers


def dask_array(chunks=(70, 5, 3)):
    return pytest.importorskip("dask.array").from_array(X, chunks=chunks)


def test_a_cluster_gives_the_serial_result(cluster):
    with joblib.parallel_config(backend="dask"):
        assert_same(small_batches().fit(X), small_batches().fit(X[:]))
        assert_same(small_batches().fit(X), small_batches(n_jobs=1).fit(X))


def test_a_killed_worker_changes_nothing(cluster, tmp_path):
    fatal = Fatal(tmp_path / "killed")
    with joblib.parallel_config(backend="dask"):
        pruner = small_batches().set_params(estimator=fatal).fit(X)
    assert (tmp_path / "killed").exists()
    assert_same(pruner, small_batches().set_params(estimator=fatal).fit(X))


def test_dask_arrays_are_run_on_the_cluster(cluster):
    assert_same(small_batches().fit(dask_array()), small_batches().fit(X))


def test_a_killed_worker_changes_nothing_of_a_dask_array(cluster, tmp_path):
    fatal = Fatal(tmp_path / "killed")
    pruner = small_batches().set_params(estimator=fatal).fit(dask_array())
    assert (tmp_path / "killed").exists()
    assert_same(pruner, small_batches().set_params(estimator=fatal).fit(X))


def test_a_grid_search_runs_over_the_cluster(cluster):
    search = partial(GridSearchCV, small_batches(), {"m": [4, 8, 16]}, cv=2)
    with joblib.parallel_config(backend="dask"):
        found = search().fit(X)
    scores = found.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, search().fit(X).cv_results_["mean_test_score"], rtol=1e-12)


def test_dask_arrays_need_no_cluster():
    assert_same(small_batches().fit(dask_array()), small_batches().fit(X))
    states = small_batches().fit(X).transform(dask_array())
    np.testing.assert_allclose(states, small_batches().fit(X).transform(X), rtol=1e-6)


def test_a_chunk_that_is_not_finite_is_named():
    bad = X.copy()
    bad[400, 3] = np.nan
    array = pytest.importorskip("dask.array").from_array(bad, chunks=(100, 12, 3))
    with pytest.raises(ValueError, match=r"X\[400:\] contains NaN"):
        small_batches().fit(array)


def test_adding_up_leaves_the_parts_as_they_were():
    moments = [{"l0": HiddenStateMoments(3).update(RNG.normal(size=(5, 3)))} for _ in "ab"]
    parts = [(each, None, 1, Witnesses()) for each in moments]
    before = [each["l0"].products_.copy() for each in moments]
    moments, _, n_batches, _ = merge_chunks(parts)
    np.testing.assert_array_equal(moments["l0"].products_, sum(before))
    assert n_batches == 2
    for (found, *_), expected in zip(parts, before, strict=True):
        np.testing.assert_array_equal(found["l0"].products_, expected)


# torch.distributed


def reduced(rank, folder):
    """What one process of a job does."""
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    states = np.random.default_rng(rank).normal(size=(50 + rank, 4))
    HiddenStateMoments(4).update(states).all_reduce().save(f"{folder}/{rank}")
    distributed.destroy_process_group()


def test_a_distributed_job_adds_up_its_moments(tmp_path):
    torch.multiprocessing.spawn(reduced, (str(tmp_path),), nprocs=2)
    expected = HiddenStateMoments(4)
    for rank in range(2):
        expected.update(np.random.default_rng(rank).normal(size=(50 + rank, 4)))
    for rank in range(2):
        found = HiddenStateMoments.load(tmp_path / str(rank))
        assert found.n_steps == 101
        np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)


def test_without_a_job_there_is_nothing_to_reduce():
    with pytest.raises(RuntimeError, match=r"this process is in none; call torch\.distributed"):
        HiddenStateMoments(2).all_reduce()


@pytest.mark.parametrize("settings", [{"n_jobs": 2}, {}])
@pytest.mark.parametrize("kind", [SpectralRNNPruner, SpectralRNNPrunerCV])
def test_a_backend_that_gives_results_together_alone_is_refused(kind, settings):
    pruner = kind(network(), **settings)
    rule = r"n_jobs=.* runs on MultiprocessingBackend, .* joblib.parallel_config\('loky'\)"
    with (
        joblib.parallel_config("multiprocessing", n_jobs=2),
        pytest.raises(ValueError, match=rule),
    ):
        pruner.fit(X)


def test_one_process_needs_no_backend():
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        alone = small_batches(n_jobs=1).fit(X)
    with joblib.parallel_config("threading"):
        assert_same(small_batches(n_jobs=2).fit(X), alone)
