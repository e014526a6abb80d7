"""Calibration pass over all sequences, in one or more processes, resumable after a stop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

from ..rnn.states.collector import StateCollector
from .checkpoint import PassCheckpoint
from .hidden_states import BatchFactory, Found, collect
from .moments import HiddenStateMoments
from .witnesses import Glimpse

BATCHES_PER_TASK = 4  # batches sent to another process together
CHECKPOINT_INTERVAL_S = 30.0  # between two checkpoints
MAX_MOMENT_BYTES = 2**28  # limit on the moments of all threads together


def run_through(
    collector: StateCollector,
    batches: BatchFactory,
    n_jobs: int | None,
    path: Path | None,
    verbose: int,
) -> tuple[dict[str, HiddenStateMoments], str | None, list[tuple[Glimpse, Any]]]:
    """Return the moments on all batches, their layout, and the witnesses.

    With each witness comes its batch if it cannot be read again, and None otherwise.

    Parameters
    ----------
    collector : StateCollector
        Collector of the module and its layers.
    batches : BatchFactory
        The batches.
    n_jobs : int or None
        Number of processes that run batches in parallel.
    path : Path or None
        File of the checkpoint to resume from, and to save at intervals and if the pass is stopped.
    verbose : int
        Whether to show progress.

    Raises
    ------
    ValueError
        If a state is not finite.
    """
    done = PassCheckpoint.resume(path) if path else PassCheckpoint()
    start, due = done.n_batches, time.monotonic() + CHECKPOINT_INTERVAL_S
    bar = batches.bar("hidden states", verbose, start)
    held: dict[int, Any] = {}  # batches until it is known whether they are witnesses
    numbered = remembered(zip(count(start), bar, strict=False), held)
    try:
        with closing(iter_results(collector, numbered, n_jobs)) as parts:
            for found in parts:
                done = done.merged_with(*found)
                wanted = {each.number for each in done.witnesses}
                for number in [each for each in held if each < done.n_batches]:
                    if number not in wanted:
                        del held[number]
                if path and time.monotonic() > due:
                    done.try_save(path)
                    due = time.monotonic() + CHECKPOINT_INTERVAL_S
    except BaseException:
        if path and done.n_batches > start:
            done.try_save(path)
        raise
    if path:
        path.unlink(missing_ok=True)
    return done.moments, done.layout, [(each, held.get(each.number)) for each in done.witnesses]


def remembered(
    batches: Iterable[tuple[int, tuple[Any, Any]]], held: dict[int, Any]
) -> Iterator[tuple[int, Any, Any]]:
    """Yield numbered batches, and store in ``held`` those that cannot be read again."""
    for number, (index, batch) in batches:
        if index is None:
            held[number] = batch
        yield number, index, batch


def iter_results(
    collector: StateCollector, batches: Iterator[tuple[int, Any, Any]], n_jobs: int | None
) -> Generator[Found, None, None]:
    """Return a generator of the results of consecutive batches, in their order."""
    if effective_n_jobs(n_jobs) == 1:
        return run_local(collector, batches)
    parts = iter(lambda: list(islice(batches, BATCHES_PER_TASK)), [])
    return Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(run_in_worker)(collector, part) for part in parts
    )


def run_local(
    collector: StateCollector, batches: Iterator[tuple[int, Any, Any]]
) -> Generator[Found, None, None]:
    """Yield the results of batches run in this process, several at once on torch's threads.

    A step of a small layer is too little work to share among threads, so batches run in parallel.
    For large layers fewer do, since each thread needs moments of its own.
    """
    total = torch.get_num_threads() if collector.device.type == "cpu" else 1
    of_moments = sum(8 * size**2 for size in collector.sizes.values())
    n_batches = max(1, min(total, MAX_MOMENT_BYTES // of_moments))
    # More OpenBLAS threads would spend most of their time waiting for those of torch.
    with ThreadpoolController().select(internal_api="openblas").limit(limits=total // n_batches):
        if n_batches == 1:
            own = collector.copy()
            yield from (collect(own, [batch]) for batch in batches)
        else:
            yield from run_in_threads(collector, batches, n_batches)


def run_in_threads(
    collector: StateCollector, batches: Iterator[tuple[int, Any, Any]], n_batches: int
) -> Generator[Found, None, None]:
    """Yield the results of ``n_batches`` batches at a time, each with an equal part of threads."""
    total = torch.get_num_threads()
    idle = deque(collector.copy() for _ in range(n_batches))
    pool = ThreadPoolExecutor(
        n_batches, initializer=torch.set_num_threads, initargs=(total // n_batches,)
    )

    def run(batch: tuple[int, Any, Any]) -> Found:
        own = idle.popleft()
        try:
            return collect(own, [batch])
        finally:
            idle.append(own)

    try:
        begun = deque(pool.submit(run, batch) for batch in islice(batches, n_batches + 1))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(run, batch) for batch in islice(batches, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        # Threads started later inherit the number that the workers set.
        torch.set_num_threads(total)


def run_in_worker(collector: StateCollector, batches: list[tuple[int, Any, Any]]) -> Found:
    """Return the result of batches run in another process or thread."""
    return collect(collector.copy(), batches)
