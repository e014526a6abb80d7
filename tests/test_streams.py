"""Sequences that are not in memory: files, stores and generators."""

import os
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
import torch
from passes import passes
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, Dataset

from skspectral import RNNClassifier, SpectralRNNPruner
from skspectral.calibration import calibrator
from skspectral.data.checks import check_sequences
from skspectral.data.sampling import sample_batches
from skspectral.data.sequences import READ, LazySequences

X = np.random.default_rng(0).normal(size=(300, 6, 3)).astype(np.float32)
PLAIN = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
LABELS = np.arange(300) % 2


def memmap(array, folder):
    np.save(folder / "X.npy", array)
    return np.load(folder / "X.npy", mmap_mode="r")


def hdf5(array, folder):
    h5py = pytest.importorskip("h5py", reason="not among the oldest dependencies")
    return h5py.File(folder / "X.h5", "w").create_dataset("X", data=array, chunks=True)


def zarr(array, folder):
    store = pytest.importorskip("zarr", reason="not among the oldest dependencies")
    found = store.create_array(folder / "X.zarr", shape=array.shape, dtype=array.dtype)
    found[:] = array
    return found


class Slices:
    """Has a shape and a dtype, and gives slices alone."""

    def __init__(self, array, folder=None):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.read.append(rows)
        return self.array[rows]


class Items(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.from_numpy(X[i])


STORES = {"memmap": memmap, "HDF5": hdf5, "zarr": zarr, "slices": Slices}
STREAMS = {
    "generator": lambda: (torch.from_numpy(part) for part in np.array_split(X, 5)),
    "Dataset": Items,
    "DataLoader": lambda: DataLoader(Items(), batch_size=50),
}


def network(n_features=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.GRU(n_features, 12, batch_first=True)


def pruner_of(net=None, **params):
    return SpectralRNNPruner(net or network(), 5, batch_size=64, **params, trajectory_fit=0)


def assert_same(pruner, other):
    np.testing.assert_allclose(pruner.covariance_, other.covariance_, rtol=1e-12)
    np.testing.assert_array_equal(pruner.support_, other.support_)


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("array", [X, PLAIN], ids=["three axes", "two axes"])
def test_a_store_gives_what_its_array_gives(name, array, tmp_path):
    net = network(array.shape[2] if array.ndim == 3 else 1)
    store = STORES[name](array, tmp_path)
    pruner, expected = (pruner_of(net).fit(data) for data in (store, array))
    assert_same(pruner, expected)
    assert pruner.n_features_in_ == expected.n_features_in_
    np.testing.assert_array_equal(pruner.transform(store), expected.transform(array))
    assert pruner.score(store) == pytest.approx(expected.score(array), rel=1e-12)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_gives_what_its_array_gives(name):
    streamed, expected = pruner_of(objective="one-step"), pruner_of(objective="one-step")
    assert_same(streamed.fit(STREAMS[name]()), expected.fit(X))


def test_a_store_is_read_in_slices_of_a_batch(monkeypatch):
    monkeypatch.setattr(calibrator, "N_COMPARED", 0)
    store = Slices(X)
    pruner_of(objective="one-step", n_refit=0).fit(store)
    assert max(rows.stop - rows.start for rows in store.read) == 64


@pytest.mark.parametrize("seed", range(3))
def test_some_sequences_are_taken_in_their_order(seed):
    array = np.arange(3 * READ + 7, dtype=float).reshape(-1, 1)
    index = np.random.default_rng(seed).permutation(len(array))[:500]
    store = Slices(array)
    np.testing.assert_array_equal(LazySequences(store, 1).take(index).arrays, array[index])
    assert len(store.read) <= 4


def test_a_billion_sequences_are_not_numbered_before_some_are_read():
    class Endless:
        shape, dtype = (10**9, 6, 3), X.dtype

        def __getitem__(self, rows):
            return np.full((rows.stop - rows.start, 6, 3), rows.start, dtype=self.dtype)

    sequences = check_sequences(Endless())
    tracemalloc.start()
    index, batch = next(sequences.batches(64, start=10**4))
    drawn = sample_batches(sequences, 20, 16, np.random.RandomState(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index[0] == batch[0, 0, 0] == 64 * 10**4
    assert len(np.unique(np.concatenate(drawn)[:, 0, 0])) > 15
    assert peak < 2**24


def test_a_network_is_trained_on_a_store():
    pruner = SpectralRNNPruner(RNNClassifier(12, max_epochs=1, random_state=0), 5, trajectory_fit=0)
    assert_same(pruner.fit(Slices(X), LABELS), pruner.fit(X, LABELS))


def test_moments_of_a_store_are_recalled(tmp_path):
    pruner_of(memory=tmp_path).fit(Slices(X))
    with passes(12) as count:
        pruner_of(memory=tmp_path).fit(Slices(X.copy()))
    assert count["evaluation"] == 0
    assert_same(pruner_of(memory=tmp_path).fit(Slices(-X)), pruner_of().fit(-X))


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (X[0, 0], r"X has 1 axes; X must be an array of shape"),
        (X[None], r"X has 4 axes; X must be an array of shape"),
        (X[:, :0], r"X is of shape \(300, 0, 3\); give sequences whose number, steps and features"),
        (X.astype("U3"), "X is of dtype <U3; give sequences of numbers"),
    ],
)
def test_stores_of_another_kind_are_refused(array, match):
    with pytest.raises(ValueError, match=match):
        check_sequences(Slices(array))


def test_a_slice_that_is_not_finite_is_named():
    bad = X.copy()
    bad[200] = np.nan
    pruner = pruner_of()
    with pytest.raises(ValueError, match=r"X\[192:256\] contains NaN"):
        pruner.fit(Slices(bad))
    with pytest.raises(NotFittedError):
        pruner.transform(X)


def test_other_numbers_of_features_are_refused():
    with pytest.raises(ValueError, match="X has 2 features, but SpectralRNNPruner is expecting 3"):
        pruner_of().fit(X).transform(Slices(X[..., :2]))


PEAK = """
    import sys, threading, torch
    from pathlib import Path
    from skspectral import SpectralRNNPruner

    def held():
        return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])

    def watch():
        while not done.wait(0.001):
            peak.append(held())

    n_batches = int(sys.argv[1])
    torch.manual_seed(0)
    net = torch.nn.GRU(8, 128, batch_first=True)
    batches = (torch.randn(250, 10, 8) for _ in range(n_batches))
    before, peak, done = held(), [], threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    SpectralRNNPruner(net, 32, objective="one-step", n_refit=500, trajectory_fit=0).fit(batches)
    done.set()
    watcher.join()
    print(max(peak) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux has it")
def test_memory_does_not_grow_with_the_sequences():
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(PEAK), str(n_batches)],
                # Else the allocator of the C library keeps what was freed, in pieces.
                env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for n_batches in (4, 100)
    )
    assert many < 1.1 * few
