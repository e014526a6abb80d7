"""What is there after something went wrong."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from passes import passes
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import DataLoader, Dataset

from skspectral import (
    HiddenStateMoments,
    SpectralRNNPruner,
    load_pruned,
    prune,
    save_pruned,
)
from skspectral.calibration import checkpoint, forward_pass
from skspectral.calibration import moments as moments_module
from skspectral.calibration.checkpoint import PassCheckpoint
from skspectral.calibration.witnesses import Witnesses

N_NODES = 16
X = np.random.default_rng(0).normal(size=(320, 6, 3)).astype(np.float32)
TESTS = str(Path(__file__).parent)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.GRU(3, N_NODES, batch_first=True)


def pruner_of(net=None, **params):
    return SpectralRNNPruner(net or network(), m=6, batch_size=16, **params, trajectory_fit=0)


class Stopped(nn.Module):
    """Raises from a call of a number on, once armed."""

    calls, at, error = 0, None, KeyboardInterrupt

    def __init__(self):
        super().__init__()
        self.net = network()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.head = nn.Linear(N_NODES, 2)

    def forward(self, x):
        Stopped.calls += 1
        if Stopped.at is not None and Stopped.calls >= Stopped.at:
            raise Stopped.error
        return self.head(self.net(x)[0])


@pytest.fixture
def stop(monkeypatch):
    """Stop the passes of ``Stopped`` in a call of a number."""

    def arm(at, error=KeyboardInterrupt):
        for name, value in {"calls": 0, "at": at, "error": error}.items():
            monkeypatch.setattr(Stopped, name, value)

    arm(None)
    return arm


def same_moments(pruner, other):
    np.testing.assert_allclose(pruner.covariance_, other.covariance_, rtol=1e-12)
    np.testing.assert_array_equal(pruner.support_, other.support_)


# Interrupted


@pytest.mark.usefixtures("n_threads")
def test_ctrl_c_leaves_a_fitted_pruner_as_it_was(stop):
    pruner = pruner_of(Stopped()).fit(X[:64])
    before, states = dict(vars(pruner)), pruner.transform(X[:5])
    for step in (pruner.fit, pruner.partial_fit):
        stop(at=12)
        with pytest.raises(KeyboardInterrupt):
            step(X)
        stop(at=None)
        assert vars(pruner) == before
        np.testing.assert_array_equal(pruner.transform(X[:5]), states)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_stopped_pass_goes_on_where_it_was(stop, error, tmp_path, n_threads):
    whole = pruner_of(Stopped()).fit(X)
    pruner = pruner_of(Stopped(), memory=tmp_path)
    stop(at=15, error=error)  # after the trials of a layout, one a thread, and most batches
    with pytest.raises(error):
        pruner.fit(X)
    (saved,) = (tmp_path / "skspectral").iterdir()
    n_done = PassCheckpoint.load(saved).n_batches
    assert n_done == 13 if n_threads == 1 else 10 <= n_done <= 13
    stop(at=None)
    with passes(N_NODES) as resumed:
        pruner.fit(X)
    with passes(N_NODES) as fresh:
        pruner_of(Stopped()).fit(X)
    assert fresh["evaluation"] - resumed["evaluation"] == n_done
    same_moments(pruner, whole)
    assert not list((tmp_path / "skspectral").iterdir())


def test_a_long_pass_is_saved_again_and_again(stop, tmp_path, monkeypatch):
    monkeypatch.setattr(forward_pass, "CHECKPOINT_INTERVAL_S", 0.0)
    seen = []
    save = PassCheckpoint.save
    monkeypatch.setattr(
        PassCheckpoint, "save", lambda done, path: (seen.append(done.n_batches), save(done, path))
    )
    pruner_of(memory=tmp_path).fit(X)
    assert seen == list(range(1, 21))


@pytest.mark.parametrize("error", [OSError("no space left"), SafetensorError("no space left")])
def test_a_pass_that_cannot_be_saved_goes_on(error, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(forward_pass, "CHECKPOINT_INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "save_file", full)
    same_moments(pruner_of(memory=tmp_path).fit(X), pruner_of().fit(X))
    assert not list((tmp_path / "skspectral").iterdir())


def test_what_is_added_to_a_pass_leaves_it_as_it_was():
    first, second = (HiddenStateMoments(2).update(np.eye(2) * scale) for scale in (1.0, 2.0))
    done = PassCheckpoint(1, None, {"l0": first})
    more = done.merged_with({"l0": second}, "batch first", 3, Witnesses())
    np.testing.assert_array_equal(done.moments["l0"].products_, np.eye(2))
    np.testing.assert_array_equal(more.moments["l0"].products_, 5 * np.eye(2))
    np.testing.assert_array_equal(second.products_, 4 * np.eye(2))
    assert (done.n_batches, more.n_batches) == (1, 4)


def test_a_saved_pass_that_cannot_be_read_is_made_anew(stop, tmp_path):
    pruner = pruner_of(Stopped(), memory=tmp_path)
    stop(at=15)
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(X)
    stop(at=None)
    (saved,) = (tmp_path / "skspectral").iterdir()
    saved.write_bytes(saved.read_bytes()[:100])
    same_moments(pruner.fit(X), pruner_of(Stopped()).fit(X))


def test_other_sequences_start_from_the_first_batch(stop, tmp_path):
    stop(at=15)
    with pytest.raises(KeyboardInterrupt):
        pruner_of(Stopped(), memory=tmp_path).fit(X)
    stop(at=None)
    same_moments(pruner_of(Stopped(), memory=tmp_path).fit(-X), pruner_of(Stopped()).fit(-X))


def test_moments_of_other_sequences_are_added():
    halves = pruner_of(objective="one-step").fit(X[160:], moments=pruner_of().fit(X[:160]).moments_)
    same_moments(halves, pruner_of(objective="one-step").fit(X))


def test_moments_of_several_layers_are_added_by_name():
    net = nn.LSTM(3, N_NODES, num_layers=2, batch_first=True)
    first = pruner_of(net).fit(X[:160])
    both = pruner_of(net, objective="one-step").fit(X[160:], moments=first.moments_)
    whole = pruner_of(net, objective="one-step").fit(X)
    for name in ("l0", "l1"):
        np.testing.assert_allclose(
            both.covariance_[name], whole.covariance_[name], rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize(
    ("moments", "error", "match"),
    [
        (3, TypeError, r"moments must be a HiddenStateMoments .* names \['l0'\]; got 3"),
        ({"l0": 3}, TypeError, "moments must be a HiddenStateMoments"),
        (
            HiddenStateMoments(4),
            ValueError,
            r"nodes are {'l0': 16}; got moments of {'l0': 4}",
        ),
        ({"l9": HiddenStateMoments(16)}, ValueError, "moments must be of layers of the network"),
    ],
)
def test_moments_that_do_not_fit_are_refused(moments, error, match):
    with pytest.raises(error, match=match):
        pruner_of().fit(X, moments=moments)


def test_moments_of_some_layers_alone_are_refused():
    net = nn.LSTM(3, N_NODES, num_layers=2, batch_first=True)
    with pytest.raises(ValueError, match=r"moments lack the layers \['l1'\]; give those of all"):
        pruner_of(net).fit(X, moments={"l0": HiddenStateMoments(N_NODES)})


# Data that cannot be read


class Broken(Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, i):
        if i == 72:
            raise OSError("the disk is gone")
        return torch.from_numpy(X[i])


@pytest.mark.usefixtures("n_threads")
@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_loader_that_raises_has_its_batch_named(n_workers):
    pruner = pruner_of().fit(X)
    before = dict(vars(pruner))
    loader = DataLoader(Broken(), batch_size=10, num_workers=n_workers)
    with pytest.raises(RuntimeError, match=r"batch 7 of X could not be read.*(?s:.)*disk is gone"):
        pruner.fit(loader)
    assert vars(pruner) == before


def test_a_slice_that_cannot_be_read_is_named():
    class Store:
        shape, dtype = X.shape, X.dtype

        def __getitem__(self, rows):
            if rows.stop > 100:
                raise OSError("the disk is gone")
            return X[rows]

    with pytest.raises(RuntimeError, match=r"X\[96:112\] could not be read, .* OSError: the disk"):
        pruner_of().fit(Store())


@pytest.mark.usefixtures("n_threads")
@pytest.mark.parametrize("form", ["array", "ragged", "batches"])
@pytest.mark.parametrize("direction", ["l0", "l0_reverse"])
def test_states_that_explode_are_placed(form, direction):
    # What is read doubles at every step, until it is infinite.
    net = nn.RNN(1, 2, nonlinearity="relu", batch_first=True, bidirectional=True, bias=False)
    for name, weight in net.named_parameters():
        doubles = "weight_hh" in name and name.endswith(direction)
        weight.data = 2.0 * torch.eye(2) if doubles else torch.zeros_like(weight)
        if "weight_ih" in name and name.endswith(direction):
            weight.data.fill_(1.0)
    data = np.zeros((40, 9, 1), dtype=np.float32)
    start, bad = (3, 5) if direction == "l0" else (5, 3)
    data[21, start] = 1e38
    where = "sequence 21"
    if form == "ragged":
        data = [x[: 7 + i % 3] for i, x in enumerate(data)]
    if form == "batches":
        data, where = iter(np.array_split(data, 4)), "sequence 1 of batch 2"
    match = rf"layer '{direction}' are not finite on X, .*: first at step {bad} of {where}\."
    with pytest.raises(ValueError, match=match):
        SpectralRNNPruner(net, 1, batch_size=16, trajectory_fit=0).fit(data)


# A disk that is full


def in_a_process(text, *args):
    """Run a script with room for files of some kilobytes."""
    script = textwrap.dedent(text)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": TESTS},
    )


FULL = """
    import resource, sys, warnings
    import numpy as np
    from test_faults import X, network, pruner_of
    plain, found = pruner_of().fit(X), pruner_of(memory=sys.argv[1])
    before = dict(vars(found))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")  # joblib warns that it keeps nothing
    try:
        found.fit(X)
    except OSError:
        assert vars(found) == before
    else:
        np.testing.assert_array_equal(found.covariance_, plain.covariance_)
        np.testing.assert_array_equal(found.support_, plain.support_)
    print("done")
"""


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_under_memory_leaves_nothing_half_written(room, tmp_path):
    done = in_a_process(FULL, tmp_path, room)
    assert done.stdout == "done\n", done.stderr
    whole = pruner_of().fit(X)
    for _ in range(2):
        same_moments(pruner_of(memory=tmp_path).fit(X), whole)


@contextmanager
def full_disk():
    """No file may grow beyond a hundred bytes; not even that to which pytest writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_what_was_saved_before_stays_on_a_full_disk(tmp_path):
    moments, path = HiddenStateMoments(3).update(np.eye(3)), tmp_path / "moments"
    moments.save(path)
    saved, small = tmp_path / "module", prune(network(), X, 6, trajectory_fit=0)
    save_pruned(small, saved)
    contents = {each: each.read_bytes() for each in (path, saved)}
    with full_disk():
        with pytest.raises(Exception, match=r"(?i)too large|I/O"):
            HiddenStateMoments(3).save(path)
        with pytest.raises(Exception, match=r"(?i)too large|I/O"):
            save_pruned(prune(network(), X, 4, trajectory_fit=0), saved)
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == contents


# A process that is killed


def killed_while_saving(path, what):
    """Write a part of a file and be killed."""

    def half(_tensors, filename, **_):
        Path(filename).write_bytes(b"half of a file")
        os.kill(os.getpid(), signal.SIGKILL)

    moments_module.save_file = half
    safetensors.torch.save_file = half
    if what == "moments":
        HiddenStateMoments(3).save(path)
    else:
        save_pruned(nn.GRU(3, 4), path)


@pytest.mark.parametrize("what", ["moments", "module"])
def test_a_process_killed_while_saving_leaves_the_file(what, tmp_path):
    path = tmp_path / what
    moments, module = HiddenStateMoments(3).update(np.eye(3)), nn.GRU(3, 4)
    if what == "moments":
        moments.save(path)
    else:
        save_pruned(module, path)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=killed_while_saving, args=(path, what))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if what == "moments":
        np.testing.assert_array_equal(HiddenStateMoments.load(path).covariance, moments.covariance)
    else:
        loaded = load_pruned(path, into=nn.GRU(3, 4))
        assert torch.equal(loaded.weight_hh_l0, module.weight_hh_l0)
